"""Wake-ups over a real Redis: received by every replica; without Redis waiting requests poll."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis import testing
from gateway.clients import wakeups

NOWHERE = "redis://127.0.0.1:1/0"


class Answer:
    """An answer that may come; counts how often it is read."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.reads = 0
        self.was_read = asyncio.Event()

    async def wait(self, listener: wakeups.WakeupListener, command_id: UUID, *, timeout_s: float) -> str | None:
        """Read at each turn of a waiter, as a request does."""
        found = None
        with listener.waiting(command_id, timeout_s=timeout_s) as waiter:
            while found is None and await waiter.next():
                self.reads += 1
                self.was_read.set()
                found = self.value
        return found


@pytest.fixture
async def publisher(servers: testing.Servers) -> AsyncIterator[wakeups.WakeupPublisher]:
    opened = wakeups.WakeupPublisher(servers.redis_url)
    yield opened
    await opened.close()


@pytest.fixture
async def replicas(servers: testing.Servers) -> AsyncIterator[list[wakeups.WakeupListener]]:
    """The listeners of two api processes."""
    opened = [wakeups.WakeupListener(servers.redis_url) for _ in range(2)]
    listening = [asyncio.create_task(_listen(listener)) for listener in opened]
    async with asyncio.timeout(10):
        for listener in opened:
            while True:
                if listener._subscription is not None and listener._subscription.subscribed:
                    break
                await asyncio.sleep(0.01)
    yield opened
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    for listener in opened:
        await listener.close()


async def _listen(listener: wakeups.WakeupListener) -> None:
    while True:
        await listener.listen()


@pytest.mark.rule("GW11")
async def test_a_wakeup_reaches_the_requests_that_wait_for_it_on_every_replica(
    publisher: wakeups.WakeupPublisher, replicas: list[wakeups.WakeupListener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "POLL_MIN_S", 60)
    answer, other, command_id = Answer(), Answer(), uuid4()

    waiting = [
        asyncio.create_task(answer.wait(listener, command_id, timeout_s=60)) for listener in (*replicas, *replicas)
    ]
    unrelated = asyncio.create_task(other.wait(replicas[0], uuid4(), timeout_s=60))
    await asyncio.sleep(0)
    answer.value = "answered"
    publisher.publish(command_id)
    await publisher.send()

    assert await asyncio.gather(*waiting) == ["answered"] * 4
    assert other.reads == 0
    assert all(command_id not in listener._waiters for listener in replicas)
    unrelated.cancel()


async def test_a_wakeup_before_the_answer_does_not_end_the_wait(
    publisher: wakeups.WakeupPublisher, replicas: list[wakeups.WakeupListener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "POLL_MIN_S", 60)
    answer, command_id = Answer(), uuid4()

    waiting = asyncio.create_task(answer.wait(replicas[0], command_id, timeout_s=60))
    await asyncio.sleep(0)
    publisher.publish(command_id)
    await publisher.send()
    await answer.was_read.wait()
    answer.value = "answered"
    publisher.publish(command_id)
    await publisher.send()

    assert await waiting == "answered"


async def test_without_redis_a_waiting_request_polls() -> None:
    listener = wakeups.WakeupListener(NOWHERE)
    answer = Answer()

    waiting = asyncio.create_task(answer.wait(listener, uuid4(), timeout_s=60))
    with pytest.raises(RedisError):
        await listener.listen()
    answer.value = "answered"

    assert await waiting == "answered"
    await listener.close()


async def test_a_wait_ends_at_its_timeout_and_reads_once_at_least() -> None:
    listener = wakeups.WakeupListener(NOWHERE)
    answer = Answer()

    assert await answer.wait(listener, uuid4(), timeout_s=0) is None
    assert answer.reads == 1
    await listener.close()


async def test_publishing_never_waits_for_redis_and_keeps_a_bounded_number() -> None:
    publisher = wakeups.WakeupPublisher(NOWHERE)

    for _ in range(wakeups.PENDING_MAX + 10):
        publisher.publish(uuid4())
    with pytest.raises(RedisError):
        await publisher.send()

    assert publisher._pending.qsize() <= wakeups.PENDING_MAX
    await publisher.close()


async def test_queued_wakeups_are_sent_in_batches(publisher: wakeups.WakeupPublisher) -> None:
    for _ in range(wakeups.BATCH + 1):
        publisher.publish(uuid4())

    await publisher.send()
    left = publisher._pending.qsize()
    await publisher.send()
    when_empty = await publisher.send()

    assert (left, publisher._pending.qsize(), when_empty) == (1, 0, 1)


async def test_other_text_on_the_channel_wakes_nobody(
    publisher: wakeups.WakeupPublisher, replicas: list[wakeups.WakeupListener], servers: testing.Servers
) -> None:
    answer, command_id = Answer(), UUID(int=1)
    answer.value = "answered"

    waiting = asyncio.create_task(answer.wait(replicas[0], command_id, timeout_s=60))
    async with Redis.from_url(servers.redis_url) as redis:
        await redis.publish(wakeups.CHANNEL, "nonsense {} 42")
    publisher.publish(command_id)
    await publisher.send()

    assert await waiting == "answered"
