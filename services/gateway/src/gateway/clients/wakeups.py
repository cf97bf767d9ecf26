"""Wake-ups across replicas: a worker that has projected an answer tells every api process, where somebody may wait.

A wake-up is a hint and may be lost: whoever waits also looks without one, so while Redis is away requests are slower
and never wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

CHANNEL = "kopilka.gateway.answered"
CONNECT_TIMEOUT_S = 1
TICK_S = 1
PENDING_MAX = 10_000
BATCH = 500
LOOK_MIN_S = 0.05
LOOK_MAX_S = 0.25

Found = TypeVar("Found")


class Bell:
    """Rings from a worker. Rings are gathered and sent in the background, so that no handler waits for Redis."""

    def __init__(self, redis_url: str) -> None:
        """Remember where Redis is; the first ring connects."""
        self._redis = _client(redis_url)
        self._pending: asyncio.Queue[UUID] = asyncio.Queue(maxsize=PENDING_MAX)

    def ring(self, command_id: UUID) -> None:
        """Wake whoever waits for this command, soon. Beyond what can be kept, waiters find out by themselves."""
        if not self._pending.full():
            self._pending.put_nowait(command_id)

    async def send(self) -> int:
        """Send what is rung within a second, at once; gives 1, so that the timer goes on. Raises when Redis is away."""
        try:
            async with asyncio.timeout(TICK_S):
                rung = [await self._pending.get()]
        except TimeoutError:
            return 1
        while len(rung) < BATCH and not self._pending.empty():
            rung.append(self._pending.get_nowait())
        await self._redis.publish(CHANNEL, " ".join(str(command_id) for command_id in rung))
        return 1

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


class Waiters:
    """The requests of one api process that wait for an answer."""

    def __init__(self, redis_url: str) -> None:
        """Remember where Redis is; the first `listen` connects."""
        self._redis = _client(redis_url)
        self._subscription: PubSub | None = None
        self._waiting: dict[UUID, set[asyncio.Event]] = {}

    async def listen(self) -> int:
        """Hear wake-ups for up to a second; gives 1, so that the timer goes on. Raises when Redis is away."""
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

    async def wait_for(
        self, command_id: UUID, look: Callable[[], Awaitable[Found | None]], *, wait_s: float
    ) -> Found | None:
        """Give what `look` finds once the command is answered, or None after `wait_s` seconds.

        Looks after each wake-up, and without one after pauses of 50 to 250 ms.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + wait_s
        pause_s = LOOK_MIN_S
        with self._expecting(command_id) as woken:
            while True:
                await _woken_within(woken, min(pause_s, give_up_at - clock()))
                found = await look()
                if found is not None or clock() >= give_up_at:
                    return found
                pause_s = min(2 * pause_s, LOOK_MAX_S)

    async def close(self) -> None:
        """Close the subscription and the connection."""
        await self._unsubscribe()
        await self._redis.aclose()

    @contextmanager
    def _expecting(self, command_id: UUID) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        together = self._waiting.setdefault(command_id, set())
        together.add(woken)
        try:
            yield woken
        finally:
            together.discard(woken)
            if not together:
                self._waiting.pop(command_id, None)

    def _wake(self, text: str) -> None:
        try:
            command_id = UUID(text)
        except ValueError:  # Redis is shared; what others write to the channel wakes nobody
            return
        for woken in self._waiting.get(command_id, ()):
            woken.set()

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


async def _woken_within(woken: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await woken.wait()
    except TimeoutError:
        return
    woken.clear()
