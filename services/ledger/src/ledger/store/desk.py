"""Everything that a list of requests needs, read and locked in as few statements as can be, and written back."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
from pydantic_core import to_json

from chassis import database, envelope
from contracts.message import REGISTRY, TenantId
from ledger.domain import books, chart, requests
from ledger.store import accounts, holds, lots, transfers

Made = TypeVar("Made")

_EARLIER = """
SELECT tenant, key, type, body::text, answer_type, answer::text FROM request
WHERE (tenant, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_FREEZE = """
INSERT INTO request (tenant, key, type, body, answer_type, answer, settled_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::jsonb[], $7::timestamptz[])
"""


class WrittenInVain(Exception):  # noqa: N818 - tells what to do: again, and not ahead
    """A payment whose transfer was written ahead was refused; the transaction must not be committed."""


async def open_desk(
    tx: database.Tx, asked: Sequence[requests.Request], *, is_ahead: bool = False, is_dry_run: bool = False
) -> requests.Batch:
    """Read and lock all that the requests need. A dry run locks nothing and opens accounts only in memory.

    With `is_ahead` the transfers of top-ups are written before the locks are taken: nearly none is refused, and
    meanwhile another transaction can have the accounts that all share.
    """
    needs = requests.requirements_of(asked)
    known = await transfers.known(tx, needs.natural_keys) if needs.moved else set()
    ahead = {}
    if is_ahead:
        ahead = {event_id: move.transfer(envelope.uuid7(), event_id) for event_id, move in needs.top_ups(known)}
    if ahead:
        await transfers.write_ahead(tx, ahead.values())
    held = await holds.lock(tx, needs.hold_ids, is_dry_run=is_dry_run)
    desk = await _open(tx, needs, held, is_dry_run=is_dry_run)
    desk.known, desk.ahead = known, ahead
    return desk


async def open_due_holds(tx: database.Tx, *, limit: int) -> requests.Batch:
    """Lock the oldest holds whose time is over, with their accounts."""
    return await _open(tx, requests.Requirements(), await holds.lock_due(tx, limit=limit))


async def open_due_lots(tx: database.Tx, *, limit: int) -> requests.Batch:
    """Lock the accounts of lots whose time is over, and those that they expire to."""
    needs = requests.Requirements()
    for name in await lots.due(tx, limit=limit):
        needs.read(chart.definition_of(name))
        needs.open(chart.system_account(name.tenant, "breakage", name.asset))
    return await _open(tx, needs, holds.Found())


async def close_desk(tx: database.Tx, desk: requests.Batch, *, meanwhile: Callable[[], Made]) -> Made:
    """Write what was posted and changed, and freeze the outcomes; gives what is made meanwhile.

    Raises SerializationError when another transaction has settled one of the requests meanwhile: two that lock no
    account in common can't know of each other before. Whoever tries again learns what the other was answered. Raises
    WrittenInVain.
    """
    if desk.ahead:
        raise WrittenInVain
    writing = asyncio.create_task(_write(tx, desk))
    try:
        await asyncio.sleep(0)  # the postings are on their way, and PostgreSQL has to check them
        return meanwhile()
    finally:
        await writing


async def _write(tx: database.Tx, desk: requests.Batch) -> None:
    try:
        await transfers.add(tx, desk.book)
        await accounts.save(tx, desk.book.accounts.values())
        await lots.save(tx, desk.book.accounts.values(), desk.book.uses)
        await holds.save(tx, desk.known_holds.values())
        if desk.frozen:
            rows = sorted(_frozen(*each, desk.book.at) for each in desk.frozen)  # two with equal keys wait in a line
            await tx.execute(_FREEZE, *zip(*rows, strict=True))
    except asyncpg.UniqueViolationError as overtaken:
        raise asyncpg.SerializationError("another transaction has settled the same request") from overtaken


async def _open(
    tx: database.Tx, needs: requests.Requirements, held: holds.Found, *, is_dry_run: bool = False
) -> requests.Batch:
    undone = await transfers.read(tx, needs.transfer_ids)
    needs.read(*map(chart.definition_of, undone.names))
    needs.hold_on(held.names)
    needs.complete()
    opened, times = await accounts.take(tx, needs, is_dry_run=is_dry_run)
    # Only now nobody else can change what is read below, and the clock can't fall behind a posting of these accounts.
    at: datetime = max([await tx.fetchval("SELECT clock_timestamp()"), *times])
    by_id = await lots.read(tx, opened, undone.transfers)
    return requests.Batch(
        books.Books(opened, at=at, new_id=envelope.uuid7),
        needs,
        known_holds=holds.restored(held, by_id),
        reversible=await transfers.reversible(tx, undone, by_id),
        earlier=await _earlier(tx, needs.keys),
    )


async def _earlier(
    tx: database.Tx, keys: Sequence[requests.RequestKey]
) -> dict[requests.RequestKey, requests.SettledRequest]:
    if not keys:
        return {}
    rows = await tx.fetch(_EARLIER, *zip(*keys, strict=True))
    return {
        requests.RequestKey(TenantId(tenant), key): requests.SettledRequest(
            REGISTRY[asked_type].model_validate_json(body),
            REGISTRY[answer_type].model_validate_json(answer),  # type: ignore[arg-type]  # nothing but answers is kept
        )
        for tenant, key, asked_type, body, answer_type, answer in rows
    }


def _frozen(key: requests.RequestKey, request: requests.Request, answer: Any, at: datetime) -> tuple[Any, ...]:
    message = request.message
    return (*key, message.TYPE, message.model_dump_json(), answer.TYPE, to_json(answer).decode(), at)
