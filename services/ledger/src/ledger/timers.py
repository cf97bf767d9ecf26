"""The clock door: ends holds and lots whose time is over, and keeps the range indexes up with the writers."""

from functools import partial

from chassis import database, envelope, outbox
from ledger.domain import holds, transfers
from ledger.store import desk as store

EXPIRE_MAX = 100


async def expire_holds(db: database.Database) -> int:
    """End the oldest holds whose time is over by the database's clock; gives how many."""
    async with db.transaction() as tx:
        desk = await store.open_due_holds(tx, limit=EXPIRE_MAX)
        said = [holds.expire(desk.book, hold) for hold in desk.known_holds.values()]
        rows = await store.close_desk(tx, desk, meanwhile=partial(outbox.rows_of, tx, said))
        await outbox.put_rows(tx, rows)
    return len(said)


async def expire_lots(db: database.Database) -> int:
    """Move the oldest lots whose time is over by the database's clock to breakage; gives how many."""
    async with db.transaction() as tx:
        desk = await store.open_due_lots(tx, limit=EXPIRE_MAX)
        keeping = [account for account in desk.book.accounts.values() if account.own_lots]
        said = [
            posted
            for account in keeping
            for posted in transfers.expire_lots(desk.book, account, event_id=envelope.uuid7())
        ]
        rows = await store.close_desk(tx, desk, meanwhile=partial(outbox.rows_of, tx, said))
        await outbox.put_rows(tx, rows)
    return len(said)


async def summarize_ranges(db: database.Database) -> int:
    """Let searches by transfer skip pages that were filled since the last time; gives 0, so that the timer rests."""
    async with db.statement() as tx:
        await tx.execute("SELECT summarize_ranges()")
    return 0
