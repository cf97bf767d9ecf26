"""Lots, and what transfers did to them."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

import asyncpg

from ledger.domain import books, chart, lots

# The open lots of an account (index lot_open), and any that are named: what is refunded may be spent already.
_READ = """
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot
WHERE account_id = ANY($1::bigint[]) AND left_minor > 0
UNION
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot WHERE id = ANY($2::uuid[])
"""
# What is on a frozen account waits until it may be used again.
_DUE = """
SELECT DISTINCT tenant, code, asset FROM (
  SELECT tenant, code, asset FROM lot JOIN account ON account.id = account_id
  WHERE left_minor > lot.held_minor AND expires_at <= now() AND state = 'open' ORDER BY expires_at LIMIT $1
) AS due
"""
_SAVE = """
INSERT INTO lot (account_id, id, expires_at, left_minor, held_minor)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[])
ON CONFLICT (id) DO UPDATE SET left_minor = excluded.left_minor, held_minor = excluded.held_minor
"""


async def read(
    connection: asyncpg.Connection, accounts: Iterable[books.Account], named: Collection[UUID]
) -> dict[UUID, lots.Lot]:
    """Let the accounts that keep lots know theirs; the accounts are locked, so the lots are too."""
    keeping = {account.id: account for account in accounts if account.opening.kind == "points"}
    found = {}
    if keeping:
        for account_id, lot_id, expires_at, left, held in await connection.fetch(_READ, list(keeping), list(named)):
            lot = lots.Lot(lot_id, account_id, expires_at, left, held, was=(left, held))
            keeping[account_id].in_lots.append(lot)
            found[lot.id] = lot
    return found


async def due(connection: asyncpg.Connection, *, limit: int) -> list[chart.AccountName]:
    """Give the accounts of the lots whose time is over and that still have something free (index lot_due)."""
    return [chart.AccountName(*row) for row in await connection.fetch(_DUE, limit)]


async def save(connection: asyncpg.Connection, accounts: Iterable[books.Account], uses: Sequence[lots.Use]) -> None:
    """Write lots as they stand, new ones too, and what transfers did to them; also one that came and went at once."""
    used = {use.lot_id for use in uses}
    rows = [
        (lot.account_id, lot.id, lot.expires_at, lot.left_minor, lot.held_minor)
        for account in accounts
        for lot in account.in_lots
        if lot.figures() != lot.was or lot.id in used
    ]
    if rows:
        await connection.execute(_SAVE, *zip(*rows, strict=True))
    if uses:
        await connection.copy_records_to_table("lot_use", records=uses, columns=lots.Use._fields)
