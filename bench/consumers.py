"""Events a second, and CPU time for each, that one process handles with each of the two kinds of consumers.

Each event is claimed in the inbox. Message by message that is a transaction each, as in most of our handlers; the same
handler runs on FastStream and, 20 at once, below our own consumer. In a batch up to 512 events share a transaction.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import harness
import relay
import uvloop

from chassis import batch, broker, database, inbox, publisher, topology

EVENTS = 4_000
RUNS = 3
AT_ONCE = 20  # the prefetch of FastStream's consumers
NAME = "bench.consumed"


async def main() -> None:
    """Measure each kind and report."""
    rows = []
    for kind in ("FastStream", "own consumer, message by message", "own consumer, in batches"):
        runs = [await measure(kind) for _ in range(RUNS)]
        rate, cpu_us = (harness.median(figures) for figures in zip(*runs, strict=True))
        rows.append({"consumer": kind, "events/s": rate, "CPU us/event": cpu_us})
    await harness.report(
        "Consumers",
        rows,
        [
            f"{EVENTS:,} events of about 500 bytes in a quorum queue; one process, {AT_ONCE} handlers at once.",
            f"CPU time of the consuming process alone. Median of {RUNS} runs, with the lowest and the highest.",
        ],
    )


async def measure(kind: str) -> tuple[float, float]:
    """Consume a full queue; gives events a second and microseconds of CPU time for each event."""
    async with harness.fresh_database(relay.SERVICE) as url:
        db = database.Database(url, schema=relay.SERVICE.name, pool_size=8)
        with harness.fresh_vhost() as amqp_url:
            await topology.apply(amqp_url, [topology.Binding(NAME, events=(relay.Measured.TYPE,))])
            await fill(amqp_url)
            started, cpu_started = time.perf_counter(), time.process_time()
            async with consuming(kind, amqp_url, db):
                while await handled(db) < EVENTS:  # noqa: ASYNC110 - what is waited for is in the database
                    await asyncio.sleep(0.01)
            elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        await db.close()
    return EVENTS / elapsed_s, cpu_s / EVENTS * 1e6


@asynccontextmanager
async def consuming(kind: str, amqp_url: str, db: database.Database) -> AsyncIterator[None]:
    """Run one kind of consumer for the block."""
    sender = publisher.Publisher(amqp_url)
    try:
        if kind == "FastStream":
            queue = broker.Queue(NAME, {relay.Measured: claim})
            running = broker.build(amqp_url, [queue], db=db, sender=sender, prefetch=AT_ONCE)
            await running.start()
            yield
            await running.stop()
        else:
            handler = claim_batch if kind.endswith("in batches") else claim_each
            consumer = batch.BatchConsumer(
                amqp_url, batch.BatchQueue(NAME, (relay.Measured,), handler), db=db, sender=sender
            )
            task = asyncio.create_task(consumer.run())
            yield
            consumer.stop()
            await task
    finally:
        await sender.close()


async def claim(db: database.Database, delivery: inbox.Delivery, _: Any) -> None:
    """Handle one event in a transaction of its own."""
    async with db.transaction() as tx:
        await inbox.claim(tx, delivery)


async def claim_each(db: database.Database, deliveries: Sequence[batch.Delivered]) -> None:
    """Handle each event in a transaction of its own, as many at once as FastStream."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def claim_one(delivery: inbox.Delivery, event: Any) -> None:
        async with slots:
            await claim(db, delivery, event)

    await asyncio.gather(*(claim_one(*delivered) for delivered in deliveries))


async def claim_batch(db: database.Database, deliveries: Sequence[batch.Delivered]) -> None:
    """Handle a batch in one transaction."""
    async with db.transaction() as tx:
        await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])


async def fill(amqp_url: str) -> None:
    """Publish the events, 500 at a time."""
    sender = publisher.Publisher(amqp_url)
    channel = await sender.open()
    messages = [relay.Measured(subject=str(number)) for number in range(EVENTS)]
    for first in range(0, EVENTS, 500):
        await asyncio.gather(
            *(
                publisher.send(
                    channel,
                    exchange=topology.EVENTS,
                    routing_key=message.TYPE,
                    headers=relay.headers_of(message),
                    body=message.model_dump_json().encode(),
                    event_type=message.TYPE,
                )
                for message in messages[first : first + 500]
            )
        )
    await sender.close()


async def handled(db: database.Database) -> int:
    """Give the number of claimed events."""
    async with db.statement() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM inbox"))


if __name__ == "__main__":
    uvloop.run(main())
