"""Credits posted per second, by the size of a transaction and by the number of transactions in flight.

Payments go through the handler of the batch consumer: inbox, transfers, postings with running balances and outbox rows.
All come from one clearing account, so that its row is the bottleneck that batches are made for.
"""

import asyncio
import gc
import multiprocessing
import time
import uuid
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier

import harness
import plain_ledger
import uvloop

from chassis import batch, database, envelope, inbox
from contracts import message, payments
from ledger import handlers, main

RUNS = 5
TARGET = 15_000
WALLETS = [message.UserId(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(1_000)]
CREDITS = {1: 1_000, 16: 8_000, 128: 20_000, 512: 60 * 512}
WAYS = {"one at a time": (1, 1), "two in flight": (1, 2), "two processes": (2, 1)}
START_S_MAX = 60


async def bench() -> None:
    """Measure every size of transaction with every kind of concurrency, each run on a fresh database."""
    runs: dict[tuple[int, str], list[float]] = {}
    for _ in range(RUNS):  # each run has all of them, because the machine is not the same an hour later
        for size, count in CREDITS.items():
            for way, (processes, in_flight) in WAYS.items():
                rate = await posting(size, count, processes=processes, in_flight=in_flight)
                runs.setdefault((size, way), []).append(rate)
        runs.setdefault((0, "plain"), []).append(await plain_ledger.rate())
    rows = [
        {"credits per transaction": size, **{f"{way}, credits/s": harness.median(runs[size, way]) for way in WAYS}}
        for size in CREDITS
    ]
    plain: dict[str, object] = dict.fromkeys(rows[0], "")
    rows.append(plain | dict(zip(rows[0], ("512, plain SQL", harness.median(runs[0, "plain"])), strict=False)))
    await harness.report(
        "Ledger posting",
        rows,
        [
            "All credits from one clearing account into 1,000 wallets, through the handler of the batch consumer.",
            "Each credit is an inbox row, a transfer, two postings with running balances and an outbox row.",
            "Plain SQL is the reference of the same run: the same rows by bare statements, unchecked, dummy events.",
            "One process is limited by its Python, about 20 ms of CPU for 512; two are limited by both cores.",
            f"Median of {RUNS} runs, with the lowest and the highest. Target: at least {TARGET:,} at 512.",
        ],
    )


async def posting(size: int, count: int, *, processes: int, in_flight: int) -> float:
    """Post `count` credits, `size` to a transaction; returns credits per second."""
    context = multiprocessing.get_context("spawn")
    together, times = context.Barrier(processes), context.SimpleQueue()
    share = count // size // processes
    async with harness.fresh_database(main.SERVICE) as url:
        workers = [
            context.Process(target=_work, args=(url, size, share, in_flight, together, times)) for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            await asyncio.to_thread(worker.join)
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker of the benchmark failed")
    spans: list[tuple[float, float]] = [times.get() for _ in workers]
    return processes * share * size / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def _work(  # noqa: PLR0917 - a process takes its arguments by position
    url: str,
    size: int,
    count: int,
    in_flight: int,
    together: Barrier,
    times: "multiprocessing.SimpleQueue[tuple[float, float]]",
) -> None:
    uvloop.run(_post(url, size, count, in_flight, together, times))


async def _post(  # noqa: PLR0917 - as above
    url: str,
    size: int,
    count: int,
    in_flight: int,
    together: Barrier,
    times: "multiprocessing.SimpleQueue[tuple[float, float]]",
) -> None:
    gc.set_threshold(*main.GC_THRESHOLD)
    batches = [paid(size) for _ in range(count)]
    db = database.Database(url, schema="ledger", pool_size=in_flight)
    # The first transactions open the accounts and the connections and have the statements planned.
    await credit(db, iter([paid(size)]))
    await asyncio.gather(*(credit(db, iter([paid(size) for _ in range(10)])) for _ in range(in_flight)))
    gc.collect()
    gc.freeze()  # the events of the benchmark are not garbage that the service would have
    together.wait(START_S_MAX)
    began, remaining = time.monotonic(), iter(batches)
    await asyncio.gather(*(credit(db, remaining) for _ in range(in_flight)))
    times.put((began, time.monotonic()))
    await db.close()


async def credit(db: database.Database, batches: Iterator[Sequence[batch.Delivered]]) -> None:
    """Credit one batch after the other until none is left."""
    for deliveries in batches:
        await handlers.settle(db, deliveries)


def paid(size: int) -> Sequence[batch.Delivered]:
    """Build one batch of deliveries, spread over the wallets."""
    return [delivered(event) for event in events(size)]


def events(count: int) -> list[payments.PaymentPaid]:
    """Build paid payments, spread over the wallets."""
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
