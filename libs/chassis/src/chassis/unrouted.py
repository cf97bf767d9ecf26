"""`kopilka unrouted list | show | replay | discard`: the messages that no queue took, kept for a week.

They are only read, and go back into their queue in their order, unless they were replayed or discarded.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import envelope, publisher, settings, topology

SCAN_MAX = 20_000
LIST_DEFAULT = 100
LIST_MAX = 1_000
TEXT_MAX = 200
CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 600


class OperatorSettings(BaseSettings):
    """What the command needs."""

    model_config = SettingsConfigDict(secrets_dir=settings.SECRETS_DIR if settings.SECRETS_DIR.is_dir() else None)

    amqp_url: Annotated[SecretStr, AfterValidator(settings.amqp)] = Field(validation_alias="KOPILKA_AMQP_URL")


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code: 1 when a message could not be replayed, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    if options.action in ("replay", "discard") and not (options.id or options.type or options.all):
        sys.stderr.write(f"kopilka unrouted {options.action}: name messages with --id or --type, or say --all\n")
        return 2
    url = settings.load(OperatorSettings).amqp_url.get_secret_value()
    try:
        return asyncio.run(_run(url, options))
    except (AMQPError, OSError, TimeoutError) as error:
        sys.stderr.write(f"{type(error).__name__}: the broker can't be used: {str(error)[:TEXT_MAX]}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kopilka unrouted",
        description="Messages that no queue took, because a binding was lost or their consumer was never deployed.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | replay | discard")
    for name, text in (
        ("list", "one line for each message, oldest first"),
        ("show", "headers and body too"),
        ("replay", "publish messages again as they were published first, and remove them here"),
        ("discard", "remove messages for ever"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--type", help="only this message type, which is the routing key")
        action.add_argument("--id", help="only this message")
        if name in ("replay", "discard"):
            action.add_argument("--all", action="store_true", help="every message")
        else:
            action.add_argument("--limit", type=_limit, default=LIST_DEFAULT, help=f"at most so many, up to {LIST_MAX}")
    return parser


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LIST_MAX:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {LIST_MAX}")
    return int(text)


async def _run(url: str, options: argparse.Namespace) -> int:
    connection = await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S)
    async with connection, asyncio.timeout(ANSWER_TIMEOUT_S):
        channel = await connection.channel(publisher_confirms=False)
        sender = publisher.Publisher(url)
        try:
            return await _act(channel, sender, options)
        finally:
            await sender.close()


async def _act(channel: AbstractChannel, sender: publisher.Publisher, options: argparse.Namespace) -> int:
    chosen = 0
    replayed: set[str] = set()
    failed = came_back = 0
    async with _scanned(channel) as messages:
        async for message, is_new in messages:
            if is_new:
                came_back += _id(message) in replayed
            elif not _is_chosen(message, options):
                continue
            elif options.action == "discard":
                await message.ack()
                chosen += 1
            elif options.action == "replay":
                if refusal := await _replay(sender, message):
                    sys.stderr.write(f"{_id(message)} stays: {refusal}\n")
                    failed += 1
                    continue
                await message.ack()
                replayed.add(_id(message))
                chosen += 1
            elif chosen < options.limit:
                _print(message, is_whole=options.action == "show")
                chosen += 1
    done = {"replay": "replayed", "discard": "discarded"}.get(options.action, "shown")
    sys.stdout.write(f"{chosen} {done}\n")
    if came_back:
        sys.stderr.write(f"{came_back} of them came back: still no queue takes them; see `kopilka topology`\n")
    return 1 if failed or came_back else 0


@asynccontextmanager
async def _scanned(channel: AbstractChannel) -> AsyncIterator[AsyncIterator[tuple[AbstractIncomingMessage, bool]]]:
    """Give each message once, and whether it came after the beginning; what is not acknowledged goes back."""
    queue = await channel.declare_queue(topology.UNROUTED, passive=True)
    count = min(queue.declaration_result.message_count or 0, SCAN_MAX)

    async def scan() -> AsyncIterator[tuple[AbstractIncomingMessage, bool]]:
        for number in range(2 * count):  # as many as were there, and what was replayed and came back
            message = await queue.get(fail=False)
            if message is None:
                return
            yield message, number >= count

    try:
        yield scan()
    finally:
        # Everything at once: without a tag of its own, it is about all that is unacknowledged.
        underlay = await channel.get_underlay_channel()
        await underlay.basic_nack(delivery_tag=0, multiple=True, requeue=True)
        # A call that is answered: the messages are on their way back before the connection is closed.
        await channel.declare_queue(topology.UNROUTED, passive=True)


async def _replay(sender: publisher.Publisher, message: AbstractIncomingMessage) -> str | None:
    """Publish a message again to its exchange; gives why it could not be."""
    try:
        await sender.publish(
            exchange=message.exchange or "",
            routing_key=message.routing_key or "",
            headers=envelope.ours(message.headers),
            body=message.body,
            event_type=str(message.type or message.routing_key),
        )
    except publisher.Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a message of any bytes stays, and those behind it are replayed
        return f"{type(error).__name__}: {str(error)[:TEXT_MAX]}"
    return None


def _is_chosen(message: AbstractIncomingMessage, options: argparse.Namespace) -> bool:
    return (options.type is None or message.routing_key == options.type) and options.id in (None, _id(message))


def _id(message: AbstractIncomingMessage) -> str:
    return str(message.headers.get("ce-id") or message.message_id)


def _print(message: AbstractIncomingMessage, *, is_whole: bool) -> None:
    words = (message.headers.get("ce-time"), _id(message), message.exchange, message.routing_key)
    sys.stdout.write(f"{' '.join(map(_printable, words))} {len(message.body)} bytes\n")
    if is_whole:
        sys.stdout.write(f"{json.dumps(envelope.ours(message.headers), indent=2, default=repr)}\n")
        sys.stdout.write(f"{_printable(message.body.decode(errors='replace'), most=len(message.body))}\n")


def _printable(value: object, *, most: int = TEXT_MAX) -> str:
    """Give a text without control characters, which could drive a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))[:most]
