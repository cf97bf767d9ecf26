"""A channel with publisher confirms: a publish returns when the broker has the message, or raises.

The connection does not recover by itself: after a failure it is closed and the next publish opens a new one, because
whether a message with an unknown outcome is published again is decided by the outbox and by no library.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq import Channel
from pamqp.commands import Basic

CONNECT_TIMEOUT_S = 10
CONFIRM_TIMEOUT_S = 5


class Publisher:
    """One connection and one channel with confirms; safe for concurrent publishes, which are pipelined."""

    def __init__(self, amqp_url: str) -> None:
        """Take the broker's URL; the first publish connects."""
        self._url = amqp_url
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Channel:
        """Give the channel, connecting if there is none. Raises AMQPError or OSError when the broker is unreachable."""
        # A broker with a resource alarm accepts a connection and then does not answer.
        async with self._opening, asyncio.timeout(CONNECT_TIMEOUT_S):
            if self._channel is None or self._channel.is_closed:
                await self._discard()
                self._connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT_S)
                # An unroutable publish must raise: otherwise the message would be confirmed and lost.
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._channel = cast("Channel", await channel.get_underlay_channel())
            return self._channel

    async def publish(
        self, *, exchange: str, routing_key: str, headers: Mapping[str, Any], body: bytes, event_type: str
    ) -> None:
        """Publish one persistent message and wait for its confirm.

        Raises DeliveryError when it was returned or refused, TimeoutError when no confirm came, and AMQPError when the
        connection broke. Only for a returned message is it certain that it did not arrive.
        """
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

    async def close(self) -> None:
        """Close the connection; a later publish would open a new one."""
        async with self._opening:
            await self._discard()

    async def _discard(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and not connection.is_closed:
            await connection.close()


async def send(
    channel: Channel,
    *,
    exchange: str,
    routing_key: str,
    headers: Mapping[str, Any],
    body: bytes,
    event_type: str,
) -> None:
    """Publish on an open channel and wait for the confirm; concurrent calls are pipelined in their order."""
    await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=True,
        # The write is not awaited: the confirm covers it, and one flush then carries many messages.
        wait=False,
        properties=Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            # The driver makes an id where there is none, as when an unreadable message is replayed.
            message_id=headers.get("ce-id"),
            correlation_id=headers.get("ce-correlationid"),
            message_type=event_type,
            headers=dict(headers),
        ),
    )
