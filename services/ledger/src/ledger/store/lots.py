"""The tables `lot` and `lot_use`: lots, and what transfers did to them."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from chassis import database
from ledger.domain import accounts, chart, lots

# The open lots of accounts (index lot_open), which are all that can be spent, held or released; and the lots, empty or
# not, that were used by a transfer to reverse or by its reversals so far.
_READ = """
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot
WHERE account_id = ANY($1::bigint[]) AND left_minor > 0
UNION
SELECT account_id, id, expires_at, left_minor, held_minor FROM lot WHERE id IN (
  SELECT lot_id FROM lot_use WHERE transfer_id = ANY($2::uuid[]) UNION ALL
  SELECT lot_id FROM transfer JOIN lot_use ON transfer_id = transfer.id WHERE reverses = ANY($2::uuid[])
)
"""
# Lots of a frozen account wait until it is unfrozen.
_EXPIRED = """
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


async def load(
    tx: database.Tx, loaded: Iterable[accounts.Account], to_reverse: Collection[UUID]
) -> dict[UUID, lots.Lot]:
    """Load the lots of accounts that keep lots into them; returns the lots by id. An account's lock covers its lots."""
    keeping = {account.id: account for account in loaded if account.definition.kind == "points"}
    by_id = {}
    if keeping:
        for account_id, lot_id, expires_at, *row in await tx.fetch(_READ, list(keeping), list(to_reverse)):
            values = lots.LotValues(*row)
            by_id[lot_id] = lots.Lot(lot_id, account_id, expires_at, values, loaded=values)
            keeping[account_id].own_lots.append(by_id[lot_id])
    return by_id


async def accounts_of_expired(tx: database.Tx, *, limit: int) -> list[chart.AccountName]:
    """Return the accounts of the oldest expired lots that still have something free (index lot_due)."""
    return [chart.AccountName(*row) for row in await tx.fetch(_EXPIRED, limit)]


async def save(tx: database.Tx, loaded: Iterable[accounts.Account], lot_uses: Sequence[lots.LotUse]) -> None:
    """Write new and changed lots, and what transfers did to lots, also to one that this batch made and emptied."""
    used = {use.lot_id for use in lot_uses}
    rows = [
        (lot.account_id, lot.id, lot.expires_at, *lot.current)
        for account in loaded
        for lot in account.own_lots
        if lot.current != lot.loaded or lot.id in used
    ]
    if rows:
        await tx.execute(_SAVE, *zip(*rows, strict=True))
    if lot_uses:
        await tx.copy_records_to_table("lot_use", records=lot_uses, columns=lots.LotUse._fields)
