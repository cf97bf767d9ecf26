"""The canonical texts of transfers, and the table `block`.

Canonical texts are written here and nowhere else, thousands at a time, at a few microseconds each.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis import database
from ledger.proof import domain

NUMBER_MAX = 2**63 - 1
BLOCKS_MAX = 100_000  # at once

# Transfers of a range of numbers with their postings. Both are found by block range indexes: numbers and ids grow with
# time, so the postings of a range of numbers lie in a narrow range of ids. Others in that range are not joined.
#
# The text is JSON without spaces, postings by asset and account, times in microseconds of UTC.
RANGE = """
t AS MATERIALIZED (
  SELECT id, number, tenant, kind, source_key, reference, occurred_at, event_id, reverses
  FROM transfer WHERE number > $1 AND number <= $2
), m AS MATERIALIZED (
  SELECT number, tenant, account_id, posting.sequence, recorded_at, amount_minor, balance_after_minor
  FROM t JOIN posting ON transfer_id = t.id
  WHERE transfer_id BETWEEN (SELECT id FROM t ORDER BY id LIMIT 1) AND (SELECT id FROM t ORDER BY id DESC LIMIT 1)
), a AS MATERIALIZED (
  SELECT id, tenant AS owned_by, code, asset,
    format('{"account":%s,"asset":%s,"sequence":', to_json(code), to_json(asset)) AS json_head
  FROM (SELECT DISTINCT account_id FROM m ORDER BY account_id) AS moved JOIN account ON account.id = account_id
), p AS MATERIALIZED (
  SELECT m.*, owned_by, code, asset, coalesce(json_head, format('{"account":%s,"sequence":', account_id)) AS json_head
  FROM m LEFT JOIN a ON a.id = account_id
), whole AS MATERIALIZED (
  SELECT number, sum(amount_minor) AS left_over, sum(greatest(amount_minor, 0)) AS credited,
    min(asset) AS asset, max(asset) AS other_asset, min(recorded_at) AS recorded_at, max(recorded_at) AS recorded_last,
    string_agg(
      format('%s%s,"amount_minor":%s,"balance_minor":%s}', json_head, sequence, amount_minor, balance_after_minor),
      ',' ORDER BY asset, code
    ) AS legs
  FROM p GROUP BY number
), canonical AS (
  SELECT id, number, format(
    '{"transfer":"%s","number":%s,"tenant":%s,"kind":%s,"source_key":%s,"reference":%s,"occurred_at_us":%s,'
    '"recorded_at_us":%s,"event":"%s","reverses":%s,"postings":[%s]}',
    id, number, to_json(tenant), to_json(kind), to_json(source_key), to_json(reference),
    trunc(extract(epoch FROM occurred_at) * 1000000),
    trunc(extract(epoch FROM coalesce(recorded_at, 'epoch')) * 1000000), event_id,
    coalesce('"' || reverses || '"', 'null'), legs) AS text
  FROM t LEFT JOIN whole USING (number)
)
"""
LEAF = "sha256(textsend(text))"

_SEALING_LOCK = 0x6B6F7365  # any number that nothing else locks in this database

# A range is sorted and joined as a whole; without enough memory that happens on disk. The planner can't know how many
# rows it has, and would sort where it may hash.
_FOR_RANGES = """
SET LOCAL work_mem = '128MB'; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_mergejoin = off
"""
_WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE relation = 'transfer'::regclass AND mode = 'RowExclusiveLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_COLUMNS = "number, first_number, last_number, transfers, root, previous, sealed_at, hash"


async def prepare_for_ranges(tx: database.Tx) -> None:
    """Set memory and planner of the transaction for reading ranges of transfers."""
    await tx.execute(_FOR_RANGES)


async def horizon(tx: database.Tx) -> domain.Horizon:
    """Read the newest number and after it, in a statement of its own, the transactions that are writing.

    A writer locks the table before it takes a number and until it ends, when its rows become visible.
    """
    newest = await tx.fetchval("SELECT pg_sequence_last_value(to_regclass('transfer_number_seq'))")
    return domain.Horizon(newest or 0, frozenset(row[0] for row in await tx.fetch(_WRITERS)))


async def lock_sealing(tx: database.Tx) -> datetime | None:
    """Take the lock of sealing until the transaction ends; it blocks no writer.

    Returns the time by the database's clock; None while another process has the lock.
    """
    sql = "SELECT clock_timestamp() WHERE pg_try_advisory_xact_lock($1)"
    at: datetime | None = await tx.fetchval(sql, _SEALING_LOCK)
    return at


async def transfers(tx: database.Tx, *, after: int, upto: int) -> list[domain.CanonicalTransfer]:
    """Return the transfers of a range of numbers in their order, as the rows are now."""
    await prepare_for_ranges(tx)
    sql = f"WITH {RANGE} SELECT number, text FROM canonical ORDER BY number"
    return [domain.CanonicalTransfer(*row) for row in await tx.fetch(sql, after, upto)]


async def transfer(tx: database.Tx, transfer_id: UUID) -> domain.CanonicalTransfer | None:
    """Return one transfer as its rows are now; None when it is unknown."""
    number = await tx.fetchval("SELECT number FROM transfer WHERE id = $1", transfer_id)
    if number is None:
        return None
    found = await transfers(tx, after=number - 1, upto=number)
    return next(each for each in found if each.content["transfer"] == str(transfer_id))


async def last_block(tx: database.Tx) -> domain.Block | None:
    """Return the last block of the chain; None when nothing is sealed yet."""
    row = await tx.fetchrow(f"SELECT {_COLUMNS}, leaves FROM block ORDER BY number DESC LIMIT 1")
    return domain.Block(*row) if row else None


async def block_of(tx: database.Tx, number: int) -> domain.Block | None:
    """Return the block of a transfer's number; None while it is not sealed (index block_last)."""
    sql = f"SELECT {_COLUMNS}, leaves FROM block WHERE last_number >= $1 ORDER BY last_number LIMIT 1"
    row = await tx.fetchrow(sql, number)
    return domain.Block(*row) if row and row["first_number"] <= number else None


async def blocks_after(
    tx: database.Tx,
    number: int,
    *,
    upto: int = NUMBER_MAX,
    limit: int = BLOCKS_MAX,
    with_leaves: bool = True,
) -> tuple[domain.Block | None, list[domain.Block]]:
    """Return the block with a number, None when there is none, and the blocks that follow it in their order."""
    sql = f"""
    SELECT {_COLUMNS}, CASE WHEN $4 THEN leaves ELSE '' END FROM block
    WHERE number BETWEEN $1 AND $2 ORDER BY number LIMIT $3
    """
    blocks = [domain.Block(*row) for row in await tx.fetch(sql, number, upto, limit + 1, with_leaves)]
    before = blocks.pop(0) if blocks and blocks[0].number == number else None
    return before, blocks[:limit]


async def add(tx: database.Tx, sealed: Sequence[domain.Block]) -> None:
    """Write new blocks. They can't be changed afterwards."""
    sql = f"INSERT INTO block ({_COLUMNS}, leaves) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    await tx.executemany(sql, sealed)
