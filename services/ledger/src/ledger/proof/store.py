"""Sealed blocks of transfers, and the leaves that the rows themselves give.

The text that is hashed here is that of `proof.domain`, written once more in SQL: there it is read for one transfer,
here for thousands at a time, at a few microseconds each.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ledger.proof import domain

# Transfers of a range of numbers with their postings. Both are found by block range indexes: numbers and ids grow with
# time, so the postings of a range of numbers lie in a narrow range of ids. What lies there besides is not joined.
STRETCH = """
t AS MATERIALIZED (
  SELECT id, number, tenant, kind, source_key, reference, occurred_at, event_id, reverses
  FROM transfer WHERE number > $1 AND number <= $2
), m AS MATERIALIZED (
  SELECT number, tenant, account_id, posting.sequence, recorded_at, amount_minor, balance_after_minor
  FROM t JOIN posting ON transfer_id = t.id
  WHERE transfer_id BETWEEN (SELECT id FROM t ORDER BY id LIMIT 1) AND (SELECT id FROM t ORDER BY id DESC LIMIT 1)
), a AS MATERIALIZED (
  SELECT id, tenant AS owned_by, code, asset,
    format('{"account":%s,"asset":%s,"sequence":', to_json(code), to_json(asset)) AS label
  FROM (SELECT DISTINCT account_id FROM m ORDER BY account_id) AS moved JOIN account ON account.id = account_id
), p AS MATERIALIZED (
  SELECT m.*, owned_by, code, asset, label FROM m LEFT JOIN a ON a.id = account_id
), whole AS MATERIALIZED (
  SELECT number, sum(amount_minor) AS left_over, min(asset) AS asset, max(asset) AS other_asset,
    min(recorded_at) AS recorded_at, max(recorded_at) AS recorded_last,
    string_agg(format('%s%s,"amount_minor":%s,"balance_minor":%s}', label, sequence, amount_minor, balance_after_minor),
      ',' ORDER BY asset, code) AS legs
  FROM p GROUP BY number
)
"""
LEAF = """
sha256(textsend(format(
  '{"transfer":"%s","number":%s,"tenant":%s,"kind":%s,"source_key":%s,"reference":%s,"occurred_at_us":%s,'
  '"recorded_at_us":%s,"event":"%s","reverses":%s,"postings":[%s]}',
  id, number, to_json(tenant), to_json(kind), to_json(source_key), to_json(reference),
  trunc(extract(epoch FROM occurred_at) * 1000000),
  trunc(extract(epoch FROM coalesce(recorded_at, 'epoch')) * 1000000), event_id,
  coalesce('"' || reverses || '"', 'null'), legs)))
"""
# A stretch is sorted and joined as a whole; without room for it that happens on disk. The planner can't know how many
# rows it has, and would sort where it may hash.
ROOM = """
SET LOCAL work_mem = '128MB'; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_mergejoin = off
"""

_ONE_AT_A_TIME = 0x6B6F7365  # any number will do that nobody else locks in this database

_WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE relation = 'transfer'::regclass AND mode = 'RowExclusiveLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LEAVES = f"""
WITH {STRETCH}
SELECT number, {LEAF} AS hash, coalesce(recorded_at, 'epoch') FROM t LEFT JOIN whole USING (number) ORDER BY number
"""
_BLOCK = "SELECT number, first_number, last_number, transfers, root, previous, sealed_at, hash, leaves FROM block"
_HEADERS = """
SELECT number, first_number, last_number, transfers, root, previous, sealed_at FROM block
WHERE number >= $1 AND number <= $2 ORDER BY number LIMIT $3
"""
_ADD = """
INSERT INTO block (number, first_number, last_number, transfers, root, previous, sealed_at, hash, leaves)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_TRANSFER = """
SELECT id, number, tenant, kind, source_key, reference, occurred_at, (
  SELECT coalesce(min(recorded_at), 'epoch') FROM posting WHERE transfer_id = $1
) AS recorded_at, event_id, reverses
FROM transfer WHERE id = $1
"""
_LEGS = """
SELECT code, asset, posting.sequence, amount_minor, balance_after_minor
FROM posting JOIN account ON account.id = account_id WHERE transfer_id = $1
"""


