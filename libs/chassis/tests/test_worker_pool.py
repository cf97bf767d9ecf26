import asyncio
from collections.abc import Sequence

import pytest

from chassis import worker_pool


async def test_an_item_whose_work_fails_ends_no_other() -> None:
    done: list[int] = []
    due = [[1, 2, 3], []]

    async def lease(_: int, busy_keys: Sequence[str]) -> list[int]:
        return due.pop(0)

    async def work(item: int) -> None:
        if item == 2:
            raise RuntimeError
        done.append(item)

    pool = worker_pool.WorkerPool(lease, work, key=str)
    await pool.tick()
    await pool.finish()

    assert done == [1, 3]


@pytest.mark.rule("PA21")
async def test_a_key_whose_work_hangs_delays_only_its_own_items() -> None:
    due = {"down": list(range(100)), "well": list(range(100))}
    done: list[str] = []
    mended = asyncio.Event()

    async def lease(limit: int, busy_keys: Sequence[str]) -> list[str]:
        leased: list[str] = []
        for key in ("down", "well"):  # what waits longest comes first
            while due[key] and key not in busy_keys and len(leased) < limit:
                due[key].pop()
                leased.append(key)
        return leased

    async def work(key: str) -> None:
        if key == "down":
            await mended.wait()
        done.append(key)

    pool = worker_pool.WorkerPool(lease, work, key=str)
    async with asyncio.timeout(5):
        while due["well"]:
            await pool.tick()
            await asyncio.sleep(0)

    assert set(done) == {"well"}
    assert len(due["down"]) == 100 - worker_pool.WORKERS_PER_KEY_MAX
    mended.set()
    await pool.finish()
