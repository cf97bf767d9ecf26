"""Events a second that one relay publishes from committed outbox rows to two quorum queues, confirmed and deleted.

The reference is the same messages published on a bare channel, 500 at a time, without a database.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import harness
import uvloop
from pydantic import BaseModel

from chassis import app, database, envelope, outbox, publisher, relay, settings, topology

ROWS = 20_000
KEYS = 1_000
RUNS = 5
TARGET = 3_500
QUEUES = ("bench.first", "bench.second")


class Measured(BaseModel):
    """An event of about 500 bytes."""

    TYPE: ClassVar[str] = "bench.event.measured.v1"
    KIND: ClassVar[str] = "event"
    IS_CONSUMED: ClassVar[bool] = True

    tenant: str = "demo"
    subject: str
    note: str = "x" * 420

    @property
    def partition_key(self) -> str:
        """The subject."""
        return self.subject

    @property
    def sequence(self) -> int:
        """Always 0: the order has no meaning here."""
        return 0


SERVICE = app.Service(
    name="notes",
    settings=settings.Settings,
    roles={},
    migrations=Path(__file__).parent.parent / "libs/chassis/tests/notes_migrations",
)


async def main() -> None:
    """Measure both and report."""
    relayed = await harness.median_of(RUNS, measure_relay)
    published = await harness.median_of(RUNS, measure_bare_publishing)
    await harness.report(
        "Relay",
        [
            {"what": "outbox relay, confirmed and deleted", "events/s": relayed},
            {"what": "bare pipelined publishing, no database", "events/s": published},
        ],
        [
            f"{ROWS:,} events of about 500 bytes, {KEYS:,} keys, each to {len(QUEUES)} quorum queues; one process.",
            f"Median of {RUNS} runs, with the lowest and the highest.",
            f"Target: at least {TARGET:,} events/s relayed.",
        ],
    )
    if relayed.value < TARGET:
        sys.exit(f"the relay publishes {relayed.value:,.0f} events/s, below {TARGET:,}")


async def measure_relay() -> float:
    """Fill an outbox and give the events a second at which one relay empties it."""
    async with harness.fresh_database(SERVICE) as url, declared() as amqp_url, opened(url, amqp_url) as (db, sender):
        await fill(db)
        measured_relay = relay.Relay(db, sender)
        await sender.open()
        started, moved = time.perf_counter(), 0
        while moved < ROWS:
            moved += await measured_relay.relay_once()
        return ROWS / (time.perf_counter() - started)


async def measure_bare_publishing() -> float:
    """Give the messages a second that a bare channel confirms, in batches as large as the relay's."""
    async with declared() as amqp_url:
        sender = publisher.Publisher(amqp_url)
        channel = await sender.open()
        message = Measured(subject="0")
        body = message.model_dump_json().encode()
        started = time.perf_counter()
        for _ in range(ROWS // relay.BATCH):
            await asyncio.gather(
                *(
                    publisher.send(
                        channel,
                        exchange=topology.EVENTS,
                        routing_key=message.TYPE,
                        headers=headers_of(message),
                        body=body,
                        event_type=message.TYPE,
                    )
                    for _ in range(relay.BATCH)
                )
            )
        rate = ROWS / (time.perf_counter() - started)
        await sender.close()
        return rate


async def fill(db: database.Database) -> None:
    """Commit the events, a thousand in a transaction."""
    for first in range(0, ROWS, 1_000):
        async with db.transaction() as tx:
            await outbox.put(tx, [Measured(subject=f"key-{number % KEYS}") for number in range(first, first + 1_000)])


def headers_of(message: Measured) -> dict[str, str]:
    """Give the headers that the outbox would write."""
    return envelope.Envelope(
        id=envelope.uuid7(),
        type=message.TYPE,
        source="/kopilka/bench",
        time=envelope.now(),
        subject=message.subject,
        tenant=message.tenant,
        partition_key=message.partition_key,
        sequence=0,
        correlation_id=str(envelope.uuid7()),
    ).headers()


@asynccontextmanager
async def declared() -> AsyncIterator[str]:
    """Make a vhost with the two queues; gives its AMQP URL."""
    with harness.fresh_vhost() as amqp_url:
        await topology.apply(amqp_url, [topology.Binding(queue, events=(Measured.TYPE,)) for queue in QUEUES])
        yield amqp_url


@asynccontextmanager
async def opened(url: str, amqp_url: str) -> AsyncIterator[tuple[database.Database, publisher.Publisher]]:
    """Open the database and the channel of a relay."""
    db, sender = database.Database(url, schema=SERVICE.name, pool_size=2), publisher.Publisher(amqp_url)
    try:
        yield db, sender
    finally:
        await sender.close()
        await db.close()


if __name__ == "__main__":
    uvloop.run(main())
