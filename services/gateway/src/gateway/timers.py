"""The timers of the gateway: deletion of data past its retention."""

from chassis import database
from gateway import store

BATCH = 1_000


async def delete_commands(db: database.Database) -> int:
    """Delete a batch of commands past retention; return their number."""
    async with db.statement() as tx:
        return await store.delete_commands(tx, BATCH)
