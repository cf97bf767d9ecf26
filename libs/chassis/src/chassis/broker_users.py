"""The broker user of one service: what it may publish, consume and bind, and nothing else.

RabbitMQ checks the names of exchanges and queues by `permissions`, and the routing keys at topic exchanges by
`topic-permissions`; without any for an exchange every key would be permitted. A user may declare nothing.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from chassis import management_api, topology

NOTHING = "^$"
TAG = "management"  # lets it list bindings, which tells it what it lost; it gives no permission on AMQP


class Permissions(NamedTuple):
    """Regular expressions of what may be written and read."""

    write: str
    read: str


def resources(bindings: Sequence[topology.Binding]) -> Permissions:
    """Give the exchanges and queues of a service.

    To bind a queue takes writing it and reading the exchange. The exchange of the dead letters is no topic exchange,
    so that its routing keys can't be restricted and a service may not bind to it.
    """
    queues = [binding.queue for binding in bindings]
    dead = [f"{queue}.dlq" for queue in queues]
    retries = [topology.retry_exchange(step) for step, _ in topology.RETRY_DELAYS]
    published = (topology.EVENTS, topology.COMMANDS, topology.UNCONSUMED)
    return Permissions(
        write=_any_of((*published, *retries, *queues)),
        read=_any_of((topology.EVENTS, topology.COMMANDS, topology.RETURNS, *queues, *dead)),
    )


def routing_keys(bindings: Sequence[topology.Binding], published: Sequence[topology.Route]) -> dict[str, Permissions]:
    """Give the routing keys that a service may publish to and bind from each topic exchange."""
    queues = [binding.queue for binding in bindings]
    types: dict[str, list[str]] = {topology.EVENTS: [], topology.COMMANDS: [], topology.UNCONSUMED: []}
    for route in published:
        types[route.exchange].append(route.routing_key)
    types[topology.UNCONSUMED].append("")  # the probe of an idle process
    consumed = {
        topology.EVENTS: [wire_type for binding in bindings for wire_type in binding.events],
        topology.COMMANDS: [wire_type for binding in bindings for wire_type in binding.commands],
    }
    return {
        **{
            exchange: Permissions(write=_any_of(sent), read=_any_of(consumed.get(exchange, ())))
            for exchange, sent in types.items()
        },
        **{
            # The routing key of a retry is the queue to which it returns: another's would get our message.
            topology.retry_exchange(step): Permissions(write=_any_of(queues), read=NOTHING)
            for step, _ in topology.RETRY_DELAYS
        },
        topology.RETURNS: Permissions(write=NOTHING, read=_any_of(queues)),
    }


def create(
    administrator: management_api.ManagementApi,
    service_url: str,
    bindings: Sequence[topology.Binding],
    published: Sequence[topology.Route],
) -> None:
    """Create the user of a service's URL, or bring its password and permissions up to date. Raises Unusable."""
    url = urlsplit(service_url)
    user = unquote(url.username or "")
    administrator.put_user(user, unquote(url.password or ""), tags=TAG)
    for exchange, keys in routing_keys(bindings, published).items():
        administrator.put_permissions("topic-permissions", user, {"exchange": exchange, **keys._asdict()})
    # The last: until then the user may do nothing, instead of everything at some exchange.
    administrator.put_permissions("permissions", user, {"configure": NOTHING, **resources(bindings)._asdict()})


def _any_of(names: Iterable[str]) -> str:
    return f"^({'|'.join(re.escape(name) for name in names)})$"
