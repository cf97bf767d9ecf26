"""What one credit leaves behind: bytes on disk, bytes of write-ahead log, dead rows."""

import gc

import asyncpg
import harness
import ledger_posting
import uvloop

from chassis import database
from ledger import handlers, main

SIZES = (1, 16, 512)
CREDITS = 512 * 20

_FOOTPRINT = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal,
  (SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE schemaname = 'ledger')::float8 AS dead,
  (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
   WHERE relnamespace = 'ledger'::regnamespace AND relname IN ('transfer', 'posting', 'account'))::float8 AS books,
  (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
   WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r'
     AND (relname LIKE 'inbox%' OR relname = 'outbox'))::float8 AS messages
"""


async def bench() -> None:
    """Measure by how many credits share a transaction."""
    gc.set_threshold(*main.GC_THRESHOLD)
    rows = [{"credits per transaction": size, **await footprint(size)} for size in SIZES]
    await harness.report(
        "Footprint of a credit",
        rows,
        [
            f"{CREDITS:,} credits of one clearing account to 1,000 wallets, after as many that are not counted.",
            "The books are kept for ever; of the messages, outbox rows go when relayed, inbox rows after two weeks.",
            "Dead rows are versions of accounts, which autovacuum and page pruning take away.",
        ],
    )


async def footprint(size: int) -> dict[str, object]:
    """Post credits; returns what each of them left behind."""
    async with harness.fresh_database(main.SERVICE) as url:
        db = database.Database(url, schema="ledger", pool_size=1)
        connection = await asyncpg.connect(url)
        try:
            await post(db, size)
            before = await connection.fetchrow(_FOOTPRINT)
            await post(db, size)
            await db.close()  # a backend that ends reports what it counted
            after = await connection.fetchrow(_FOOTPRINT)
        finally:
            await connection.close()
    assert before is not None  # a SELECT without FROM always gives a row
    assert after is not None
    each = {name: float(after[name] - before[name]) / CREDITS for name in ("books", "messages", "wal", "dead")}
    return {
        "bytes of books": each["books"],
        "bytes of messages": each["messages"],
        "bytes of WAL": each["wal"],
        "dead rows": each["dead"],
    }


async def post(db: database.Database, size: int) -> None:
    """Post credits, `size` to a transaction."""
    for _ in range(CREDITS // size):
        await handlers.settle(db, ledger_posting.paid(size))


if __name__ == "__main__":
    uvloop.run(bench())
