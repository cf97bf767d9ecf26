"""The exchanges, queues and bindings on the broker, and their declaration.

A queue that exists with other arguments fails the start with the difference: arguments of a queue can't be changed, so
a change needs a new queue name.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import AuthenticationError, ChannelAccessRefused, ProbableAuthenticationError

from chassis import telemetry

EVENTS = "kopilka.events"
COMMANDS = "kopilka.commands"
UNROUTED = "kopilka.unrouted"
UNCONSUMED = "kopilka.events.unconsumed"
"""The exchange of events that no service consumes: without a queue they go nowhere, not to the unrouted messages."""
DEAD = "kopilka.dlx"
RETURNS = "kopilka.returns"
RETRY_DELAYS = (("5s", 5_000), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000))
RECONNECT_PAUSE_S = 1
DELIVERY_LIMIT = 50  # a rolling restart returns healthy messages too, but never so many times

UNROUTED_TTL_MS = 7 * 24 * 3_600_000
UNROUTED_LENGTH = 100_000
UNROUTED_DELIVERY_LIMIT = 1_000_000  # each look returns what it read; RabbitMQ 4 would drop a message after 20 returns


class TopologyMismatch(Exception):  # noqa: N818 - names the state
    """A queue or exchange exists with other arguments than this version declares."""


class Unreachable(Exception):  # noqa: N818 - names the state
    """There is no connection to the broker."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One queue and the message types that are routed to it from each exchange."""

    queue: str
    events: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def routes(self) -> list["Route"]:
        """What must be bound for this queue to get its messages, its retries and its replays, and its .dlq queue."""
        return [
            Route(DEAD, self.queue, f"{self.queue}.dlq"),
            Route(RETURNS, self.queue, self.queue),
            *(Route(EVENTS, wire_type, self.queue) for wire_type in self.events),
            *(Route(COMMANDS, wire_type, self.queue) for wire_type in self.commands),
        ]


class Route(NamedTuple):
    """One binding as the broker has it."""

    exchange: str
    routing_key: str
    queue: str


async def apply(amqp_url: str, bindings: Sequence[Binding]) -> None:
    """Declare all exchanges, and the queues of these bindings; declaring them again changes nothing.

    Raises TopologyMismatch with the name of the queue and the broker's description of the difference.
    """
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        try:
            channel = await connection.channel()
            await _exchanges(channel)
            await _unrouted_queue(connection)
            await bind(channel, SHARED_ROUTES)
            for binding in bindings:
                await _bound_queue(channel, binding)
        except ChannelPreconditionFailed as error:
            raise TopologyMismatch(str(error)) from error


async def bind_own(amqp_url: str, bindings: Sequence[Binding]) -> None:
    """Bind queues that `migrate` has declared, as far as a service's own user may.

    Raises TopologyMismatch when a queue or a permission is missing.
    """
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        try:
            channel = await connection.channel()
            await bind(channel, [r for binding in bindings for r in binding.routes if r.exchange != DEAD])
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            raise TopologyMismatch(f"{error}: `migrate` has not prepared the broker for this version") from error


async def when_reachable(prepare: Callable[[], Awaitable[None]], *, stop: asyncio.Event, give_up_s: float) -> None:
    """Call `prepare`, waiting for a broker that is away, until `stop` is set.

    Raises Unreachable after `give_up_s`, and at once when the broker refuses the user.
    """
    give_up_at = asyncio.get_running_loop().time() + give_up_s
    is_waiting = False
    while not stop.is_set():
        try:
            async with asyncio.timeout_at(give_up_at):
                await prepare()
        except (AuthenticationError, ProbableAuthenticationError) as error:
            raise Unreachable("the broker refuses the user or the password") from error
        except (OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() + RECONNECT_PAUSE_S >= give_up_at:
                raise Unreachable(f"no connection to the broker in {give_up_s:g} s ({type(error).__name__})") from error
            if not is_waiting:
                telemetry.log.warning("process.waits_for_broker", error=type(error).__name__)
            is_waiting = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_PAUSE_S):
                    await stop.wait()
        else:
            return


async def _exchanges(channel: AbstractChannel) -> None:
    await channel.declare_exchange(UNROUTED, aio_pika.ExchangeType.FANOUT, durable=True)
    for name in (EVENTS, COMMANDS):
        await channel.declare_exchange(
            name, aio_pika.ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": UNROUTED}
        )
    await channel.declare_exchange(UNCONSUMED, aio_pika.ExchangeType.TOPIC, durable=True)
    await channel.declare_exchange(DEAD, aio_pika.ExchangeType.DIRECT, durable=True)
    # The routing key of a retry is its origin queue. Where that is gone, the retry must leave its queue all the same:
    # one that nothing takes would hold up all that expire after it.
    await channel.declare_exchange(
        RETURNS, aio_pika.ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": UNROUTED}
    )
    for step, delay_ms in RETRY_DELAYS:
        await channel.declare_exchange(retry_exchange(step), aio_pika.ExchangeType.TOPIC, durable=True)
        await _queue(channel, retry_exchange(step), {"x-message-ttl": delay_ms, **_dead_letter_to(RETURNS)})


async def _unrouted_queue(connection: AbstractConnection) -> None:
    """Declare the queue, unless it exists: an earlier version's has no delivery limit and may hold messages."""
    async with connection.channel() as channel:
        try:
            await channel.declare_queue(UNROUTED, passive=True)
        except ChannelNotFoundEntity:
            await channel.reopen()
            await _queue(
                channel,
                UNROUTED,
                {
                    "x-message-ttl": UNROUTED_TTL_MS,
                    "x-max-length": UNROUTED_LENGTH,
                    "x-overflow": "drop-head",
                    "x-delivery-limit": UNROUTED_DELIVERY_LIMIT,
                },
            )


async def _bound_queue(channel: AbstractChannel, binding: Binding) -> None:
    await _queue(channel, f"{binding.queue}.dlq", {})
    await _queue(
        channel,
        binding.queue,
        {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-routing-key": binding.queue,
            **_dead_letter_to(DEAD),
        },
    )
    await bind(channel, binding.routes)


async def bind(channel: AbstractChannel, routes: Iterable[Route]) -> None:
    """Bind queues that exist; what is bound already stays as it is. Raises ChannelNotFoundEntity for a missing one."""
    for route in routes:
        queue = await channel.get_queue(route.queue, ensure=False)
        await queue.bind(route.exchange, routing_key=route.routing_key)


async def _queue(channel: AbstractChannel, name: str, arguments: dict[str, Any]) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})


def retry_exchange(step: str) -> str:
    """Give the name of the exchange and queue of one retry delay."""
    return f"kopilka.retries.{step}"


SHARED_ROUTES = (
    Route(UNROUTED, "", UNROUTED),
    *(Route(retry_exchange(step), "#", retry_exchange(step)) for step, _ in RETRY_DELAYS),
)


def _dead_letter_to(exchange: str) -> dict[str, Any]:
    # At-least-once dead lettering needs reject-publish; the default would lose messages when a node dies.
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
