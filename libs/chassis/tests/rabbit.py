"""A bare client of the broker for tests: publishes malformed messages too, and looks into queues."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import aio_pika
import notes
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from chassis import batch, broker, database, dead_letters, envelope, publisher, relay

TIMEOUT_S = 60


def headers_of(message: notes.Note, **changed: Any) -> dict[str, Any]:
    """Give the envelope of a message as headers, some of them changed; None leaves one out."""
    wrapper = envelope.Envelope(
        id=envelope.uuid7(),
        type=message.TYPE,
        source="/kopilka/test",
        time=envelope.now(),
        subject=message.subject,
        tenant=message.tenant,
        partition_key=message.partition_key,
        sequence=message.sequence,
        correlation_id="correlation-1",
    )
    headers = {**wrapper.headers(), **{name.replace("_", "-"): value for name, value in changed.items()}}
    return {name: value for name, value in headers.items() if value is not None}


class Wire:
    """One connection of a test."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel

    @classmethod
    @asynccontextmanager
    async def connected(cls, amqp_url: str) -> AsyncIterator[Self]:
        """Connect for the block."""
        connection = await aio_pika.connect(amqp_url)
        async with connection:
            yield cls(await connection.channel())

    async def send(self, queue: str, message: notes.Note, **changed: Any) -> dict[str, Any]:
        """Put a message right into a queue; gives its headers."""
        headers = headers_of(message, **changed)
        await self.send_raw(queue, message.model_dump_json().encode(), headers)
        return headers

    async def send_raw(self, queue: str, body: bytes, headers: dict[str, Any]) -> None:
        """Put any bytes into a queue."""
        await self.channel.default_exchange.publish(
            aio_pika.Message(
                body,
                headers=headers,
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            routing_key=queue,
        )

    async def fill(self, queue: str) -> None:
        """Put a message into a queue that may refuse it."""
        with contextlib.suppress(DeliveryError):
            await self.send(queue, notes.NoteWritten())

    async def depth(self, queue: str) -> int:
        """Give the number of ready messages of a queue; unacknowledged ones are not counted."""
        declared = await self.channel.declare_queue(queue, passive=True)
        return int(declared.declaration_result.message_count or 0)

    async def take(self, queue: str) -> AbstractIncomingMessage:
        """Take one message out of a queue, waiting for it."""
        found: AbstractIncomingMessage | None = None
        place = await self.channel.get_queue(queue, ensure=False)

        async def is_there() -> bool:
            nonlocal found
            found = await place.get(fail=False)
            return found is not None

        await until(is_there)
        assert found is not None
        await found.ack()
        return found

    async def take_all(self, queue: str) -> list[AbstractIncomingMessage]:
        """Take all messages out of a queue that are there now."""
        place = await self.channel.get_queue(queue, ensure=False)
        taken: list[AbstractIncomingMessage] = []
        while (message := await place.get(fail=False)) is not None:
            await message.ack()
            taken.append(message)
        return taken


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is true. Raises TimeoutError when it is not within a minute."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens on a server
            await asyncio.sleep(0.02)


async def effects(db: database.Database, queue: str, count: int) -> None:
    """Wait until so many notes of a queue are stored."""

    async def are_there() -> bool:
        return await notes.count(db, queue) >= count

    await until(are_there)


async def dead_lettered(db: database.Database, count: int = 1) -> list[dead_letters.DeadLetter]:
    """Wait for so many open dead letters and give them."""

    async def are_there() -> bool:
        return len(await dead_letters.find(db)) >= count

    await until(are_there)
    return await dead_letters.find(db)


@asynccontextmanager
async def consuming(
    amqp_url: str, db: database.Database, *queues: broker.Queue, prefetch: int = 20
) -> AsyncIterator[None]:
    """Run FastStream consumers of queues for the block."""
    sender = publisher.Publisher(amqp_url)
    running = broker.build(amqp_url, queues, db=db, sender=sender, prefetch=prefetch)
    await running.start()
    try:
        yield
    finally:
        await running.stop()
        await sender.close()


@asynccontextmanager
async def consuming_batches(
    amqp_url: str, db: database.Database, queue: batch.BatchQueue
) -> AsyncIterator[batch.BatchConsumer]:
    """Run a batch consumer for the block."""
    sender = publisher.Publisher(amqp_url)
    consumer = batch.BatchConsumer(amqp_url, queue, db=db, sender=sender)
    running = asyncio.create_task(consumer.run())
    try:
        await until(consumer.is_consuming)
        yield consumer
    finally:
        consumer.stop()
        await running
        await sender.close()


@asynccontextmanager
async def relaying(amqp_url: str, db: database.Database) -> AsyncIterator[relay.Relay]:
    """Run a relay for the block."""
    sender = publisher.Publisher(amqp_url)
    running_relay = relay.Relay(db, sender)
    running = asyncio.create_task(running_relay.run())
    try:
        yield running_relay
    finally:
        running_relay.stop()
        await running
        await sender.close()