class Written(NamedTuple):
    """A leaf that is not sealed yet, and when its transfer was recorded."""

    leaf: domain.Leaf
    recorded_at: datetime


async def horizon(connection: asyncpg.Connection) -> domain.Horizon:
    """Look how far the writers have come: first the number, then the writers, each in a statement of its own.

    A writer locks the table before it takes a number, and until its end, when everybody can see what it wrote.
    """
    newest = await connection.fetchval("SELECT pg_sequence_last_value('transfer_number_seq')")
    return domain.Horizon(newest or 0, frozenset(row[0] for row in await connection.fetch(_WRITERS)))


async def take_turn(connection: asyncpg.Connection) -> bool:
    """Become the one who seals, until the transaction ends; False when somebody else is. Writers do not notice."""
    is_ours: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME)
    return is_ours


async def unsealed(connection: asyncpg.Connection, *, after: int, upto: int) -> tuple[list[Written], datetime]:
    """Give the leaves of a range of numbers in their order, and the time by the database's clock."""
    await connection.execute(ROOM)
    rows = await connection.fetch(_LEAVES, after, upto)
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return [Written(domain.Leaf(number, hash_), recorded_at) for number, hash_, recorded_at in rows], now


async def leaves(connection: asyncpg.Connection, *, after: int, upto: int) -> list[domain.Leaf]:
    """Give the leaves of a range of numbers in their order, as the rows give them now."""
    await connection.execute(ROOM)
    return [domain.Leaf(number, hash_) for number, hash_, _ in await connection.fetch(_LEAVES, after, upto)]


async def newest(connection: asyncpg.Connection) -> domain.Sealed | None:
    """Give the last block of the chain; None when nothing is sealed yet."""
    row = await connection.fetchrow(f"{_BLOCK} ORDER BY number DESC LIMIT 1")
    return _sealed(row) if row else None


async def blocks(connection: asyncpg.Connection, *, after: int, limit: int) -> list[domain.Sealed]:
    """Give the blocks that follow a block number, in their order."""
    rows = await connection.fetch(f"{_BLOCK} WHERE number > $1 ORDER BY number LIMIT $2", after, limit)
    return [_sealed(row) for row in rows]


async def block_of(connection: asyncpg.Connection, number: int) -> domain.Sealed | None:
    """Give the block that a transfer's number belongs to; None while it is not sealed (index block_last)."""
    row = await connection.fetchrow(f"{_BLOCK} WHERE last_number >= $1 ORDER BY last_number LIMIT 1", number)
    return _sealed(row) if row and row["first_number"] <= number else None


async def headers(connection: asyncpg.Connection, *, first: int, last: int, limit: int) -> list[domain.Block]:
    """Give the blocks from one number to another, at most `limit`, without their leaves."""
    return [domain.Block(*row) for row in await connection.fetch(_HEADERS, first, last, limit)]


async def add(connection: asyncpg.Connection, sealed: Sequence[domain.Sealed]) -> None:
    """Write new blocks, for ever."""
    await connection.executemany(_ADD, [(*each.block, each.hash, each.leaves) for each in sealed])


async def transfer(connection: asyncpg.Connection, transfer_id: UUID) -> domain.Transfer | None:
    """Read one transfer with its postings."""
    row = await connection.fetchrow(_TRANSFER, transfer_id)
    if row is None:
        return None
    legs = [domain.Leg(*leg) for leg in await connection.fetch(_LEGS, transfer_id)]
    return domain.Transfer(*(*row, legs))


def _sealed(row: asyncpg.Record) -> domain.Sealed:
    *block, hash_, its_leaves = row
    return domain.Sealed(domain.Block(*block), hash_, its_leaves)
