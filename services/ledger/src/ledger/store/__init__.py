"""The rows of a batch: what its requests require is loaded and locked, and what settling them changed is saved.

Loading takes these steps in this order, because each names the rows of the next:

1. `domain.requirements` reads from the messages what they require.
2. The transfers of payments that are not posted yet are written before any lock is taken (`prewrite`).
3. Holds are locked; they and the transfers to reverse name their accounts.
4. Accounts are locked. From here on no other transaction can change what is read, and the rest is read.

Every transaction locks holds before accounts and both in the order of their names, so two of them never deadlock.
"""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from chassis import database, envelope, outbox
from ledger.domain import batches, books, double_entry, provider, requests, requirements
from ledger.store import accounts, holds, lots, outcomes, transfers


class PrewriteRefused(Exception):  # noqa: N818 - tells the caller to roll back and to settle again without prewrites
    """A payment whose transfer is written already is refused, so the transaction must be rolled back."""


async def load(
    tx: database.Tx, to_settle: Sequence[requests.Request], *, prewrite: bool = False, is_dry_run: bool = False
) -> batches.Batch:
    """Load and lock what requests require. A dry run locks nothing, and opens accounts in memory only.

    With `prewrite` the transfers of payments are written before the accounts are locked: a payment is hardly ever
    refused, and meanwhile another transaction can hold the lock of the clearing account that all of them share.
    """
    required = requirements.of_requests(to_settle)
    posted = await transfers.posted(tx, required.natural_keys)
    required.transfer_keys |= {(key.tenant, posted[key]) for key in required.reversed_keys if key in posted}
    prewrites = required.top_ups(posted, new_id=envelope.uuid7) if prewrite else {}
    await transfers.prewrite(tx, prewrites.values())
    locked = await holds.lock(tx, required.hold_keys, is_dry_run=is_dry_run)
    return await _load(tx, required, locked, posted_keys=set(posted), prewrites=prewrites, is_dry_run=is_dry_run)


async def load_expired_holds(tx: database.Tx, *, limit: int) -> batches.Batch:
    """Load and lock the oldest placed holds whose time is over, and their accounts."""
    return await _load(tx, requirements.Requirements(), await holds.lock_expired(tx, limit=limit))


async def load_expired_lots(tx: database.Tx, *, limit: int) -> batches.Batch:
    """Load and lock the accounts of the oldest expired lots, and the accounts of breakage."""
    names = await lots.accounts_of_expired(tx, limit=limit)
    return await _load(tx, requirements.of_expired_lots(names), holds.LockedHolds())


async def save(
    tx: database.Tx,
    batch: batches.Batch,
    events: Sequence[outbox.OutboxMessage],
    *,
    causes: Sequence[envelope.Cause] | None = None,
) -> None:
    """Save what a batch changed and the outcomes of its commands, and put its events into the outbox.

    While PostgreSQL checks the postings, the events are encoded; `causes` has one cause for each. Raises
    PrewriteRefused, and SerializationError when another transaction has settled one of the requests meanwhile: two that
    lock no account in common don't see each other before. The one that is tried again finds what the other answered.
    """
    if batch.prewrites:
        raise PrewriteRefused
    saving = asyncio.create_task(_save(tx, batch))
    try:
        await asyncio.sleep(0)  # lets the task send the postings
        rows = outbox.rows_of(tx, events, causes=causes)
    finally:
        await saving
    await outbox.put_rows(tx, rows)


async def summarize_ranges(tx: database.Tx) -> None:
    """Bring the block range indexes of transfers and postings up to date; until then a search reads the new pages."""
    await tx.execute("SELECT summarize_ranges()")


async def _load(
    tx: database.Tx,
    required: requirements.Requirements,
    locked: holds.LockedHolds,
    *,
    posted_keys: set[provider.NaturalKey] | None = None,
    prewrites: Mapping[UUID, double_entry.Transfer] | None = None,
    is_dry_run: bool = False,
) -> batches.Batch:
    """Lock the accounts, read everything else, and build the batch."""
    to_reverse = await transfers.read(tx, required.transfer_keys)
    wanted = required.accounts(of_holds=locked.account_names, of_reversals=to_reverse.account_names)
    loaded, at, now = await accounts.lock(tx, wanted, is_dry_run=is_dry_run)
    lots_by_id = await lots.load(tx, loaded, to_reverse.transfers)
    return batches.Batch(
        books.Books(loaded, at=at, now=now, new_id=envelope.uuid7),
        required,
        holds_by_key=holds.restore(locked, lots_by_id),
        reversible=await transfers.reversible(tx, to_reverse, lots_by_id),
        settled=await outcomes.read(tx, required.request_keys),
        posted_keys=posted_keys or set(),
        prewrites=dict(prewrites or {}),
    )


async def _save(tx: database.Tx, batch: batches.Batch) -> None:
    try:
        await transfers.add(tx, batch.book)
        await accounts.save(tx, batch.book.accounts.values())
        await lots.save(tx, batch.book.accounts.values(), batch.book.lot_uses)
        await holds.save(tx, batch.holds_by_key.values())
        await outcomes.add(tx, batch.new_outcomes, at=batch.book.at)
    except asyncpg.UniqueViolationError as overtaken:
        raise asyncpg.SerializationError("another transaction has settled the same request") from overtaken
