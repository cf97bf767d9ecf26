"""How fast a history is verified and sealed: postings per second of `ledger verify`, transfers per second sealed.

The history is written by plain SQL past every trigger, because writing is not what is measured: credits from one
clearing account to many wallets, as a business has them. A number on the command line is how many postings.
"""

import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
import harness
import uvloop

from chassis import database, testing
from ledger import main
from ledger.proof import timers, verify

RUNS = 5
TARGET = 200_000
POSTINGS = next((int(argument) for argument in sys.argv[1:] if argument.isdecimal()), 1_000_000)
POSTINGS_PER_WALLET = 50
STEP = 500_000
ACCOUNTS = """
INSERT INTO account (tenant, code, asset, kind, exponent, overdraft_minor)
VALUES ('demo', 'clearing:yookassa:demo', 'RUB', 'clearing', 2, 9000000000000000);
INSERT INTO account (tenant, code, asset, kind, exponent, owner, overdraft_minor)
SELECT 'demo', format('user:%s:wallet', owner), 'RUB', 'wallet', 2, owner, 0
FROM (SELECT gen_random_uuid() AS owner FROM generate_series(1, {wallets})) AS made
"""
# Twenty ids per millisecond, which grow as the service's own do.
TRANSFERS = """
CREATE TEMP TABLE made AS SELECT place, (
  lpad(to_hex(1767225600000 + place / 20), 12, '0') || '7' || lpad(to_hex(place % 20 * 200), 3, '0') || '8'
  || substr(md5(place::text), 1, 15)
)::uuid AS id, '2026-01-01Z'::timestamptz + place * interval '50 microseconds' AS at
FROM generate_series({begin}::bigint, {end}::bigint) AS place;
INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)
SELECT id, 'demo', 'top_up', key, key, at, id
FROM (SELECT *, format('payment:%s', md5(place::text)::uuid) AS key FROM made) AS paid ORDER BY place;
INSERT INTO posting
SELECT 1, place + 1, id, -100, -100 * (place + 1), at FROM made
UNION ALL
SELECT 2 + place * 7919 % {wallets}, place / {wallets} + 1, id, 100, 100 * (place / {wallets} + 1), at FROM made
ORDER BY 3, 1;
DROP TABLE made
"""
BALANCES = """
UPDATE account SET sequence = postings, version = postings, balance_minor = summed
FROM (
  SELECT account_id, count(*) AS postings, sum(amount_minor)::bigint AS summed FROM posting GROUP BY account_id
) AS posted WHERE account_id = id
"""


async def bench() -> None:
    """Fill one database, then seal and verify it several times."""
    async with harness.fresh_database(main.SERVICE) as url:
        administrator = testing.Servers.of_environment().database(url.rpartition("/")[2])
        connection = await asyncpg.connect(
            administrator,
            command_timeout=3_600,
            server_settings={"search_path": "ledger", "session_replication_role": "replica"},
        )
        db = database.Database(url, schema="ledger", pool_size=2)
        try:
            await fill(connection)
            sealed = await harness.median_of(RUNS, sealing(db, connection))
            proved = await harness.median_of(RUNS, verifying(db))
        finally:
            await db.close()
            await connection.close()
    await harness.report(
        "Ledger proof",
        [
            {"what": "sealing, transfers/s", "rate": sealed},
            {"what": "ledger verify, postings/s", "rate": proved},
        ],
        [
            f"{POSTINGS:,} postings on one clearing account and {POSTINGS // 2 // POSTINGS_PER_WALLET:,} wallets.",
            f"All {POSTINGS // 2:,} transfers are sealed; {verify.READERS} readers verify them.",
            "Sealing reads transfers with their postings, hashes them and writes blocks of 1,024; one worker does it.",
            f"Median of {RUNS} runs, with the lowest and the highest. Target of verification: at least {TARGET:,}.",
        ],
    )


async def fill(connection: asyncpg.Connection) -> None:
    """Write the history, and analyze and index it as autovacuum would."""
    wallets, transfers = POSTINGS // 2 // POSTINGS_PER_WALLET, POSTINGS // 2
    await connection.execute(ACCOUNTS.format(wallets=wallets))
    for begin in range(0, transfers, STEP):
        end = min(begin + STEP, transfers) - 1
        await connection.execute(TRANSFERS.format(begin=begin, end=end, wallets=wallets))
    await connection.execute(BALANCES)
    for table in ("account", "transfer", "posting"):
        await connection.execute(f"VACUUM ANALYZE {table}")


def sealing(db: database.Database, connection: asyncpg.Connection) -> Callable[[], Awaitable[float]]:
    """Return a measurement of sealing everything anew, in transfers per second."""

    async def measure() -> float:
        await connection.execute("TRUNCATE block")
        sealer = timers.Sealer(db, seal_after_s=0)
        started = time.perf_counter()
        while sealer.sealed_upto < POSTINGS // 2:
            await sealer.tick()
        return POSTINGS / 2 / (time.perf_counter() - started)

    return measure


def verifying(db: database.Database) -> Callable[[], Awaitable[float]]:
    """Return a measurement of a whole verification, in postings per second."""

    async def measure() -> float:
        started = time.perf_counter()
        verification = await verify.run(db)
        took_s = time.perf_counter() - started
        assert verification.is_sound, verify.render(verification)
        assert sum(totals.postings for totals in verification.totals) == POSTINGS
        return POSTINGS / took_s

    return measure


if __name__ == "__main__":
    uvloop.run(bench())
