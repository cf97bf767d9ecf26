"""Sealing in tests: as often as it takes, since autovacuum or a worker may be in the way for a moment."""

import asyncio

from ledger import proof


async def seal_all(sealer: proof.timers.Sealer) -> None:
    """Tick until everything that is on the books by now could be sealed, and was if it was due."""
    async with sealer.db.statement() as tx:
        newest = (await proof.store.chain.horizon(tx)).newest
    async with asyncio.timeout(60):
        while sealer.watermark.final < newest:
            await sealer.tick()
            await asyncio.sleep(0.01)
        while await sealer.tick():
            pass
