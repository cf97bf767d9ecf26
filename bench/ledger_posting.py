"""How many credits per second one process posts, by how many share a transaction.

Payments go through the handler of the batch intake: inbox, transfers, postings with running balances and outbox rows.
All come from one clearing account, so that its row is the bottleneck that batches are made for.
"""

import asyncio
import gc
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence

import harness
import plain_ledger
import uvloop

from chassis import batch, database, envelope, inbox
from contracts import message, payments
from ledger import handlers, main

RUNS = 5
TARGET = 15_000
WALLETS = [message.UserId(uuid.uuid4()) for _ in range(1_000)]
CREDITS = {1: 1_000, 16: 8_000, 128: 20_000, 512: 60 * 512}
IN_FLIGHT = (1, 2)


async def bench() -> None:
    """Measure every batch size with one and with two transactions in flight, each run on a fresh database."""
    gc.set_threshold(*main.GC_THRESHOLD)
    rows = []
    for size, count in CREDITS.items():
        medians = [await harness.median_of(RUNS, posting(size, count, in_flight)) for in_flight in IN_FLIGHT]
        rows.append(
            {"credits per transaction": size, "credits/s, one at a time": medians[0], "two in flight": medians[1]}
        )
    plain = await harness.median_of(RUNS, plain_ledger.rate)
    rows.append({"credits per transaction": "512, plain SQL", "credits/s, one at a time": plain, "two in flight": ""})
    await harness.report(
        "Ledger posting",
        rows,
        [
            "One process, all credits from one clearing account into 1,000 wallets, through the handler of the intake.",
            "Each credit is an inbox row, a transfer, two postings with running balances and an outbox row.",
            "Plain SQL is the reference of the same run: the same rows by bare statements, unchecked, dummy events.",
            f"Median of {RUNS} runs, with the lowest and the highest. Target: at least {TARGET:,} at 512.",
        ],
    )


def posting(size: int, count: int, in_flight: int) -> Callable[[], Awaitable[float]]:
    """Give a measurement of `count` credits, `size` to a transaction; it gives credits per second."""

    async def measure() -> float:
        batches = [paid(size) for _ in range(count // size)]
        async with harness.fresh_database(main.SERVICE) as url:
            db = database.Database(url, schema="ledger", pool_size=in_flight)
            try:
                # The first transactions open the accounts and the connections and have the statements planned.
                await credit(db, iter([paid(size)]))
                await asyncio.gather(*(credit(db, iter([paid(size) for _ in range(10)])) for _ in range(in_flight)))
                gc.collect()
                gc.freeze()  # the events of the benchmark are not garbage that the service would have
                started, remaining = time.perf_counter(), iter(batches)
                await asyncio.gather(*(credit(db, remaining) for _ in range(in_flight)))
                return len(batches) * size / (time.perf_counter() - started)
            finally:
                gc.unfreeze()
                await db.close()

    return measure


async def credit(db: database.Database, batches: Iterator[Sequence[batch.Delivered]]) -> None:
    """Credit one batch after the other until none is left."""
    for deliveries in batches:
        await handlers.settle(db, deliveries)


def paid(size: int) -> Sequence[batch.Delivered]:
    """Make one batch of deliveries, spread over the wallets."""
    return [delivered(event) for event in events(size)]


def events(count: int) -> list[payments.PaymentPaid]:
    """Make paid payments, spread over the wallets."""
    now = envelope.now()
    return [
        payments.PaymentPaid(
            tenant=message.TenantId("demo"),
            payment_id=payments.PaymentId(envelope.uuid7()),
            user_id=WALLETS[uuid.uuid4().int % len(WALLETS)],
            purpose="top_up",
            provider="yookassa",
            amount=message.Money(amount_minor=150_000, currency="RUB"),
            version=2,
            provider_account="demo",
            provider_ref=str(uuid.uuid4()),
            paid_at=now,
            accepted_at=now,
        )
        for _ in range(count)
    ]


def delivered(event: payments.PaymentPaid) -> batch.Delivered:
    """Wrap an event as it would come from the queue."""
    wrapper = envelope.Envelope(
        id=envelope.uuid7(),
        type=event.TYPE,
        source="/kopilka/payments",
        time=event.paid_at,
        subject=event.subject,
        tenant=event.tenant,
        partition_key=event.partition_key,
        sequence=event.sequence,
        correlation_id=str(event.payment_id),
    )
    return inbox.Delivery("ledger.payments", wrapper), event


if __name__ == "__main__":
    uvloop.run(bench())
