"""Bounded concurrent work, with a bound for each key too (a bulkhead): a partner that is slow or down delays no other.

The work is leased, so an item whose work failed, or whose process died, is due again when its lease runs out.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis import telemetry

WORKERS_MAX = 48  # items of one pool that are worked on at once
WORKERS_PER_KEY_MAX = 16  # of them with one key, so that others have some left while each call of that key times out
# How long to wait for a worker of a busy key before the timer looks for new work of other keys.
BUSY_WAIT_S = 0.02

Item = TypeVar("Item")


class WorkerPool(Generic[Item]):
    """Bounded concurrent work of one kind."""

    def __init__(
        self,
        lease: Callable[[int, Sequence[str]], Awaitable[Sequence[Item]]],
        work: Callable[[Item], Awaitable[None]],
        *,
        key: Callable[[Item], str],
    ) -> None:
        """Take three functions: `lease(limit, busy_keys)` gives due items, `work` does one, `key` names its partner."""
        self._lease = lease
        self._work = work
        self._key = key
        self._running: dict[asyncio.Task[None], str] = {}

    async def tick(self) -> int:
        """Start the work that is due, as far as workers are free, and return the number of items started."""
        if len(self._running) >= WORKERS_MAX:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        started = await self._start()
        if started == 0 and self._busy_keys():
            # What is due may belong to a busy key: wait for one of its workers rather than for the timer.
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED, timeout=BUSY_WAIT_S)
            started = await self._start()
        return started

    async def finish(self) -> None:
        """Wait for the work that was started; the time that `work` takes bounds the wait."""
        await asyncio.gather(*self._running)

    async def _start(self) -> int:
        in_use = Counter(self._running.values())
        busy_keys = self._busy_keys()
        most = max((count for key, count in in_use.items() if key not in busy_keys), default=0)
        # All leased items may have one key, so no more are taken than the fullest key has workers left.
        items = await self._lease(min(WORKERS_MAX - len(self._running), WORKERS_PER_KEY_MAX - most), busy_keys)
        for item in items:
            task = asyncio.create_task(self._guarded(item))
            self._running[task] = self._key(item)
            task.add_done_callback(self._running.pop)
        return len(items)

    def _busy_keys(self) -> list[str]:
        in_use = Counter(self._running.values())
        return [key for key, count in in_use.items() if count >= WORKERS_PER_KEY_MAX]

    async def _guarded(self, item: Item) -> None:
        try:
            await self._work(item)
        except Exception as error:  # noqa: BLE001 - the loop's edge: the lease runs out and the item is done again
            telemetry.log.error("worker_pool.item_failed", error=type(error).__name__, exc_info=True)
