"""The virtual clock and its timers: expiry, retries, delays.

It runs at the speed of real time and can only jump forward. All provider times come from it.
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

# The longest sleep of the loop: a jump of the system clock is noticed within this time.
SLEEP_S_MAX = 60.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(order=True, slots=True)
class _Timer:
    due_s: float
    number: int
    action: Callable[[], None] = dataclasses.field(compare=False)


class VirtualClock:
    """Virtual time and the timers that are due at points of it."""

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._earliest_changed = asyncio.Event()

    def time_s(self) -> float:
        """Return the virtual time in Unix seconds."""
        return time.time() + self._offset_s

    def now(self) -> datetime:
        """Return the virtual time in UTC, truncated to milliseconds as providers show it."""
        return datetime.fromtimestamp(int(self.time_s() * 1000) / 1000, UTC)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` once, `delay_s` virtual seconds from now. Timers are not cancelled: the action must check
        whether it still applies, and must not block.
        """
        timer = _Timer(self.time_s() + delay_s, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._earliest_changed.set()

    def advance(self, seconds: float) -> None:
        """Jump forward and run all timers that became due, earliest first."""
        self._offset_s += seconds
        self._run_due()

    def reset(self) -> None:
        """Drop all timers and return to real time."""
        self._timers.clear()
        self._offset_s = 0.0

    async def run(self) -> None:
        """Run due timers until cancelled."""
        while True:  # supervised: each iteration is one sleep
            self._run_due()
            self._earliest_changed.clear()
            sleep_s = min(self._timers[0].due_s - self.time_s(), SLEEP_S_MAX) if self._timers else SLEEP_S_MAX
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._earliest_changed.wait(), max(sleep_s, 0.0))

    def _run_due(self) -> None:
        # The time is read once, so that a timer that schedules itself without delay cannot keep this loop running.
        now_s = self.time_s()
        while self._timers and self._timers[0].due_s <= now_s:
            timer = heapq.heappop(self._timers)
            try:
                timer.action()
            except Exception:  # noqa: BLE001 - a loop edge: one failing timer must not stop the others
                _log.exception("sandbox.clock.timer_failed")
