"""What reading and posting cost as a history grows: the same queries of accounts with more and more postings.

The history is made in bulk, by the administrator and without the triggers; everything measured goes the way of every
other caller. Half of the postings are on one clearing account, which the questions are about, the others on wallets.

Usage: ledger_history.py [--write] [postings ...]
"""

import contextlib
import datetime as dt
import gc
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import asyncpg
import harness
import ledger_posting
import uvloop

from chassis import database, testing
from contracts import message
from ledger import handlers, history, main
from ledger.domain import chart

SIZES = (10_000, 1_000_000, 10_000_000)
RUNS = 5
CALLS = 400  # of each query in a run
BATCHES = 20  # of 512 credits in a run
BATCH = 512
AT_ONCE = 500_000  # transfers made by one statement
EVERY = dt.timedelta(seconds=17.28)  # 5,000 transfers a day: a larger history is a longer one, not a busier one
TARGET = 1.3
TENANT = message.TenantId("demo")
CLEARING = chart.system_account(TENANT, "clearing:yookassa:demo", "RUB")

# Each took effect up to five seconds before it was recorded, and one in a thousand up to an hour before.
_TRANSFERS = """
INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)
SELECT (
    lpad(to_hex((extract(epoch FROM recorded_at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0')
  )::uuid, 'demo', 'top_up', key, key,
  recorded_at - random() * CASE WHEN n % 1000 = 0 THEN interval '1 hour' ELSE interval '5 seconds' END,
  gen_random_uuid()
FROM (
  SELECT n, $3::timestamptz + $4::interval * n AS recorded_at, 'payment:' || gen_random_uuid() AS key
  FROM generate_series($1::bigint, $2::bigint) AS n
) AS planned
"""
_POSTINGS = """
INSERT INTO posting (account_id, sequence, transfer_id, amount_minor, balance_after_minor, recorded_at)
SELECT leg.*, $4::timestamptz + $5::interval * n
FROM (
  SELECT id, $2 + row_number() OVER (ORDER BY id) AS n FROM (
    SELECT id FROM transfer ORDER BY id DESC LIMIT $3
  ) AS newest
) AS numbered CROSS JOIN LATERAL (VALUES
  ($1::bigint, n, id, -100::bigint, -100 * n),
  ($1::bigint + 1 + n % 1000, 1 + (n - 1) / 1000, id, 100::bigint, 100 * (1 + (n - 1) / 1000))
) AS leg
"""
_SETTLE = """
UPDATE account SET balance_minor = newest.balance_after_minor, sequence = newest.sequence, version = newest.sequence,
  moved_at = now()
FROM account AS each CROSS JOIN LATERAL (
  SELECT sequence, balance_after_minor FROM posting WHERE account_id = each.id ORDER BY sequence DESC LIMIT 1
) AS newest
WHERE account.id = each.id
"""
# Every page of tables and keys, read once by the connection that will be measured.
_WARM_UP = """
SET LOCAL statement_timeout = '60s';
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT count(amount_minor) FROM posting;
SELECT count(occurred_at) FROM transfer;
SELECT count(amount_minor) FROM posting_summary;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT count(*) FROM (SELECT FROM posting ORDER BY account_id, sequence OFFSET 0) AS postings;
SELECT count(*) FROM (SELECT FROM transfer ORDER BY id OFFSET 0) AS transfers;
SELECT count(*) FROM (SELECT FROM posting_summary ORDER BY account_id, level, place OFFSET 0) AS summaries;
"""

Query = Callable[[], Awaitable[object]]


class Books(NamedTuple):
    """The books of one size, ready to be queried."""

    db: database.Database
    begin: dt.datetime
    transfers: int
    references: list[str]
    summarized_per_s: float

    @property
    def some_time(self) -> dt.datetime:
        """A random time of the history."""
        return self.begin + EVERY * random.uniform(0, self.transfers)


async def bench() -> None:
    """Make the books of every size, then measure each in turn, so that a busy minute of the machine affects all."""
    gc.set_threshold(*main.GC_THRESHOLD)
    sizes = [int(text) for text in sys.argv[1:] if text.isdigit()] or list(SIZES)
    async with contextlib.AsyncExitStack() as stack:
        books = [await stack.enter_async_context(of_size(size)) for size in sizes]
        measured: dict[str, list[list[float]]] = {}
        for measure in (queries, postings):  # postings come last, because they make small books grow
            for _ in range(RUNS):
                for place, each in enumerate(books):
                    for name, value in (await measure(each)).items():
                        measured.setdefault(name, [[] for _ in sizes])[place].append(value)
    rows = [_row(name, sizes, values) for name, values in measured.items()]
    rates = ", ".join(f"{each.summarized_per_s:,.0f}" for each in books)
    await harness.report(
        "Ledger history",
        rows,
        [
            "Columns: postings on the books, half of them on the account that is queried; 5,000 transfers a day.",
            f"Medians of {CALLS} calls, one at a time, over the wire; posting is one transaction of {BATCH} credits.",
            f"Median of {RUNS} runs, the sizes in turn, with the lowest and the highest.",
            f"Target: the largest costs at most {TARGET} times the smallest.",
            "The connection has read every page once before, as one of a running service has: those live long.",
            "The lines of a payment are found by a range index that is read whole: a millisecond for ten million.",
            "One transfer of a thousand is back-dated by up to an hour; a time in between reads 64 more postings.",
            f"Summarizing, behind the writers and by one connection: {rates} postings/s.",
        ],
    )


