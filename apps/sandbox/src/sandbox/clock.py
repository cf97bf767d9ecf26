"""The virtual clock and everything that waits on it: expiry, retries, delays.

It runs with real time and only ever jumps forward; nobody else in the sandbox may ask what time it is
for a provider.
"""

import asyncio
import contextlib
import dataclasses
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

# How long the loop sleeps at most: a jump of the machine's own clock is noticed within this time.
NAP_S_MAX = 60.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(order=True, slots=True)
class _Timer:
    due_s: float
    number: int
    action: Callable[[], None] = dataclasses.field(compare=False)


class VirtualClock:
    """Virtual time and the actions that are due at moments of it."""

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._earlier = asyncio.Event()

    def time_s(self) -> float:
        """Tell the virtual time as Unix seconds."""
        return time.time() + self._offset_s

    def now(self) -> datetime:
        """Tell the virtual time in UTC, in whole milliseconds as providers show it."""
        return datetime.fromtimestamp(int(self.time_s() * 1000) / 1000, UTC)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have `action` run once `delay_s` virtual seconds from now; it must not block and checks itself
        whether it is still wanted.
        """
        timer = _Timer(self.time_s() + delay_s, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._earlier.set()

    def advance(self, seconds: float) -> None:
        """Jump forward and run everything that became due, earliest first."""
        self._offset_s += seconds
        self._run_due()

    def forget(self) -> None:
        """Drop all timers and return to real time."""
        self._timers.clear()
        self._offset_s = 0.0

    async def run(self) -> None:
        """Run due actions until cancelled."""
        while True:  # supervised: each turn is one nap
            self._run_due()
            self._earlier.clear()
            nap_s = min(self._timers[0].due_s - self.time_s(), NAP_S_MAX) if self._timers else NAP_S_MAX
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._earlier.wait(), max(nap_s, 0.0))

    def _run_due(self) -> None:
        # The moment is taken once: an action that schedules "now" again cannot keep this loop alive.
        now_s = self.time_s()
        while self._timers and self._timers[0].due_s <= now_s:
            timer = heapq.heappop(self._timers)
            try:
                timer.action()
            except Exception:  # noqa: BLE001 - a loop edge: one broken timer must not stop the others
                _log.exception("sandbox.clock.timer_failed")
