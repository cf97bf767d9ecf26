"""Wake-ups over a real Redis: heard by every replica, and missed by nobody for long when Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis import testing
from gateway.clients import wakeups

NOWHERE = "redis://127.0.0.1:1/0"


class Fact:
    """Something that becomes true; counts how often it was looked for."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.looks = 0
        self.looked = asyncio.Event()

    async def look(self) -> str | None:
        self.looks += 1
        self.looked.set()
        return self.value


@pytest.fixture
async def bell(servers: testing.Servers) -> AsyncIterator[wakeups.Bell]:
    opened = wakeups.Bell(servers.redis_url)
    yield opened
    await opened.close()


@pytest.fixture
async def replicas(servers: testing.Servers) -> AsyncIterator[list[wakeups.Waiters]]:
    """Two api processes that listen."""
    opened = [wakeups.Waiters(servers.redis_url) for _ in range(2)]
    listening = [asyncio.create_task(_listen(waiters)) for waiters in opened]
    async with asyncio.timeout(10):
        for waiters in opened:
            while True:
                if waiters._subscription is not None and waiters._subscription.subscribed:
                    break
                await asyncio.sleep(0.01)
    yield opened
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    for waiters in opened:
        await waiters.close()


async def _listen(waiters: wakeups.Waiters) -> None:
    while True:
        await waiters.listen()


@pytest.mark.rule("GW11")
async def test_a_ring_wakes_those_who_wait_for_it_on_every_replica(
    bell: wakeups.Bell, replicas: list[wakeups.Waiters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_MIN_S", 60)
    fact, other, command_id = Fact(), Fact(), uuid4()

    waiting = [
        asyncio.create_task(waiters.wait_for(command_id, fact.look, wait_s=60)) for waiters in (*replicas, *replicas)
    ]
    stranger = asyncio.create_task(replicas[0].wait_for(uuid4(), other.look, wait_s=60))
    await asyncio.sleep(0)
    fact.value = "answered"
    bell.ring(command_id)
    await bell.send()

    assert await asyncio.gather(*waiting) == ["answered"] * 4
    assert other.looks == 0
    assert all(command_id not in waiters._waiting for waiters in replicas)
    stranger.cancel()


async def test_a_wake_up_that_comes_too_early_does_not_end_the_wait(
    bell: wakeups.Bell, replicas: list[wakeups.Waiters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_MIN_S", 60)
    fact, command_id = Fact(), uuid4()

    waiting = asyncio.create_task(replicas[0].wait_for(command_id, fact.look, wait_s=60))
    await asyncio.sleep(0)
    bell.ring(command_id)
    await bell.send()
    await fact.looked.wait()
    fact.value = "answered"
    bell.ring(command_id)
    await bell.send()

    assert await waiting == "answered"


async def test_without_redis_whoever_waits_finds_out_by_looking() -> None:
    waiters = wakeups.Waiters(NOWHERE)
    fact = Fact()

    waiting = asyncio.create_task(waiters.wait_for(uuid4(), fact.look, wait_s=60))
    with pytest.raises(RedisError):
        await waiters.listen()
    fact.value = "answered"

    assert await waiting == "answered"
    await waiters.close()


async def test_a_wait_ends_in_time_and_looks_once_more() -> None:
    waiters = wakeups.Waiters(NOWHERE)
    fact = Fact()

    assert await waiters.wait_for(uuid4(), fact.look, wait_s=0) is None
    assert fact.looks == 1
    await waiters.close()


async def test_ringing_never_waits_for_redis_and_keeps_a_bounded_number() -> None:
    bell = wakeups.Bell(NOWHERE)

    for _ in range(wakeups.PENDING_MAX + 10):
        bell.ring(uuid4())
    with pytest.raises(RedisError):
        await bell.send()

    assert bell._pending.qsize() <= wakeups.PENDING_MAX
    await bell.close()


async def test_rings_are_sent_together(bell: wakeups.Bell) -> None:
    for _ in range(wakeups.BATCH + 1):
        bell.ring(uuid4())

    await bell.send()
    left = bell._pending.qsize()
    await bell.send()
    nothing_to_send = await bell.send()

    assert (left, bell._pending.qsize(), nothing_to_send) == (1, 0, 1)


async def test_what_others_write_to_the_channel_wakes_nobody(
    bell: wakeups.Bell, replicas: list[wakeups.Waiters], servers: testing.Servers
) -> None:
    fact, command_id = Fact(), UUID(int=1)
    fact.value = "answered"

    waiting = asyncio.create_task(replicas[0].wait_for(command_id, fact.look, wait_s=60))
    async with Redis.from_url(servers.redis_url) as stranger:
        await stranger.publish(wakeups.CHANNEL, "nonsense {} 42")
    bell.ring(command_id)
    await bell.send()

    assert await waiting == "answered"
