"""Timers: end holds and lots whose time is over, and keep the range indexes up to date."""

from chassis import database, envelope
from ledger import store
from ledger.domain import holds, transfers

EXPIRE_MAX = 100


async def expire_holds(db: database.Database) -> int:
    """End the oldest holds whose time is over by the database's clock; returns their number."""
    async with db.transaction() as tx:
        batch = await store.load_expired_holds(tx, limit=EXPIRE_MAX)
        events = [holds.expire(batch.book, hold) for hold in batch.holds_by_key.values()]
        await store.save(tx, batch, events)
    return len(events)


async def expire_lots(db: database.Database) -> int:
    """Move the oldest lots whose time is over by the database's clock to breakage; returns their number."""
    async with db.transaction() as tx:
        batch = await store.load_expired_lots(tx, limit=EXPIRE_MAX)
        events = [
            posted_transfer
            for account in [account for account in batch.book.accounts.values() if account.own_lots]
            for posted_transfer in transfers.expire_lots(batch.book, account, event_id=envelope.uuid7())
        ]
        await store.save(tx, batch, events)
    return len(events)


async def summarize_ranges(db: database.Database) -> int:
    """Let searches by transfer skip pages that were filled since the last time; returns 0, so that the timer rests."""
    async with db.statement() as tx:
        await store.summarize_ranges(tx)
    return 0
