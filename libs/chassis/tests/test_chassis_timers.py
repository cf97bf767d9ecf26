import asyncio

import pytest

from chassis import envelope, telemetry, timers


async def run_until(timer: timers.Timer, done: asyncio.Event) -> None:
    running = asyncio.create_task(timer.run())
    async with asyncio.timeout(10):
        await done.wait()
    timer.stop()
    await running


async def test_a_timer_runs_on_while_there_is_work_and_pauses_without() -> None:
    left, done = [3, 2, 1, 0], asyncio.Event()

    async def tick() -> int:
        if len(left) == 1:
            done.set()
        return left.pop(0)

    await run_until(timers.Timer("test", tick, 60, 60), done)

    assert left == []


async def test_a_debounced_timer_pauses_after_work_too_until_it_is_woken() -> None:
    ticks, first = 0, asyncio.Event()

    async def tick() -> int:
        nonlocal ticks
        ticks += 1
        first.set()
        return 1

    timer = timers.Timer("test", tick, 60, 60, debounced=True)
    running = asyncio.create_task(timer.run())
    await first.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    before = ticks
    first.clear()
    timer.wake.set()
    async with asyncio.timeout(10):
        await first.wait()
    timer.stop()
    await running

    assert (before, ticks) == (1, 2)


async def test_a_tick_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "ERROR_PAUSE_S", 0.01)
    calls, done = 0, asyncio.Event()

    async def tick() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise RuntimeError("not yet")
        done.set()
        return 0

    await run_until(timers.Timer("failing", tick, 0.01, 0.02), done)

    assert calls == 3
    assert telemetry.TICKS.labels("failing", "error")._value.get() == 2
    assert telemetry.TICKS.labels("failing", "ok")._value.get() == 1


async def test_a_pausing_timer_can_be_woken() -> None:
    calls, first, second = 0, asyncio.Event(), asyncio.Event()

    async def tick() -> int:
        nonlocal calls
        calls += 1
        (second if first.is_set() else first).set()
        return 0

    timer = timers.Timer("test", tick, 60, 60)
    running = asyncio.create_task(timer.run())
    await first.wait()
    timer.wake.set()
    async with asyncio.timeout(10):
        await second.wait()
    timer.stop()
    await running

    assert calls == 2


async def test_stopping_lets_the_current_tick_finish() -> None:
    begun, finished = asyncio.Event(), False

    async def tick() -> int:
        nonlocal finished
        begun.set()
        await asyncio.sleep(0.05)
        finished = True
        return 1

    timer = timers.Timer("test", tick, 60, 60)
    running = asyncio.create_task(timer.run())
    await begun.wait()
    timer.stop()
    await running

    assert finished


async def test_each_tick_has_a_correlation_id_of_its_own() -> None:
    journeys: list[str] = []
    done = asyncio.Event()

    async def tick() -> int:
        journeys.append(envelope.current_cause().correlation_id)
        if len(journeys) == 2:
            done.set()
            return 0
        return 1

    await run_until(timers.Timer("test", tick, 60, 60), done)

    assert len(set(journeys)) == 2
