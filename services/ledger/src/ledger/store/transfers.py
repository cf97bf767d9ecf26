"""Transfers and their postings: written once, by COPY, and never again; read for a reversal."""

from collections.abc import Collection, Mapping
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis import database
from contracts import ledger
from ledger.domain import books, chart, double_entry, lots, provider, requests, transfers

# LIMIT keeps each lookup a probe of the unique index, whatever the planner believed when it cached the plan.
_KNOWN = """
SELECT wanted.* FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted(tenant, kind, source_key)
CROSS JOIN LATERAL (
  SELECT FROM transfer
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
# A transfer and its reversals: what all of them moved is what is left of it, of accounts and of lots alike.
_CONCERNED = """
unnest($1::uuid[]) AS wanted(original) CROSS JOIN LATERAL (
  SELECT original AS id UNION ALL SELECT id FROM transfer WHERE reverses = original
) AS concerned
"""
_LEFT = f"""
SELECT original, tenant, code, asset, sum(amount_minor)::bigint
FROM {_CONCERNED} CROSS JOIN LATERAL postings_of(concerned.id) JOIN account ON account.id = account_id
GROUP BY original, account.id ORDER BY original, account.id
"""
_USES = f"""
SELECT original, lot_id, sum(amount_minor)::bigint FROM {_CONCERNED} JOIN lot_use ON transfer_id = concerned.id
GROUP BY original, lot_id HAVING sum(amount_minor) <> 0 ORDER BY min(lot_use.id)
"""


class Found(NamedTuple):
    """Transfers that are to be undone, and the accounts that they moved."""

    transfers: Mapping[ledger.TransferId, double_entry.Transfer]
    names: Collection[chart.AccountName]


async def known(tx: database.Tx, keys: Collection[provider.NaturalKey]) -> set[provider.NaturalKey]:
    """Give those of the natural keys that are on the books."""
    return {provider.NaturalKey(*row) for row in await tx.fetch(_KNOWN, *zip(*keys, strict=True))}


async def write_ahead(tx: database.Tx, written: Collection[double_entry.Transfer]) -> None:
    """Write transfers whose postings follow in the same transaction.

    Raises SerializationError when another transaction has written one of them meanwhile.
    """
    try:
        await tx.copy_records_to_table("transfer", records=written, columns=double_entry.Transfer._fields)
    except asyncpg.UniqueViolationError as overtaken:
        raise asyncpg.SerializationError("another transaction has credited the same payment") from overtaken


async def read(tx: database.Tx, keys: Collection[requests.TransferKey]) -> Found:
    """Read transfers and which accounts they moved, which never changes."""
    if not keys:
        return Found({}, [])
    rows = await tx.fetch(_READ, *zip(*keys, strict=True))
    found = {row["id"]: double_entry.Transfer(*row) for row in rows}
    return Found(found, [chart.AccountName(*row) for row in await tx.fetch(_NAMES, list(found))])


async def reversible(
    tx: database.Tx, found: Found, by_id: Mapping[UUID, lots.Lot]
) -> dict[requests.TransferKey, transfers.ReversibleTransfer]:
    """Give what is left of transfers; to be read when their accounts are locked."""
    if not found.transfers:
        return {}
    amounts: dict[UUID, dict[chart.AccountName, int]] = {}
    uses: dict[UUID, list[lots.LotAllocation]] = {}
    for original, tenant, code, asset, amount_minor in await tx.fetch(_LEFT, list(found.transfers)):
        amounts.setdefault(original, {})[chart.AccountName(tenant, code, asset)] = amount_minor
    for original, lot_id, amount_minor in await tx.fetch(_USES, list(found.transfers)):
        uses.setdefault(original, []).append(lots.LotAllocation(by_id[lot_id], amount_minor))
    return {
        (each.tenant, each.id): transfers.ReversibleTransfer(
            each, transfers.Remaining(amounts[each.id], uses.get(each.id, []))
        )
        for each in found.transfers.values()
    }


async def add(tx: database.Tx, book: books.Books) -> None:
    """Write what was posted.

    COPY takes thousands of rows for half of what arrays cost; the triggers see it as the one statement it is, check it
    and bring the balances of the accounts up to date.
    """
    for table, rows, columns in (
        ("transfer", book.transfers, double_entry.Transfer._fields),
        ("posting", book.postings, double_entry.Posting._fields),
    ):
        if rows:
            await tx.copy_records_to_table(table, records=rows, columns=columns)
