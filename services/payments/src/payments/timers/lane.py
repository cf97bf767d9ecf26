"""A lane: bounded concurrent work of one kind. A provider that is slow or down holds up nobody but its own payments."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis import telemetry

SLOTS = 48  # calls to providers under way at once, for each lane
SLOTS_OF_PROVIDER = 16  # of them for one provider, so that others have some left while each of its calls times out
# How long to wait for a slot of a busy provider before other timers' news are looked at.
BUSY_WAIT_S = 0.02

Piece = TypeVar("Piece")


class Lane(Generic[Piece]):
    """Bounded concurrent work of one kind."""

    def __init__(
        self,
        lease: Callable[[int, Sequence[str]], Awaitable[Sequence[Piece]]],
        carry: Callable[[Piece], Awaitable[None]],
        *,
        of: Callable[[Piece], str],
    ) -> None:
        """Take how to lease at most so many pieces of all but some providers, what to do with each, and whose it is."""
        self._lease = lease
        self._carry = carry
        self._of = of
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def tick(self) -> int:
        """Begin what is due, as far as there are free slots; gives how much was begun."""
        if len(self._under_way) >= SLOTS:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        begun = await self._begin()
        if begun == 0 and self._busy():
            # What is due may be a busy provider's: wait for one of its slots rather than for the timer.
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED, timeout=BUSY_WAIT_S)
            begun = await self._begin()
        return begun

    async def finish(self) -> None:
        """Wait for what is under way; each piece is bounded by the time that a call may take."""
        await asyncio.gather(*self._under_way)

    async def _begin(self) -> int:
        in_use = Counter(self._under_way.values())
        busy = self._busy()
        most = max((count for provider, count in in_use.items() if provider not in busy), default=0)
        pieces = await self._lease(min(SLOTS - len(self._under_way), SLOTS_OF_PROVIDER - most), busy)
        for piece in pieces:
            task = asyncio.create_task(self._guarded(piece))
            self._under_way[task] = self._of(piece)
            task.add_done_callback(self._under_way.pop)
        return len(pieces)

    def _busy(self) -> list[str]:
        in_use = Counter(self._under_way.values())
        return [provider for provider, count in in_use.items() if count >= SLOTS_OF_PROVIDER]

    async def _guarded(self, piece: Piece) -> None:
        try:
            await self._carry(piece)
        except Exception as error:  # noqa: BLE001 - the loop's edge: the lease runs out and the piece is done again
            telemetry.log.error("payments.lane_failed", error=type(error).__name__, exc_info=True)
