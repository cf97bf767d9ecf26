"""How fast one process drains a backlog of paid payments: queue, pydantic, inbox, postings, outbox rows, grouped ack.

The backlog is published before the clock starts; the clock stops when the last credit has committed.
"""

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import replace

import harness
import ledger_posting
import uvloop

from chassis import batch, database, publisher, topology
from ledger import commit, handlers, main

RUNS = 5
TARGET = 5_000
BACKLOG = 50_000
PIPELINED = 500
GIVE_UP_S = 300


async def bench() -> None:
    """Measure the drain, each run on a fresh database and vhost."""
    gc.set_threshold(*main.GC_THRESHOLD)
    median = await harness.median_of(RUNS, drain)
    await harness.report(
        "Ledger intake",
        [{"what": "queue, pydantic, inbox, postings, outbox rows, grouped ack", "events/s": median}],
        [
            f"{BACKLOG:,} paid payments of one clearing account waiting in the queue; one process, no relay beside it.",
            f"Median of {RUNS} runs, with the lowest and the highest. Target: at least {TARGET:,}.",
        ],
    )


async def drain() -> float:
    """Publish the backlog and drain it; returns events per second."""
    async with harness.fresh_database(main.SERVICE) as url:
        with harness.fresh_vhost() as amqp_url:
            await topology.apply(amqp_url, main.SERVICE.bindings)
            await publish(amqp_url)
            return BACKLOG / await drained_s(url, amqp_url)


async def publish(amqp_url: str) -> None:
    """Publish the backlog with confirms."""
    sender = publisher.Publisher(amqp_url)
    channel = await sender.open()
    for _ in range(BACKLOG // PIPELINED):
        await asyncio.gather(
            *(
                publisher.send(
                    channel,
                    exchange=topology.EVENTS,
                    routing_key=event.TYPE,
                    headers=delivery.envelope.headers(),
                    body=event.model_dump_json().encode(),
                    event_type=event.TYPE,
                )
                for delivery, event in ledger_posting.paid(PIPELINED)
            )
        )
    await sender.close()


async def drained_s(url: str, amqp_url: str) -> float:
    """Consume until everything is credited; returns the seconds from the first connection to the last commit."""
    db, sender = database.Database(url, schema="ledger", pool_size=2), publisher.Publisher(amqp_url)
    done, credited = asyncio.Event(), 0

    async def counted(db: database.Database, deliveries: Sequence[batch.Delivered]) -> batch.Outcomes | None:
        nonlocal credited
        outcomes = await queue.handle(db, deliveries)
        credited += len(deliveries)
        if credited >= BACKLOG:
            done.set()
        return outcomes

    queue = commit.GroupCommit(db).wrap(handlers.BATCH_QUEUES[0])
    consumer = batch.BatchConsumer(amqp_url, replace(queue, handle=counted), db=db, sender=sender)
    started = time.perf_counter()
    consuming = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(GIVE_UP_S):
            await done.wait()
        return time.perf_counter() - started
    finally:
        consumer.stop()
        await consuming
        await sender.close()
        await db.close()


if __name__ == "__main__":
    uvloop.run(bench())