@contextlib.asynccontextmanager
async def of_size(size: int) -> AsyncIterator[Books]:
    """Make books that live for the block, summarized and vacuumed."""
    transfers = size // 2
    begin = dt.datetime.now(dt.UTC) - EVERY * (transfers + 1)
    async with harness.fresh_database(main.SERVICE) as url:
        admin_url = testing.Servers.of_environment().database(url.rpartition("/")[2])
        administrator = await asyncpg.connect(admin_url, server_settings={"search_path": "ledger"})
        try:
            await fill(administrator, transfers, begin)
            references = await administrator.fetch("SELECT reference FROM transfer ORDER BY random() LIMIT $1", CALLS)
            db = database.Database(url, schema="ledger", pool_size=1)
            started = time.perf_counter()
            while await history.timers.summarize_postings(db):
                pass
            summarized_per_s = size / (time.perf_counter() - started)
            await administrator.execute("VACUUM ANALYZE")
        finally:
            await administrator.close()
        async with db.transaction() as tx:
            await tx.execute(_WARM_UP, timeout=60)
        try:
            yield Books(db, begin, transfers, [row["reference"] for row in references], summarized_per_s)
        finally:
            await db.close()


async def fill(administrator: asyncpg.Connection, transfers: int, begin: dt.datetime) -> None:
    """Make accounts and their history by a few large statements."""
    await administrator.execute("SET session_replication_role = replica")
    wallets = [chart.user_account(TENANT, user_id, "RUB") for user_id in ledger_posting.WALLETS]
    await administrator.executemany(
        "INSERT INTO account (tenant, code, asset, kind, exponent, owner, overdraft_minor)"
        " VALUES ($1, $2, $3, $4, 2, $5, $6)",
        [(*each.name, each.kind, each.owner, each.overdraft_minor) for each in (CLEARING, *wallets)],
    )
    clearing_id = await administrator.fetchval("SELECT id FROM account WHERE kind = 'clearing'")
    for done in range(0, transfers, AT_ONCE):
        count = min(AT_ONCE, transfers - done)
        await administrator.execute(_TRANSFERS, done + 1, done + count, begin, EVERY)
        await administrator.execute(_POSTINGS, clearing_id, done, count, begin, EVERY)
    await administrator.execute(_SETTLE)


async def queries(books: Books) -> dict[str, float]:
    """Run every query; returns milliseconds."""
    db, account = books.db, CLEARING.name
    statement = await history.operations.statement_of(db, account)
    calls: dict[str, Query] = {
        "balance": lambda: history.operations.balance(db, account),
        "balance as recorded at a time": lambda: history.operations.balance(db, account, recorded_at=books.some_time),
        "balance as effective at a time": lambda: history.operations.balance(db, account, effective_at=books.some_time),
        "statement page of 50": lambda: history.operations.page(
            db, statement, before=random.randint(statement.last // 2, statement.last)
        ),
        "statement of one payment": lambda: history.operations.page(
            db, statement, reference=random.choice(books.references)
        ),
    }
    return {name: await median_ms(CALLS, call) for name, call in calls.items()}


async def postings(books: Books) -> dict[str, float]:
    """Post some batches of credits; returns milliseconds for one."""
    batches = iter([ledger_posting.paid(BATCH) for _ in range(BATCHES)])
    return {f"posting {BATCH} credits": await median_ms(BATCHES, lambda: handlers.settle(books.db, next(batches)))}


async def median_ms(calls: int, query: Query) -> float:
    """Return the median of the milliseconds that calls take."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        await query()
        times.append((time.perf_counter() - started) * 1_000)
    return statistics.median(times)


def _row(name: str, sizes: list[int], values: list[list[float]]) -> dict[str, object]:
    medians = [harness.Median(statistics.median(each), min(each), max(each)) for each in values]
    columns = {f"{size:,}, ms": median for size, median in zip(sizes, medians, strict=True)}
    return {"": name, **columns, "largest / smallest": medians[-1].value / medians[0].value}


if __name__ == "__main__":
    uvloop.run(bench())
