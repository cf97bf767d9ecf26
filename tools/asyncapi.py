"""Keeps docs/asyncapi/<service>.json equal to what each service really hears and says.

A document that drifts is worse than none: a shop's developer would bind a queue to an event that is no longer said.

Usage: asyncapi.py [root] [--write]
"""

import argparse
import importlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import tree
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.specification import AsyncAPI

from chassis import app, broker, topology
from contracts import message

SERVICES = ("gateway", "ledger", "notifier", "orders", "payments")


def main() -> int:
    """Compare the documents with the code; with --write, write them."""
    options = argparse.ArgumentParser(description="Check or write docs/asyncapi.")
    options.add_argument("root", nargs="?", type=Path, default=tree.ROOT)
    options.add_argument("--write", action="store_true", help="write the documents")
    chosen = options.parse_args()
    problems = []
    for name in SERVICES:
        path: Path = chosen.root / "docs" / "asyncapi" / f"{name}.json"
        text = document(importlib.import_module(f"{name}.main").SERVICE)
        if chosen.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            problems.append(f"docs/asyncapi/{name}.json is not what the code says; run `make events`")
    return tree.report(problems, passed=f"asyncapi: {len(SERVICES)} documents are what the code says")


def document(service: app.Service) -> str:
    """Give the AsyncAPI 3 document of one service: its queues, and every event it may say."""
    described = RabbitBroker("amqp://broker.example:5672/", logger=None)
    for queue in (*service.queues, *(_as_queue(batched.name, batched.messages) for batched in service.batch_queues)):
        subscriber = described.subscriber(RabbitQueue(queue.name, declare=False), title=queue.name)
        for heard in queue.handlers:
            subscriber(_handler_of(heard), filter=_matching(heard.TYPE))
    events = RabbitExchange(topology.EVENTS, type=ExchangeType.TOPIC)
    for said in message.REGISTRY.values():
        if said.TYPE.startswith(f"{service.name}.") and said.KIND == "event":
            described.publisher(
                exchange=events,
                routing_key=said.TYPE,
                schema=said,
                title=said.TYPE,
                description=(said.__doc__ or "").strip(),
            )
    specification = AsyncAPI(described, title=f"Kopilka {service.name}", version="1.0.0").to_specification()
    return json.dumps(json.loads(specification.to_json()), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _as_queue(name: str, messages: tuple[type[Any], ...]) -> broker.Queue:
    return broker.Queue(name, dict.fromkeys(messages, _nothing))


async def _nothing(*_: Any) -> None:
    """Stand in for a handler; the document needs only the message."""


def _handler_of(heard: type[Any]) -> Callable[..., Awaitable[None]]:
    async def consume(body: Any) -> None: ...

    consume.__annotations__ = {"body": heard, "return": None}
    consume.__name__ = heard.__name__
    consume.__doc__ = heard.__doc__
    return consume


def _matching(event_type: str) -> Callable[[Any], bool]:
    return lambda delivered: delivered.headers.get("ce-type") == event_type


if __name__ == "__main__":
    raise SystemExit(main())
