"""Wake-ups across replicas: a worker that has projected an answer tells every api process, where a request may wait.

A wake-up may be lost: a waiting request also reads without one, so while Redis is away requests are slower and never
wrong.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

CHANNEL = "kopilka.gateway.answered"
CONNECT_TIMEOUT_S = 1
TICK_S = 1
RETRY_S = 5  # pause before the next attempt while Redis is away; waiting requests poll meanwhile
PENDING_MAX = 10_000
BATCH = 500
POLL_MIN_S = 0.05
POLL_MAX_S = 0.25


class WakeupPublisher:
    """Publishes wake-ups from a worker. They are sent in the background, so that no handler waits for Redis."""

    def __init__(self, redis_url: str) -> None:
        """Keep the address of Redis; the first send connects."""
        self._redis = _client(redis_url)
        self._pending: asyncio.Queue[UUID] = asyncio.Queue(maxsize=PENDING_MAX)

    def publish(self, command_id: UUID) -> None:
        """Queue a wake-up for the requests that wait for this command. Dropped when the queue is full: they poll."""
        if not self._pending.full():
            self._pending.put_nowait(command_id)

    async def send(self) -> int:
        """Send what is queued, waiting up to a second for it; returns 1, so that the timer goes on.

        Raises RedisError while Redis is away.
        """
        try:
            async with asyncio.timeout(TICK_S):
                batch = [await self._pending.get()]
        except TimeoutError:
            return 1
        while len(batch) < BATCH and not self._pending.empty():
            batch.append(self._pending.get_nowait())
        await self._redis.publish(CHANNEL, " ".join(str(command_id) for command_id in batch))
        return 1

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


def publish_nothing(_: UUID) -> None:
    """Publish no wake-up: for code that only needs the names of queues."""


class Waiter:
    """One request that waits for the answer to its command."""

    def __init__(self, timeout_s: float) -> None:
        """Begin to wait."""
        self.woken = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._ends_at = self._clock() + timeout_s
        self._pause_s = POLL_MIN_S
        self._is_first = True

    async def next(self) -> bool:
        """Return True when it is time to read again: after a wake-up, or without one after 50 to 250 ms.

        The last time is at the end of the timeout, however short that is; then False.
        """
        if not self._is_first and self._clock() >= self._ends_at:
            return False
        self._is_first = False
        try:
            async with asyncio.timeout(min(self._pause_s, self._ends_at - self._clock())):
                await self.woken.wait()
            self.woken.clear()
        except TimeoutError:
            pass
        self._pause_s = min(2 * self._pause_s, POLL_MAX_S)
        return True


class WakeupListener:
    """Receives wake-ups in an api process and passes them to its waiting requests."""

    def __init__(self, redis_url: str) -> None:
        """Keep the address of Redis; the first `listen` connects."""
        self._redis = _client(redis_url)
        self._subscription: PubSub | None = None
        self._waiters: dict[UUID, set[Waiter]] = {}

    async def listen(self) -> int:
        """Receive wake-ups for up to a second; returns 1, so that the timer goes on.

        Raises RedisError, OSError or TimeoutError while Redis is away.
        """
        try:
            if self._subscription is None:
                self._subscription = self._redis.pubsub(ignore_subscribe_messages=True)
                await self._subscription.subscribe(CHANNEL)
            message = await self._subscription.get_message(timeout=TICK_S)
        except (RedisError, OSError, TimeoutError):
            await self._unsubscribe()
            raise
        for command_id in message["data"].split() if message else ():
            self._wake(command_id)
        return 1

    @contextmanager
    def waiting(self, command_id: UUID, *, timeout_s: float) -> Iterator[Waiter]:
        """Register a waiter for a command for the block."""
        waiter = Waiter(timeout_s)
        waiters = self._waiters.setdefault(command_id, set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(command_id, None)

    async def close(self) -> None:
        """Close the subscription and the connection."""
        await self._unsubscribe()
        await self._redis.aclose()

    def _wake(self, text: str) -> None:
        try:
            command_id = UUID(text)
        except ValueError:  # Redis is shared; other text on the channel wakes nobody
            return
        for waiter in self._waiters.get(command_id, ()):
            waiter.woken.set()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.aclose()  # type: ignore[no-untyped-call]


def _client(redis_url: str) -> Redis:
    return Redis.from_url(
        redis_url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=2 * TICK_S,
        health_check_interval=0,
    )
