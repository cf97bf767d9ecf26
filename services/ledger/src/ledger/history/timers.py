"""The timer that summarizes postings behind the writers."""

from chassis import database
from ledger.history import store

CHUNKS_MAX = 250  # of 64 postings each


async def summarize_postings(db: database.Database) -> int:
    """Summarize postings, so that past balances need not read them; returns 0 when nothing is left for now.

    Several workers may call it at once; one does the work. A remainder is left for the next tick, so that on busy books
    a tick has more than a few chunks to do.
    """
    async with db.statement() as tx:
        done = await store.summarize(tx, limit=CHUNKS_MAX)
    return done if done == CHUNKS_MAX else 0
