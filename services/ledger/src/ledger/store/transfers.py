"""The tables `transfer` and `posting`: rows are only added, by COPY, and read for reversals."""

from collections.abc import Collection, Mapping
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis import database
from contracts import ledger
from ledger.domain import books, chart, double_entry, lots, provider, requirements, transfers

# LIMIT keeps each lookup a probe of the unique index, whatever the planner believed when it cached the plan.
_POSTED = """
SELECT wanted.*, found.id FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted(tenant, kind, source_key)
CROSS JOIN LATERAL (
  SELECT id FROM transfer
  WHERE transfer.tenant = wanted.tenant AND transfer.kind = wanted.kind AND transfer.source_key = wanted.source_key
  LIMIT 1
) AS found
"""
_READ = """
SELECT id, tenant, kind, source_key, reference, occurred_at, event_id, reverses FROM transfer
WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
"""
_NAMES = """
SELECT tenant, code, asset FROM unnest($1::uuid[]) AS wanted(id)
CROSS JOIN LATERAL postings_of(wanted.id) JOIN account ON account.id = account_id
"""
# A transfer and its reversals: the sum over them is what is left of it, of its legs and of its uses of lots alike.
_WITH_REVERSALS = """
unnest($1::uuid[]) AS wanted(original) CROSS JOIN LATERAL (
  SELECT original AS id UNION ALL SELECT id FROM transfer WHERE reverses = original
) AS member
"""
_LEFT = f"""
SELECT original, tenant, code, asset, sum(amount_minor)::bigint
FROM {_WITH_REVERSALS} CROSS JOIN LATERAL postings_of(member.id) JOIN account ON account.id = account_id
GROUP BY original, account.id ORDER BY original, account.id
"""
_USES = f"""
SELECT original, lot_id, sum(amount_minor)::bigint FROM {_WITH_REVERSALS} JOIN lot_use ON transfer_id = member.id
GROUP BY original, lot_id HAVING sum(amount_minor) <> 0 ORDER BY min(lot_use.id)
"""


class TransfersToReverse(NamedTuple):
    """Transfers that are to be reversed, and the accounts of their postings."""

    transfers: Mapping[ledger.TransferId, double_entry.Transfer]
    account_names: Collection[chart.AccountName]


async def posted(
    tx: database.Tx, keys: Collection[provider.NaturalKey]
) -> dict[provider.NaturalKey, ledger.TransferId]:
    """Return those of the natural keys whose transfers are posted, with the ids of these."""
    if not keys:
        return {}
    rows = await tx.fetch(_POSTED, *zip(*keys, strict=True))
    return {provider.NaturalKey(*key): ledger.TransferId(transfer_id) for *key, transfer_id in rows}


async def prewrite(tx: database.Tx, prewrites: Collection[double_entry.Transfer]) -> None:
    """Write transfers whose postings follow in the same transaction.

    Raises SerializationError when another transaction has written one of them meanwhile.
    """
    if not prewrites:
        return
    try:
        await tx.copy_records_to_table("transfer", records=prewrites, columns=double_entry.Transfer._fields)
    except asyncpg.UniqueViolationError as overtaken:
        raise asyncpg.SerializationError("another transaction has credited the same payment") from overtaken


async def read(tx: database.Tx, keys: Collection[requirements.TransferKey]) -> TransfersToReverse:
    """Read transfers and the accounts of their postings; neither ever changes."""
    if not keys:
        return TransfersToReverse({}, [])
    rows = await tx.fetch(_READ, *zip(*keys, strict=True))
    found = {row["id"]: double_entry.Transfer(*row) for row in rows}
    return TransfersToReverse(found, [chart.AccountName(*row) for row in await tx.fetch(_NAMES, list(found))])


async def reversible(
    tx: database.Tx, to_reverse: TransfersToReverse, lots_by_id: Mapping[UUID, lots.Lot]
) -> dict[requirements.TransferKey, transfers.ReversibleTransfer]:
    """Read what is left of transfers to reverse; their accounts must be locked."""
    if not to_reverse.transfers:
        return {}
    amounts: dict[UUID, dict[chart.AccountName, int]] = {}
    lot_uses: dict[UUID, list[lots.LotAllocation]] = {}
    for original, tenant, code, asset, amount_minor in await tx.fetch(_LEFT, list(to_reverse.transfers)):
        amounts.setdefault(original, {})[chart.AccountName(tenant, code, asset)] = amount_minor
    for original, lot_id, amount_minor in await tx.fetch(_USES, list(to_reverse.transfers)):
        lot_uses.setdefault(original, []).append(lots.LotAllocation(lots_by_id[lot_id], amount_minor))
    return {
        (transfer.tenant, transfer.id): transfers.ReversibleTransfer(
            transfer, transfers.Remaining(amounts[transfer.id], lot_uses.get(transfer.id, []))
        )
        for transfer in to_reverse.transfers.values()
    }


async def add(tx: database.Tx, book: books.Books) -> None:
    """Write new transfers and postings.

    COPY takes thousands of rows for half of what arrays cost. To the triggers it is one statement: they check it, and
    bring the balances of the accounts up to date.
    """
    for table, rows, columns in (
        ("transfer", book.transfers, double_entry.Transfer._fields),
        ("posting", book.postings, double_entry.Posting._fields),
    ):
        if rows:
            await tx.copy_records_to_table(table, records=rows, columns=columns)
