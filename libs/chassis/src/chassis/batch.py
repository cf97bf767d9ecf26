"""Consumes a busy queue in batches: many deliveries, one transaction, one acknowledgement.

FastStream has no batches for RabbitMQ, so this consumes with aio-pika. The messages of a batch that fails are handled
one by one, so that a single bad message does not fail the others.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import aio_pika
import aiormq
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from chassis import database, envelope, failpoints, inbox, publisher, retries, telemetry, topology

BATCH = 512
LINGER_S = 0.004
BUFFER = 3 * BATCH
RECONNECT_PAUSE_S = 0.5

Delivered = tuple[inbox.Delivery, Any]
Outcomes = Mapping[UUID, object]
"""Results by message id. An exception means that the message was not handled; a message without one was handled."""

BatchHandler = Callable[[database.Database, Sequence[Delivered]], Awaitable[Outcomes | None]]
_Item = tuple[AbstractIncomingMessage, inbox.Delivery, Any]


@dataclass(frozen=True, slots=True)
class BatchQueue:
    """One hot queue, the message types that come to it, and the handler of a whole batch.

    With more than one batch `in_flight` the next is read and waits for its locks while one is written; the order of the
    queue is then kept inside a batch only.
    """

    name: str
    messages: tuple[type[Any], ...]
    handle: BatchHandler
    in_flight: int = 1

    @property
    def binding(self) -> topology.Binding:
        """What the broker must route to this queue."""
        return topology.Binding(
            self.name,
            events=tuple(message.TYPE for message in self.messages if message.KIND == "event"),
            commands=tuple(message.TYPE for message in self.messages if message.KIND == "command"),
        )


class BatchConsumer:
    """Consumes one queue until it is stopped; reconnects by itself."""

    def __init__(self, amqp_url: str, queue: BatchQueue, *, db: database.Database, sender: publisher.Publisher) -> None:
        """Take the queue, the database that handlers write to and the channel that failed messages are published on."""
        self._url = amqp_url
        self.queue = queue.name
        self._queue = queue
        self._db = db
        self._policy = retries.FailurePolicy(db, sender)
        self._models = {message.TYPE: message for message in queue.messages}
        self._stopping = asyncio.Event()
        self._is_consuming = False

    async def run(self) -> None:
        """Consume until stopped. Messages that were buffered and not handled go back to the queue unacknowledged."""
        while not self._stopping.is_set():
            try:
                connection = await aio_pika.connect(self._url, timeout=publisher.CONNECT_TIMEOUT_S)
                async with connection:
                    channel = await connection.channel(publisher_confirms=False)
                    await channel.set_qos(prefetch_count=BUFFER)
                    await self._consume(await channel.get_queue(self._queue.name, ensure=False))
            except Exception as error:  # noqa: BLE001 - the loop's edge: an outage of either side must not end it
                telemetry.log.warning(
                    "batch_consumer.reconnecting", consumer=self._queue.name, error=type(error).__name__
                )
                await asyncio.sleep(RECONNECT_PAUSE_S)
            finally:
                self._is_consuming = False

    def stop(self) -> None:
        """Finish the current batch and begin no other."""
        self._stopping.set()

    async def is_consuming(self) -> bool:
        """Return whether the broker has this consumer now; a health check."""
        return self._is_consuming

    async def _consume(self, queue: AbstractQueue) -> None:
        # The broker's prefetch bounds this buffer.
        buffer: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue(maxsize=BUFFER)
        cancelled = asyncio.Event()
        (await _cancellations(queue)).add(lambda _: cancelled.set())
        tag = await queue.consume(buffer.put)
        self._is_consuming = True
        ends = (queue.channel.closed(), cancelled.wait(), self._stopping.wait())
        interruptions = [asyncio.ensure_future(end) for end in ends]
        settling: deque[asyncio.Task[None]] = deque()
        try:
            while not any(interruption.done() for interruption in interruptions):
                batch = await self._next_batch(buffer, [*interruptions, *settling])
                while settling and (settling[0].done() or len(settling) >= self._queue.in_flight):
                    await settling.popleft()
                if batch and not any(interruption.done() for interruption in interruptions):
                    before = settling[-1] if settling else None
                    settling.append(asyncio.create_task(self._settle(batch, before)))
            if not self._stopping.is_set():
                raise ConnectionError("the broker ended the consumer")
            for task in settling:
                await task
            await queue.cancel(tag)
        finally:
            for part in (*interruptions, *settling):
                part.cancel()
            await asyncio.gather(*settling, return_exceptions=True)

    async def _settle(self, batch: Sequence[AbstractIncomingMessage], before: "asyncio.Task[None] | None") -> None:
        """Handle a batch, then acknowledge it after the batch before, because that covers all earlier deliveries."""
        await self._handle(batch)
        if before is not None:
            await before
        failpoints.passed("batch.before_ack")
        await batch[-1].ack(multiple=True)

    async def _next_batch(
        self,
        buffer: asyncio.Queue[AbstractIncomingMessage],
        interruptions: "Sequence[asyncio.Future[Any]]",
    ) -> list[AbstractIncomingMessage]:
        """Wait for a delivery and 4 ms for more; gives an empty list when interrupted."""
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
        readable: list[_Item] = []
        for message in batch:
            try:
                readable.append((message, *self._read(message)))
            except Exception as error:  # noqa: BLE001 - whatever reading raises, the message is kept with its reason
                await self._policy.dead_letter(self._queue.name, message.headers, message.body, error)
        started = time.perf_counter()
        try:
            await self._policy.with_retries(lambda: self._apply(readable))
        except Exception as error:
            if database.is_outage(error) or isinstance(error, publisher.Unavailable):
                raise  # no message is the reason: all of them go back to the queue
            telemetry.log.warning("batch_consumer.batch_failed", consumer=self._queue.name, error=type(error).__name__)
            for item in readable:
                await self._handle_alone(item)
        telemetry.HANDLED.labels(self._queue.name, "batch").observe(time.perf_counter() - started)

    async def _handle_alone(self, item: _Item) -> None:
        message, delivery, _ = item
        try:
            with envelope.caused_by(delivery.envelope.cause):
                await self._policy.with_retries(lambda: self._apply([item]))
        except Exception as error:  # noqa: BLE001 - the loop's edge: every failed message is retried or kept
            await self._policy.retry_or_dead_letter(self._queue.name, message.headers, message.body, error)

    async def _apply(self, items: Sequence[_Item]) -> None:
        # Two copies of one message in a batch are both new to the inbox; the handler sees the first alone.
        distinct: dict[UUID, _Item] = {}
        for item in items:
            distinct.setdefault(item[1].envelope.id, item)
        if not distinct:
            return
        with retries.validation_errors_are_defects():
            deliveries = [(delivery, message) for _, delivery, message in distinct.values()]
            outcomes = await self._queue.handle(self._db, deliveries) or {}
        for event_id, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                message = distinct[event_id][0]
                await self._policy.retry_or_dead_letter(self._queue.name, message.headers, message.body, outcome)

    def _read(self, message: AbstractIncomingMessage) -> tuple[inbox.Delivery, Any]:
        wrapper = envelope.parse(message.headers)
        model = self._models.get(wrapper.type)
        if model is None:
            raise envelope.Unreadable(f"no handler for type {wrapper.type!r}")
        body = model.model_validate_json(message.body)
        envelope.require_agreement(wrapper, body)
        return inbox.Delivery(self._queue.name, wrapper), body


async def _cancellations(queue: AbstractQueue) -> set[Callable[..., Any]]:
    """Give the driver's callbacks for consumers that the broker cancels, as when a queue is deleted."""
    channel = await queue.channel.get_underlay_channel()
    return cast("aiormq.Channel", channel).on_consumer_cancel_callbacks
