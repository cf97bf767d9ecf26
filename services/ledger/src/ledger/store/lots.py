"""Lots, and what transfers did to them."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from chassis import database
from ledger.domain import accounts, chart, lots

# The open lots of accounts (index lot_open), which are all that can be spent, held or freed; and those, empty or not,
# that were used by a transfer which is to be undone or by what undid it so far.
_READ = """
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot
WHERE account_id = ANY($1::bigint[]) AND left_minor > 0
UNION
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot WHERE id IN (
  SELECT lot_id FROM lot_use WHERE transfer_id = ANY($2::uuid[]) UNION ALL
  SELECT lot_id FROM transfer JOIN lot_use ON transfer_id = transfer.id WHERE reverses = ANY($2::uuid[])
)
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


async def read(tx: database.Tx, opened: Iterable[accounts.Account], undone: Collection[UUID]) -> dict[UUID, lots.Lot]:
    """Let the accounts that keep lots know theirs; the accounts are locked, so the lots are too."""
    keeping = {account.id: account for account in opened if account.definition.kind == "points"}
    found = {}
    if keeping:
        for account_id, lot_id, expires_at, *figures in await tx.fetch(_READ, list(keeping), list(undone)):
            now = lots.LotValues(*figures)
            found[lot_id] = lots.Lot(lot_id, account_id, expires_at, now, loaded=now)
            keeping[account_id].own_lots.append(found[lot_id])
    return found


async def due(tx: database.Tx, *, limit: int) -> list[chart.AccountName]:
    """Give the accounts of the lots whose time is over and that still have something free (index lot_due)."""
    return [chart.AccountName(*row) for row in await tx.fetch(_DUE, limit)]


async def save(tx: database.Tx, opened: Iterable[accounts.Account], uses: Sequence[lots.LotUse]) -> None:
    """Write lots as they stand, new ones too, and what transfers did to them; also one that came and went at once."""
    used = {use.lot_id for use in uses}
    rows = [
        (lot.account_id, lot.id, lot.expires_at, *lot.current)
        for account in opened
        for lot in account.own_lots
        if lot.current != lot.loaded or lot.id in used
    ]
    if rows:
        await tx.execute(_SAVE, *zip(*rows, strict=True))
    if uses:
        await tx.copy_records_to_table("lot_use", records=uses, columns=lots.LotUse._fields)
