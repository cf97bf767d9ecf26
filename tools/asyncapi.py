"""Builds an AsyncAPI document of each service from the code and checks that it names all that the service exchanges.

The documents are for readers outside, who bind queues by them: one that lacks an event is worse than none. They are
built and not committed, because every change of a contract would rewrite thousands of lines.

Usage: asyncapi.py [folder]     writes <folder>/<service>.json, .run/asyncapi where no folder is named
"""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import tree
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.specification import AsyncAPI

from chassis import app, broker, discovery, topology
from contracts import message

Document = dict[str, Any]


def main() -> int:
    """Build the documents of all services and report every fault in them."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else tree.ROOT / ".run" / "asyncapi"
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for name in discovery.names():
        service = discovery.load(name)
        built = document(service)
        (folder / f"{name}.json").write_text(json.dumps(built, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        problems += [f"{name}.json: {fault}" for fault in faults(service, built)]
    return tree.report(problems, passed=f"asyncapi: {len(discovery.names())} documents are complete")


def document(service: app.Service) -> Document:
    """Give the AsyncAPI 3 document of one service: the queues it consumes and the events it publishes."""
    described = RabbitBroker("amqp://broker.example:5672/", logger=None)
    for queue in _queues(service):
        subscriber = described.subscriber(RabbitQueue(queue.name, declare=False), title=queue.name)
        for consumed in queue.handlers:
            subscriber(_handler_of(consumed), filter=_matching(consumed.TYPE))
    exchange = RabbitExchange(topology.EVENTS, type=ExchangeType.TOPIC)
    for event in _events(service):
        described.publisher(
            exchange=exchange,
            routing_key=event.TYPE,
            schema=event,
            title=event.TYPE,
            description=(event.__doc__ or "").strip(),
        )
    specification = AsyncAPI(described, title=f"Kopilka {service.name}", version="1.0.0").to_specification()
    built: Document = json.loads(specification.to_json())
    return built


def faults(service: app.Service, built: Document) -> Iterator[str]:
    """Give every queue, consumed message and published event that a document lacks, and every dangling reference."""
    for queue in _queues(service):
        described = _described(built, queue.name)
        for name in sorted({cls.__name__ for cls in queue.handlers} - described):
            yield f"the queue {queue.name} lacks the message {name}"
    for event in _events(service):
        if event.__name__ not in _described(built, event.TYPE):
            yield f"the event {event.TYPE} is missing"
    for reference in _references(built):
        if _at(built, reference) is None:
            yield f"{reference} refers to nothing"


def _queues(service: app.Service) -> list[broker.Queue]:
    batched = [broker.Queue(queue.name, dict.fromkeys(queue.messages, _nothing)) for queue in service.batch_queues]
    return [*service.queues, *batched]


def _events(service: app.Service) -> list[type[message.Message]]:
    registered = message.REGISTRY.values()
    return [cls for cls in registered if cls.KIND == "event" and cls.TYPE.startswith(f"{service.name}.")]


def _described(built: Document, channel: str) -> set[str]:
    """Give the names of the schemas that the messages of a channel refer to."""
    messages = built.get("channels", {}).get(channel, {}).get("messages", {})
    payloads = [(_at(built, found["$ref"]) or {}).get("payload") for found in messages.values()]
    return {reference.rpartition("/")[2] for reference in _references(payloads)}


def _at(built: Document, reference: str) -> Any:
    """Give what a reference such as `#/components/schemas/Money` refers to, None where there is nothing."""
    node: Any = built
    for step in reference.removeprefix("#/").split("/"):
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


async def _nothing(*_: Any) -> None:
    """Stand in for a handler; the document needs only the message."""


def _handler_of(consumed: type[Any]) -> Callable[..., Awaitable[None]]:
    async def consume(body: Any) -> None: ...

    consume.__annotations__ = {"body": consumed, "return": None}
    consume.__name__ = consumed.__name__
    consume.__doc__ = consumed.__doc__
    return consume


def _matching(event_type: str) -> Callable[[Any], bool]:
    return lambda delivered: delivered.headers.get("ce-type") == event_type


if __name__ == "__main__":
    raise SystemExit(main())
