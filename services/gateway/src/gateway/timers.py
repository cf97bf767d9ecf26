"""The clock door: forgetting what has been kept long enough."""

from chassis import database
from gateway.store import commands

BATCH = 1_000


async def forget_commands(db: database.Database) -> int:
    """Delete a batch of commands past retention; gives how many."""
    async with db.statement() as tx:
        return await commands.forget(tx, BATCH)
