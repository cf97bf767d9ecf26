"""The clock door of looking back: sums up postings behind the writers."""

from chassis import database
from ledger.history import store

STRETCHES_MAX = 250  # of 64 postings each


async def summarize_postings(db: database.Database) -> int:
    """Sum up the postings that balances of a time will not have to read; gives 0 when nothing is left for now.

    Any number of workers may try; one does it. What is left comes with the next tick, so that a tick on busy books
    has more than a few to do.
    """
    async with db.statement() as tx:
        done = await store.summarize(tx, limit=STRETCHES_MAX)
    return done if done == STRETCHES_MAX else 0
