"""Every statement of the ledger's doors. Locks are taken in one order by everybody: transfers by natural key, holds,
then accounts by id; so no two transactions ever wait for each other in a circle.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis import database
from contracts import ledger
from contracts.message import TenantId, UserId
from ledger.domain import books, holds

_ENDINGS: dict[str, type[holds.Ending]] = {
    "captured": ledger.HoldCaptured,
    "released": ledger.HoldReleased,
    "expired": ledger.HoldExpired,
}

_ADD_TRANSFERS = """
INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::uuid[])
ON CONFLICT (tenant, kind, source_key) DO NOTHING RETURNING id
"""
_OPEN_ACCOUNTS = """
INSERT INTO account (tenant, code, asset, owner, overdraft_minor)
SELECT wanted.* FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::bigint[])
  AS wanted(tenant, code, asset, owner, overdraft_minor)
ORDER BY tenant, code, asset
ON CONFLICT DO NOTHING
"""
_LOCK_ACCOUNTS = """
SELECT id, tenant, code, asset, owner, overdraft_minor, balance_minor, held_minor, sequence, version
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted(tenant, code, asset) JOIN account USING (tenant, code, asset)
ORDER BY id FOR NO KEY UPDATE OF account
"""
_SAVE_ACCOUNTS = """
UPDATE account SET balance_minor = changed.balance_minor, held_minor = changed.held_minor,
  sequence = changed.sequence, version = changed.version
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
  AS changed(id, balance_minor, held_minor, sequence, version)
WHERE account.id = changed.id
"""
_LOCK_HOLD_ID = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_HOLD = """
SELECT tenant, id, owner, asset, amount_minor, reference, expires_at, state, answer::text AS answer, account_id,
  captured_minor, transfer_id, ending::text AS ending
