"""Batch intake of one hot queue: many deliveries, one transaction, one acknowledgement.

FastStream has no batches for RabbitMQ, so this consumes on aio-pika itself. A batch that fails is taken apart and
handled one by one, so that a single bad message takes nobody with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from chassis import database, envelope, failpoints, inbox, ladder, publisher, telemetry, topology

BATCH = 512
LINGER_S = 0.004
RECONNECT_PAUSE_S = 0.5
STOP_WAIT_S = 20

BatchHandler = Callable[[database.Database, Sequence[tuple[inbox.Delivery, Any]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intake:
    """One hot queue, the message types that come to it, and the handler of a whole batch."""

    queue: str
    messages: tuple[type[Any], ...]
    handle: BatchHandler

    @property
    def binding(self) -> topology.Binding:
        """What the broker must route to this queue."""
        return topology.Binding(
            self.queue,
            events=tuple(message.TYPE for message in self.messages if message.KIND == "event"),
            commands=tuple(message.TYPE for message in self.messages if message.KIND == "command"),
        )


class BatchConsumer:
    """Consumes one intake until told to stop; reconnects by itself."""

    def __init__(self, amqp_url: str, intake: Intake, *, db: database.Database, sender: publisher.Publisher) -> None:
        """Take the queue to drain, the database to write to and the channel that failures are sent on."""
        self._url = amqp_url
        self._intake = intake
        self._db = db
        self._policy = ladder.Ladder(db, sender)
        self._models = {message.TYPE: message for message in intake.messages}
        self._stopping = asyncio.Event()
        self.is_consuming = False

    async def run(self) -> None:
        """Consume until told to stop. What was buffered and not handled goes back to the queue unacknowledged."""
        while not self._stopping.is_set():
            try:
                connection = await aio_pika.connect(self._url, timeout=publisher.CONNECT_TIMEOUT_S)
                async with connection:
                    channel = await connection.channel(publisher_confirms=False)
                    await channel.set_qos(prefetch_count=2 * BATCH)
                    await self._consume(await channel.get_queue(self._intake.queue, ensure=False))
            except (AMQPError, OSError, TimeoutError, ChannelInvalidStateError) as error:
                telemetry.log.warning("intake.reconnects", consumer=self._intake.queue, error=type(error).__name__)
                await asyncio.sleep(RECONNECT_PAUSE_S)
            finally:
                self.is_consuming = False

    def stop(self) -> None:
        """Finish the batch at hand and take no more."""
        self._stopping.set()

    async def _consume(self, queue: AbstractQueue) -> None:
        # The broker's prefetch bounds this buffer.
        buffer: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue(maxsize=2 * BATCH)
        closed = asyncio.ensure_future(queue.channel.closed())
        tag = await queue.consume(buffer.put)
        self.is_consuming = True
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not self._stopping.is_set() and not closed.done():
                batch = await self._next_batch(buffer, closed, stopping)
                if batch:
                    await self._handle(batch)
                    failpoints.passed("intake.before_ack")
                    await batch[-1].ack(multiple=True)
            if not closed.done():
                await queue.cancel(tag)
        finally:
            closed.cancel()
            stopping.cancel()

    async def _next_batch(
        self,
        buffer: asyncio.Queue[AbstractIncomingMessage],
        *interruptions: "asyncio.Future[Any]",
    ) -> list[AbstractIncomingMessage]:
        """Wait for a first delivery, then linger a moment for more; nothing when interrupted."""
        if buffer.empty():
            first = asyncio.ensure_future(buffer.get())
            await asyncio.wait([first, *interruptions], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                first.cancel()
                return []
            batch = [first.result()]
            if buffer.empty():
                await asyncio.sleep(LINGER_S)
        else:
            batch = []
        while len(batch) < BATCH and not buffer.empty():
            batch.append(buffer.get_nowait())
        return batch

    async def _handle(self, batch: Sequence[AbstractIncomingMessage]) -> None:
        readable: list[tuple[AbstractIncomingMessage, inbox.Delivery, Any]] = []
        for message in batch:
            try:
                readable.append((message, *self._read(message)))
            except Exception as error:  # noqa: BLE001 - whatever makes it unreadable, it is kept with its reason
                await self._policy.take(self._intake.queue, message.headers, message.body, error)
        started = time.perf_counter()
        try:
            await self._policy.patiently(lambda: self._apply(readable))
        except Exception as error:  # noqa: BLE001 - the culprit is found by handling one by one
            telemetry.log.warning("intake.batch_failed", consumer=self._intake.queue, error=type(error).__name__)
            for item in readable:
                await self._handle_alone(item)
        telemetry.HANDLED.labels(self._intake.queue, "batch").observe(time.perf_counter() - started)

    async def _handle_alone(self, item: tuple[AbstractIncomingMessage, inbox.Delivery, Any]) -> None:
        message, delivery, _ = item
        try:
            with envelope.caused_by(delivery.envelope.cause):
                await self._policy.patiently(lambda: self._apply([item]))
        except Exception as error:  # noqa: BLE001 - the loop's edge: every failure is retried or kept
            await self._policy.take(self._intake.queue, message.headers, message.body, error)

    async def _apply(self, items: Sequence[tuple[AbstractIncomingMessage, inbox.Delivery, Any]]) -> None:
        if items:
            await self._intake.handle(self._db, [(delivery, message) for _, delivery, message in items])

    def _read(self, message: AbstractIncomingMessage) -> tuple[inbox.Delivery, Any]:
        wrapper = envelope.parse(message.headers)
        model = self._models.get(wrapper.type)
        if model is None:
            raise envelope.Unreadable(f"no handler for type {wrapper.type!r}")
        return inbox.Delivery(self._intake.queue, wrapper), model.model_validate_json(message.body)
