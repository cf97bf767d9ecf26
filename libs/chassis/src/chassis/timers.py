"""Timers: work that is repeated after a pause, each in one supervised loop."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chassis import database, envelope, telemetry

ERROR_PAUSE_S = 1

Tick = Callable[[], Awaitable[int]]
"""Does a bounded amount of work and gives its number of items; 0 makes the timer pause."""


@dataclass(slots=True)
class Timer:
    """One loop: it runs on while there is work, otherwise it pauses between `idle_min_s` and `idle_max_s`.

    A `debounced` one pauses for `idle_min_s` after work as well, so that work that comes bit by bit is done together.
    """

    name: str
    tick: Tick
    idle_min_s: float
    idle_max_s: float
    debounced: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_stopping: bool = False

    async def run(self) -> None:
        """Tick until stopped. A failed tick is logged, counted and tried again after a pause.

        A serialization failure or deadlock is only counted, and the next tick comes after the shortest pause.
        """
        idle_s = self.idle_min_s
        while not self.is_stopping:
            self.wake.clear()
            try:
                with envelope.caused_by(envelope.Cause(str(envelope.uuid7()), None, telemetry.new_traceparent())):
                    done = await self.tick()
            except Exception as error:  # noqa: BLE001 - the loop's edge: one failure must not end the timer
                if database.is_transient(error):
                    telemetry.TICKS.labels(self.name, "lost_race").inc()
                    await self._pause(self.idle_min_s)
                    continue
                telemetry.TICKS.labels(self.name, "error").inc()
                telemetry.log.error("timer.failed", timer=self.name, error=type(error).__name__, exc_info=True)
                done, idle_s = 0, max(idle_s, ERROR_PAUSE_S)
            else:
                telemetry.TICKS.labels(self.name, "ok").inc()
            if done:
                idle_s = self.idle_min_s
            if done and not self.debounced:
                continue
            await self._pause(idle_s)
            idle_s = min(idle_s * 2, self.idle_max_s)

    def stop(self) -> None:
        """Finish the current tick and begin no other."""
        self.is_stopping = True
        self.wake.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return
