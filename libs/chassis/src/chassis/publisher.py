"""A channel with publisher confirms: a publish returns when the broker has the message, or raises.

The connection does not recover by itself: after a failure it is closed and the next publish opens a new one, because
whether a message with an unknown outcome is published again is decided by the outbox and by no library.

A message that the broker will never take is told apart from a broker that takes none: `Refused` and `Unavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq import Channel
from aiormq.abc import AbstractConnection as AbstractUnderlayConnection
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from pamqp.commands import Basic

from chassis import amqp_properties, telemetry, topology

CONNECT_TIMEOUT_S = 10
CONFIRM_TIMEOUT_S = 5
# All headers must fit into one frame of 131,072 bytes, else the broker closes the connection; a character has up to 4.
HEADER_CHARACTERS_MAX = 30_000
BODY_BYTES_MAX = 16 * 1024 * 1024  # the default of RabbitMQ 4; a larger message closes the channel
PROPERTY_BYTES_MAX = 255  # a short string of AMQP

amqp_properties.install()


class Refused(Exception):  # noqa: N818 - a property of the message
    """A message that can't be published, now or later: it is too large, or no queue takes it."""


class Unavailable(Exception):  # noqa: N818 - names the state
    """The broker did not confirm a message because of its own state or of the connection; it may have it."""


class Blocked(Unavailable):
    """The broker takes no message from anybody: it is low on memory or disk."""


class Publisher:
    """One connection and one channel with confirms; safe for concurrent publishes, which are pipelined."""

    def __init__(self, amqp_url: str) -> None:
        """Take the broker's URL; the first publish connects."""
        self._url = amqp_url
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._is_blocked = False

    async def open(self) -> Channel:
        """Give the channel, connecting if there is none.

        Raises AMQPError or OSError when the broker is unreachable, and Blocked while it blocks this connection. What
        was published before it did is confirmed when it takes messages again, so the connection stays open.
        """
        # A broker with a resource alarm accepts a connection and then does not answer.
        async with self._opening, asyncio.timeout(CONNECT_TIMEOUT_S):
            if self._channel is None or self._channel.is_closed:
                await self._discard()
                self._connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT_S)
                # An unroutable publish must raise: otherwise the message would be confirmed and lost.
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._channel = cast("Channel", await channel.get_underlay_channel())
            if await self._notice_blocking():
                raise Blocked("the broker blocks publishers")
            return self._channel

    @asynccontextmanager
    async def side_channel(self) -> AsyncIterator[AbstractChannel]:
        """Give another channel of the connection for the block, for what is no publish and may close its channel."""
        await self.open()
        assert self._connection is not None  # as `open` left it
        async with asyncio.timeout(CONNECT_TIMEOUT_S), await self._connection.channel(publisher_confirms=False) as side:
            yield side

    async def publish(
        self, *, exchange: str, routing_key: str, headers: Mapping[str, Any], body: bytes, event_type: str
    ) -> None:
        """Publish one persistent message and wait for its confirm.

        Raises Refused when it is too large, was returned or was not taken, and Unavailable when no confirm came or the
        connection broke.
        """
        try:
            channel = await self.open()
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await send(
                    channel,
                    exchange=exchange,
                    routing_key=routing_key,
                    headers=headers,
                    body=body,
                    event_type=event_type,
                )
        except DeliveryError as error:
            raise Refused(f"{type(error).__name__} from {exchange!r} with key {routing_key!r}") from error
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            raise Unavailable(type(error).__name__) from error

    async def give_up(self) -> None:
        """Close a connection whose confirms are late, unless it is blocked: then they are still to come."""
        async with self._opening:
            if not await self._notice_blocking():
                await self._discard()

    async def close(self) -> None:
        """Close the connection; a later publish would open a new one."""
        async with self._opening:
            await self._discard()

    async def _notice_blocking(self) -> bool:
        """Tell whether the broker blocks the connection, and log when that changes."""
        transport = self._connection.transport if self._connection is not None else None
        is_blocked = transport is not None and not await _is_writable(transport.connection)
        if is_blocked != self._is_blocked:
            self._is_blocked = is_blocked
            telemetry.BLOCKED.set(is_blocked)
            telemetry.log.warning("publisher.blocked" if is_blocked else "publisher.unblocked")
        return is_blocked

    async def _discard(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and not connection.is_closed:
            await connection.close()


async def _is_writable(connection: AbstractUnderlayConnection) -> bool:
    try:
        async with asyncio.timeout(0):  # passes when there is nothing to wait for
            await connection.ready()
    except TimeoutError:
        return False
    return True


async def send(
    channel: Channel,
    *,
    exchange: str,
    routing_key: str,
    headers: Mapping[str, Any],
    body: bytes,
    event_type: str,
) -> None:
    """Publish on an open channel and wait for the confirm; concurrent calls are pipelined in their order.

    Raises Refused for a message that is too large or has no encoding, DeliveryError when it was returned or not taken,
    and the driver's other errors for an unknown outcome.
    """
    _require_sendable(headers, body)
    try:
        await channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=exchange != topology.UNCONSUMED,
            # The write is not awaited: the confirm covers it, and one flush then carries many messages.
            wait=False,
            properties=Basic.Properties(
                content_type="application/json",
                delivery_mode=2,
                # The driver makes an id where there is none, as when an unreadable message is replayed.
                message_id=_property(headers.get("ce-id")),
                correlation_id=_property(headers.get("ce-correlationid")),
                message_type=_property(event_type),
                headers=dict(headers),
            ),
        )
    except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError):
        raise
    except Exception as error:  # whatever the encoder raises, nothing was sent
        raise Refused(f"the headers can't be encoded: {type(error).__name__}: {str(error)[:200]}") from error


def _property(value: object) -> str | None:
    """Give a header as a property, cut to what one can hold; what is no text is in the headers alone."""
    if not isinstance(value, str):
        return None
    return value.encode(errors="replace")[:PROPERTY_BYTES_MAX].decode(errors="ignore")


def _require_sendable(headers: Mapping[str, Any], body: bytes) -> None:
    """Refuse what would close the channel or the connection, with every other message that is in flight on it."""
    size = sum(len(name) + len(str(value)) for name, value in headers.items())
    if size > HEADER_CHARACTERS_MAX:
        raise Refused(f"the headers have {size:,} characters, at most {HEADER_CHARACTERS_MAX:,} can be published")
    if len(body) > BODY_BYTES_MAX:
        raise Refused(f"the body has {len(body):,} bytes, at most {BODY_BYTES_MAX:,} can be published")
