"""A confirming channel to the broker: a publish returns only when the broker has the message, or raises.

The connection is plain, not self-healing: after any failure it is thrown away and the caller's loop opens a new one,
because a replayed publish whose outcome is unknown is the outbox's decision, not a library's.
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
        """Remember where the broker is; the first publish connects."""
        self._url = amqp_url
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Channel:
        """Give the channel, connecting if there is none. Raises an AMQPError or OSError when the broker is away."""
        # A broker in an alarm accepts a connection and then answers nothing.
        async with self._opening, asyncio.timeout(CONNECT_TIMEOUT_S):
            if self._channel is None or self._channel.is_closed:
                await self._discard()
                self._connection = await aio_pika.connect(self._url, timeout=CONNECT_TIMEOUT_S)
                # An unroutable publish must raise: otherwise it looks like success and the message is lost.
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._channel = cast("Channel", await channel.get_underlay_channel())
            return self._channel

    async def publish(
        self, *, exchange: str, routing_key: str, headers: Mapping[str, Any], body: bytes, event_type: str
    ) -> None:
        """Publish one persistent message and wait for its confirm.

        Raises DeliveryError when it was returned or refused, TimeoutError when no confirm came, and an AMQPError when
        the connection broke; only a return is known not to have arrived.
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
    """Publish on an open channel and wait for the confirm; many at once are pipelined in the order of the calls."""
    await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=True,
        # The write is not awaited: the confirm that is awaited covers it, and one flush then carries many messages.
        wait=False,
        properties=Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            # The driver makes up an id where there is none, as for the replay of what could not be read.
            message_id=headers.get("ce-id"),
            correlation_id=headers.get("ce-correlationid"),
            message_type=event_type,
            headers=dict(headers),
        ),
    )
