"""What was: balances of any time and the lines of statements. Everything here reads what can't change any more."""

import typing
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from contracts import ledger
from ledger.domain import books, chart
from ledger.history import domain

_STANDING = """
SELECT id, exponent, balance_minor, held_minor, sequence, moved_at, clock_timestamp() FROM account
WHERE tenant = $1 AND code = $2 AND asset = $3
"""
# Waits for whoever writes to the account at this moment. Its time was taken under the lock, so after it no other can
# record anything before the clock that is read here.
_STANDING_ALONE = f"{_STANDING} FOR SHARE"
_RECORDED = "SELECT sequence_at($1, $2, $3, $4)"
_BALANCE_AFTER = "SELECT balance_after_minor FROM posting WHERE account_id = $1 AND sequence = $2"
_EFFECTIVE = "SELECT effective_balance($1, $2, $3)"
_SUMMARIZE = "SELECT summarize_postings($1)"

# OFFSET 0 keeps each transfer a probe of its key, whatever the planner believed when it cached the plan.
_LINES = """
SELECT sequence, transfer_id, kind, reference, reverses, occurred_at, recorded_at, amount_minor, balance_after_minor
FROM (
  SELECT * FROM posting WHERE account_id = $1 AND sequence BETWEEN $2 AND $3 ORDER BY sequence {order} LIMIT $4
) AS line CROSS JOIN LATERAL (
  SELECT kind, reference, reverses, occurred_at FROM transfer WHERE id = transfer_id OFFSET 0
) AS transfer
ORDER BY sequence {order}
"""
_NEWEST_FIRST, _OLDEST_FIRST = _LINES.format(order="DESC"), _LINES.format(order="ASC")
# Where the reference is the natural key too, as for payments, the unique constraint finds it for every kind; the index
# transfer_reference has all others.
_REFERRING = """
SELECT id, kind, reference, reverses, occurred_at FROM transfer
WHERE tenant = $1 AND reference = $2 AND reference <> source_key
UNION ALL
SELECT id, kind, reference, reverses, occurred_at FROM transfer
WHERE tenant = $1 AND kind = ANY($3::text[]) AND source_key = $2 AND reference = $2
LIMIT $4
"""
_REFERRING_LINES = f"""
SELECT sequence, id, kind, reference, reverses, occurred_at, recorded_at, amount_minor, balance_after_minor
FROM ({_REFERRING}) AS transfer
CROSS JOIN LATERAL postings_of(id) AS line
WHERE account_id = $5 AND sequence BETWEEN $6 AND $7
ORDER BY sequence DESC
"""

_KINDS = list(typing.get_args(ledger.TransferKind))


async def standing(
    connection: asyncpg.Connection, name: chart.AccountName, *, is_alone: bool = False
) -> domain.Standing:
    """Read an account as it stands; `is_alone` waits for its writers and keeps others out until the transaction ends.

    Raises NeverOpened.
    """
    row = await connection.fetchrow(_STANDING_ALONE if is_alone else _STANDING, *name)
    if row is None:
        raise domain.NeverOpened(f"The account {name.code} was never used for {name.asset}.")
    return domain.Standing(*row)


async def sequence_at(
    connection: asyncpg.Connection, account_id: books.AccountId, at: datetime, *, through: int, after: int = 0
) -> int:
    """Give the last posting that was recorded at or before `at`, looking from `after` to `through`."""
    found: int = await connection.fetchval(_RECORDED, account_id, after, through, at)
    return found


async def balance_after(connection: asyncpg.Connection, account_id: books.AccountId, sequence: int) -> int:
    """Give the balance right after a posting; before the first it is nothing."""
    if not sequence:
        return 0
    balance_minor: int | None = await connection.fetchval(_BALANCE_AFTER, account_id, sequence)
    assert balance_minor is not None, "an account's postings have no gap"
    return balance_minor


async def effective_balance(
    connection: asyncpg.Connection, account_id: books.AccountId, at: datetime, *, through: int
) -> int:
    """Give the sum of the postings up to `through` that took effect at or before `at`."""
    return int(await connection.fetchval(_EFFECTIVE, account_id, through, at))


async def lines(
    connection: asyncpg.Connection,
    account_id: books.AccountId,
    *,
    first: int,
    last: int,
    limit: int,
    is_newest_first: bool,
) -> list[domain.Line]:
    """Read the lines of postings in a row, at most `limit` of them from the one end or the other."""
    sql = _NEWEST_FIRST if is_newest_first else _OLDEST_FIRST
    return [domain.Line(*row) for row in await connection.fetch(sql, account_id, first, last, limit)]


async def referring_lines(
    connection: asyncpg.Connection, span: domain.Span, reference: str, *, limit: int
) -> list[domain.Line]:
    """Read the lines of transfers with this reference, the newest first. Raises ReferenceTooBroad above `limit`."""
    asked = (span.name.tenant, reference, _KINDS, limit + 1)
    if len(await connection.fetch(_REFERRING, *asked)) > limit:
        raise domain.ReferenceTooBroad(f"More than {limit:,} transfers have the reference {reference}.")
    rows: Sequence[asyncpg.Record] = await connection.fetch(
        _REFERRING_LINES, *asked, span.account_id, span.first, span.last
    )
    return [domain.Line(*row) for row in rows]


async def summarize(connection: asyncpg.Connection, *, limit: int) -> int:
    """Sum up at most so many stretches of 64 postings; gives how many there were, 0 also when another one is at it."""
    done: int = await connection.fetchval(_SUMMARIZE, limit)
    return done