FROM hold
"""
_LOCK_HOLD = f"{_HOLD} WHERE tenant = $1 AND id = $2 FOR NO KEY UPDATE"
_LOCK_DUE_HOLDS = f"""
{_HOLD} WHERE state = 'placed' AND expires_at <= now() ORDER BY expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
"""
_ADD_HOLD = """
INSERT INTO hold (tenant, id, owner, asset, amount_minor, reference, expires_at, state, answer, account_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_END_HOLDS = """
UPDATE hold SET state = ended.state, captured_minor = ended.captured_minor, transfer_id = ended.transfer_id,
  ending = ended.ending
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::jsonb[])
  AS ended(tenant, id, state, captured_minor, transfer_id, ending)
WHERE hold.tenant = ended.tenant AND hold.id = ended.id
"""


async def clock(tx: database.Tx) -> datetime:
    """Give the database's present moment, by which holds expire whatever the clocks of our processes say."""
    now: datetime = await (await database.driver(tx)).fetchval("SELECT clock_timestamp()")
    return now


async def add_transfers(tx: database.Tx, transfers: Sequence[books.Transfer]) -> set[UUID]:
    """Record transfers; gives the ids of those whose natural key was never used before.

    They go in by natural key, because two batches that meet on the same payments in different order would deadlock.
    """
    if not transfers:
        return set()
    ordered = sorted(transfers, key=lambda transfer: (transfer.tenant, transfer.kind, transfer.source_key))
    rows = await (await database.driver(tx)).fetch(_ADD_TRANSFERS, *zip(*ordered, strict=True))
    return {_uuid(row["id"]) for row in rows}


async def open_books(tx: database.Tx, openings: Collection[books.Opening]) -> books.Books:
    """Lock the accounts, opening those that are needed for the first time.

    New accounts come after all others, in the order of their names. Where another transaction has opened one of them
    a moment ago, the two may deadlock; the loser is tried again at once.
    """
    book = await lock_accounts(tx, [opening.name for opening in openings])
    missing = [opening for opening in openings if book.account(opening.name) is None]
    if missing:
        columns = zip(*((*opening.name, opening.owner, opening.overdraft_minor) for opening in missing), strict=True)
        await (await database.driver(tx)).execute(_OPEN_ACCOUNTS, *columns)
        book.add(await _locked(tx, [opening.name for opening in missing]))
    return book


async def lock_accounts(tx: database.Tx, names: Collection[books.AccountName]) -> books.Books:
    """Lock those of the accounts that exist, in the order of their ids."""
    return books.Books(await _locked(tx, names))


async def close_books(tx: database.Tx, book: books.Books) -> None:
    """Write what was posted and changed. Postings first: the database lets a balance move only by what is posted."""
    connection = await database.driver(tx)
    if book.postings:
        # COPY takes thousands of rows for half of what arrays cost; the triggers see it as the one statement it is.
        await connection.copy_records_to_table("posting", records=book.postings, columns=books.Posting._fields)
    changed = [
        (account.id, account.balance_minor, account.held_minor, account.sequence, account.version)
        for account in book.changed()
    ]
    if changed:
        await connection.execute(_SAVE_ACCOUNTS, *zip(*changed, strict=True))


async def find_or_reserve_hold(tx: database.Tx, tenant: TenantId, hold_id: ledger.HoldId) -> holds.Hold | None:
    """Give a hold that was asked for before; None means that this transaction alone may make it."""
    await (await database.driver(tx)).execute(_LOCK_HOLD_ID, f"{tenant}:{hold_id}")
    return await lock_hold(tx, tenant, hold_id)


async def lock_hold(tx: database.Tx, tenant: TenantId, hold_id: ledger.HoldId) -> holds.Hold | None:
    """Lock one hold, or give None when nobody asked for it."""
    row = await (await database.driver(tx)).fetchrow(_LOCK_HOLD, tenant, hold_id)
    return None if row is None else _hold(row)


async def lock_due_holds(tx: database.Tx, *, limit: int) -> list[holds.Hold]:
    """Lock holds whose time is over, the oldest first (index hold_due); those that others work on are left to them."""
    return [_hold(row) for row in await (await database.driver(tx)).fetch(_LOCK_DUE_HOLDS, limit)]


async def add_hold(tx: database.Tx, hold: holds.Hold) -> None:
    """Keep a new hold, placed or refused, with its answer."""
    await (await database.driver(tx)).execute(
        _ADD_HOLD,
        hold.tenant,
        hold.id,
        hold.owner,
        hold.asset,
        hold.amount_minor,
        hold.reference,
        hold.expires_at,
        hold.state,
        hold.answer.model_dump_json(),
        hold.account_id,
    )


async def end_holds(tx: database.Tx, ended: Sequence[holds.Hold]) -> None:
    """Keep how holds ended."""
    rows = [
        (hold.tenant, hold.id, hold.state, hold.captured_minor, hold.transfer_id, hold.ending.model_dump_json())
        for hold in ended
        if hold.ending is not None
    ]
    await (await database.driver(tx)).execute(_END_HOLDS, *zip(*rows, strict=True))


async def _locked(tx: database.Tx, names: Collection[books.AccountName]) -> list[books.Account]:
    rows = await (await database.driver(tx)).fetch(_LOCK_ACCOUNTS, *zip(*names, strict=True))
    return [_account(row) for row in rows]


def _account(row: asyncpg.Record) -> books.Account:
    account_id, tenant, code, asset, owner_id, *figures = row.values()
    owner = None if owner_id is None else UserId(_uuid(owner_id))
    return books.Account(account_id, books.AccountName(tenant, code, asset), owner, *figures)


def _hold(row: asyncpg.Record) -> holds.Hold:
    state = row["state"]
    answer = ledger.HoldRefused if state == "refused" else ledger.HoldPlaced
    return holds.Hold(
        **{
            **row,
            "answer": answer.model_validate_json(row["answer"]),
            "ending": _ENDINGS[state].model_validate_json(row["ending"]) if row["ending"] else None,
        }
    )


def _uuid(value: UUID) -> UUID:
    """Give the standard class for the driver's own, which is slow to hash."""
    return UUID(int=value.int)
