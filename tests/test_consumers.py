"""Which service consumes each message of the contracts, as the queues of the services say it."""

from chassis import discovery
from contracts import message


def test_each_message_says_whether_a_service_consumes_it() -> None:
    bindings = [binding for name in discovery.names() for binding in discovery.load(name).bindings]
    consumed = {wire_type for binding in bindings for wire_type in (*binding.events, *binding.commands)}

    assert {name for name, kind in message.REGISTRY.items() if kind.IS_CONSUMED} == consumed
