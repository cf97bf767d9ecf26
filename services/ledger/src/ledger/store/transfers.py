"""Transfers and their postings: written once, by COPY, and never again; read for a reversal."""

from collections.abc import Collection, Mapping
from typing import NamedTuple
from uuid import UUID

import asyncpg

from contracts import ledger
from contracts.message import TenantId
from ledger.domain import books, chart, lots, movements, provider, transfers

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
# Found over a block range index: ids grow with time, so a few pages hold all postings of a transfer.
_LEGS = """
SELECT transfer_id, account_id, account.tenant, code, asset, amount_minor
FROM posting JOIN account ON account.id = account_id
WHERE transfer_id = ANY($1::uuid[]) ORDER BY transfer_id, account_id
"""
_REVERSED = """
SELECT reverses, account_id, sum(amount_minor)::bigint AS amount_minor FROM transfer
JOIN posting ON transfer_id = transfer.id WHERE reverses = ANY($1::uuid[]) GROUP BY reverses, account_id
"""
_USES = """
SELECT coalesce(reverses, transfer.id) AS transfer_id, lot_id, sum(amount_minor)::bigint AS amount_minor
FROM transfer JOIN lot_use ON transfer_id = transfer.id
WHERE transfer.id = ANY($1::uuid[]) OR reverses = ANY($1::uuid[])
GROUP BY 1, 2 ORDER BY min(lot_use.id)
"""

Key = tuple[TenantId, ledger.TransferId]


class Undone(NamedTuple):
    """What reversals took from each account of transfers, and what is left of what these did to lots."""

    amounts: dict[UUID, dict[int, int]]
    uses: dict[UUID, list[tuple[UUID, int]]]

    @property
    def lot_ids(self) -> set[UUID]:
        """The lots that are meant."""
        return {lot_id for uses in self.uses.values() for lot_id, _ in uses}


class Read(NamedTuple):
    """A transfer as it was read for a reversal: its legs, by account id."""

    transfer: movements.Transfer
    legs: dict[int, movements.Leg]


async def known(connection: asyncpg.Connection, keys: Collection[provider.NaturalKey]) -> set[provider.NaturalKey]:
    """Give those of the natural keys that are on the books."""
    return {provider.NaturalKey(*row) for row in await connection.fetch(_KNOWN, *zip(*keys, strict=True))}


async def write_ahead(connection: asyncpg.Connection, written: Collection[movements.Transfer]) -> None:
    """Write transfers whose postings follow in the same transaction.

    Raises SerializationError when another transaction has written one of them meanwhile.
    """
    try:
        await connection.copy_records_to_table("transfer", records=written, columns=movements.Transfer._fields)
    except asyncpg.UniqueViolationError as overtaken:
        raise asyncpg.SerializationError("another transaction has credited the same payment") from overtaken


async def read(connection: asyncpg.Connection, keys: Collection[Key]) -> dict[Key, Read]:
    """Read transfers with their legs, which never change."""
    found = {}
    for row in await connection.fetch(_READ, *zip(*keys, strict=True)):
        transfer = movements.Transfer(*row.values())
        found[transfer.id] = Read(transfer, {})
    for transfer_id, account_id, tenant, code, asset, amount_minor in await connection.fetch(_LEGS, list(found)):
        found[transfer_id].legs[account_id] = movements.Leg(chart.AccountName(tenant, code, asset), amount_minor)
    return {(each.transfer.tenant, each.transfer.id): each for each in found.values()}


async def undone(connection: asyncpg.Connection, found: Mapping[Key, Read]) -> Undone:
    """Give what is undone of transfers already; to be read when their accounts are locked."""
    changes = Undone({}, {})
    if found:
        ids = [each.transfer.id for each in found.values()]
        for transfer_id, account_id, amount_minor in await connection.fetch(_REVERSED, ids):
            changes.amounts.setdefault(transfer_id, {})[account_id] = amount_minor
        for transfer_id, lot_id, amount_minor in await connection.fetch(_USES, ids):
            changes.uses.setdefault(transfer_id, []).append((lot_id, amount_minor))
    return changes


def reversible(found: Read, changes: Undone, by_id: Mapping[UUID, lots.Lot]) -> transfers.Reversible:
    """Put together what a reversal needs to know."""
    amounts = changes.amounts.get(found.transfer.id, {})
    uses = changes.uses.get(found.transfer.id, [])
    return transfers.Reversible(
        found.transfer,
        list(found.legs.values()),
        [amounts.get(account_id, 0) for account_id in found.legs],
        [lots.Share(by_id[lot_id], amount_minor) for lot_id, amount_minor in uses if amount_minor],
    )


async def add(connection: asyncpg.Connection, book: books.Books) -> None:
    """Write what was posted.

    COPY takes thousands of rows for half of what arrays cost; the triggers see it as the one statement it is, check it
    and bring the balances of the accounts up to date.
    """
    written = book.written
    if written.transfers:
        await connection.copy_records_to_table(
            "transfer", records=written.transfers, columns=movements.Transfer._fields
        )
    if written.postings:
        await connection.copy_records_to_table("posting", records=written.postings, columns=movements.Posting._fields)
