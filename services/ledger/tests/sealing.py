"""Sealing in tests: repeated, since autovacuum or a worker may hold it up for a moment."""

import asyncio

from ledger import proof


async def seal_all(sealer: proof.timers.Sealer) -> None:
    """Tick until all transfers posted by now could be sealed, and those that are due are."""
    async with sealer.db.statement() as tx:
        newest = (await proof.store.chain.horizon(tx)).newest
    async with asyncio.timeout(60):
        while sealer.watermark.final < newest:
            await sealer.tick()
            await asyncio.sleep(0.01)
        while await sealer.tick():
            pass
