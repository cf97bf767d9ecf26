"""Watches what the broker routes: the bindings that a service needs, and the messages that no queue took.

A lost binding loses messages in silence: the broker confirms what it keeps in kopilka.unrouted, and an event with
another consumer is not even kept. AMQP can't list bindings, so they are read from the management API; without its
address they are only bound again and again.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelInvalidStateError

from chassis import management_api, publisher, telemetry, topology

INTERVAL_S = 10
BLIND_INTERVALS = 6  # without a list of them, bindings are put back once a minute


class RoutingCheck:
    """The check of one process for the queues and messages of its service."""

    def __init__(
        self,
        sender: publisher.Publisher,
        bindings: Sequence[topology.Binding],
        published: Sequence[topology.Route],
        api: management_api.ManagementApi | None,
        *,
        has_own_user: bool = False,
    ) -> None:
        """Take the channel, the service's own bindings and those that its messages need in any queue.

        Of `published` the queue does not count. A service's own user may not bind to the exchange of dead letters.
        """
        self._sender = sender
        self._own = [route for binding in bindings for route in binding.routes]
        known = {(route.exchange, route.routing_key) for route in self._own}
        self._published = [
            route
            for route in published
            if route.exchange != topology.UNCONSUMED and (route.exchange, route.routing_key) not in known
        ]
        self._bindable = [route for route in self._own if not has_own_user or route.exchange != topology.DEAD]
        self._api = api
        self._missing: list[topology.Route] = []
        self._unusable: str | None = None
        self._unrouted = 0
        self._seen_empty_s: dict[str, float] = {}
        self._runs = 0

    async def tick(self) -> int:
        """Look once, unless the broker can't be used now, which the check of the broker shows."""
        try:
            await self._look()
        except (publisher.Unavailable, AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            telemetry.log.info("routing.not_looked", error=type(error).__name__)
        return 0

    async def _look(self) -> None:
        """Count unrouted messages, find missing bindings and put back those of the service's own queues."""
        # The broker tells a connection that it is blocked only when it publishes; an idle one would not know.
        await self._sender.publish(
            exchange=topology.UNCONSUMED, routing_key="", headers={}, body=b"", event_type="kopilka.probe"
        )
        if self._api is not None:
            await self._find_missing(self._api)
        lost = [route for route in self._missing if route in self._bindable]
        is_blind = self._api is None or self._unusable is not None
        to_bind = self._bindable if is_blind and self._runs % BLIND_INTERVALS == 0 else lost
        self._runs += 1
        if to_bind:
            await self._put_back(to_bind)
        async with self._sender.side_channel() as channel:
            self._unrouted = await _depth(channel, topology.UNROUTED)
            waiting = {step: await _depth(channel, topology.retry_exchange(step)) for step, _ in topology.RETRY_DELAYS}
        telemetry.UNROUTED.set(self._unrouted)
        self._show_waiting(waiting)

    def _show_waiting(self, waiting: Mapping[str, int]) -> None:
        # AMQP tells no message's age, so it is bounded by the time for which the queue was never seen empty.
        now_s = time.monotonic()
        for step, depth in waiting.items():
            if depth == 0:
                self._seen_empty_s[step] = now_s
            telemetry.RETRIES_WAITING.labels(step).set(depth)
            telemetry.RETRIES_WAITING_AGE.labels(step).set(now_s - self._seen_empty_s.setdefault(step, now_s))

    def is_bound(self, queue: str) -> bool:
        """Tell whether no binding of a queue was missing at the last look."""
        return all(route.queue not in (queue, f"{queue}.dlq") for route in self._missing)

    def warning(self) -> str | None:
        """Give what is wrong with the routing, or None."""
        missing = [f"{route.exchange} does not route {route.routing_key} to {route.queue}" for route in self._missing]
        unrouted = [f"{self._unrouted} unrouted messages: kopilka unrouted list"] if self._unrouted else []
        return "; ".join([*missing[:5], *([f"{len(missing) - 5} more"] if len(missing) > 5 else []), *unrouted]) or None

    async def _find_missing(self, api: management_api.ManagementApi) -> None:
        try:
            bound = set(await asyncio.to_thread(api.bindings))
        except management_api.Unusable as error:
            if self._unusable is None:
                telemetry.log.warning("routing.bindings_not_listed", error=str(error))
            self._unusable, self._missing = str(error), []
            return
        self._unusable = None
        heard = {(route.exchange, route.routing_key) for route in bound}
        missing = [route for route in (*self._own, *topology.SHARED_ROUTES) if route not in bound]
        missing += [route for route in self._published if (route.exchange, route.routing_key) not in heard]
        for route in missing:
            if route not in self._missing:
                telemetry.BINDINGS_LOST.labels(route.queue).inc()
                telemetry.log.error("routing.binding_lost", is_put_back=route in self._bindable, **route._asdict())
        # Shown until the next look, even when it is put back at once: messages may have been lost.
        self._missing = missing
        telemetry.BINDINGS_MISSING.set(len(missing))

    async def _put_back(self, routes: Sequence[topology.Route]) -> None:
        try:
            async with self._sender.side_channel() as channel:
                await topology.bind(channel, routes)
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            telemetry.log.error("routing.not_put_back", error=str(error), repair="kopilka topology")


async def _depth(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count or 0
