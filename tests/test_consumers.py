"""Which service publishes and consumes each message of the contracts, as the services say it."""

import re
from pathlib import Path

import pytest

from chassis import discovery
from contracts import message


def test_each_message_says_whether_a_service_consumes_it() -> None:
    bindings = [binding for name in discovery.names() for binding in discovery.load(name).bindings]
    consumed = {wire_type for binding in bindings for wire_type in (*binding.events, *binding.commands)}

    assert {name for name, kind in message.REGISTRY.items() if kind.IS_CONSUMED} == consumed


@pytest.mark.parametrize("name", discovery.names())
def test_a_service_publishes_its_events_and_declares_the_commands_that_its_code_sends(name: str) -> None:
    """A command of another service that its code builds is one that it sends; those of its own it only receives."""
    commands = {kind for kind in message.REGISTRY.values() if kind.KIND == "command"}
    code = "".join(path.read_text() for path in Path(f"services/{name}/src").rglob("*.py"))
    sent = {
        kind.TYPE
        for kind in commands
        if not kind.TYPE.startswith(f"{name}.") and re.search(rf"\b{kind.__name__}\(", code)
    }

    published = {kind.TYPE for kind in discovery.load(name).publishes}

    assert published == {kind.TYPE for kind in message.events_of(name)} | sent
