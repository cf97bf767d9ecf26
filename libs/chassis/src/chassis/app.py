"""A service and its processes: which roles it has, and how one of them starts, runs and stops.

On SIGTERM a process takes no new work, finishes what it began, relays its outbox and exits, within 30 seconds.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from faststream.rabbit import RabbitBroker

from chassis import (
    batch,
    broker,
    database,
    dead_letters,
    health,
    http_server,
    inbox,
    management_api,
    outbox,
    publisher,
    relay,
    routing,
    settings,
    telemetry,
    timers,
    topology,
    web,
)

# A graceful stop ends well before 30 seconds, when supervisors send SIGKILL.
FINISH_S = 22
LAST_RELAY_S = 4
CLOSE_S = 1
BROKER_AWAY_S = 60  # servers and processes are often started together
BROKER_START_S = 60


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service; `main.py` of each service builds exactly one."""

    name: str
    settings: type[settings.Settings]
    roles: Mapping[str, "Callable[[Process], None]"]
    migrations: Path
    publishes: tuple[type[outbox.OutboxMessage], ...] = ()
    """Its events and the commands that it sends to others; its broker user may publish nothing else."""
    queues: tuple[broker.Queue, ...] = ()
    batch_queues: tuple[batch.BatchQueue, ...] = ()
    commands: "Mapping[str, Callable[[Service, Sequence[str]], Coroutine[Any, Any, int]]]" = field(default_factory=dict)

    @property
    def bindings(self) -> list[topology.Binding]:
        """The bindings of all queues of this service."""
        return [*(queue.binding for queue in self.queues), *(queue.binding for queue in self.batch_queues)]

    @property
    def published(self) -> list[topology.Route]:
        """Where each of its messages is published; the queue is any that takes it."""
        return [topology.Route(outbox.exchange_of(message), message.TYPE, "any queue") for message in self.publishes]


class Process:
    """One process of a service, as a role composes it."""

    def __init__(self, service: Service, role: str, config: settings.Settings) -> None:
        """Build the parts that every process has; a role adds routes, consumers and timers before the process runs."""
        self.service, self.role, self.settings = service, role, config
        self.db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=config.pool_size)
        self.amqp_url = config.amqp_url.get_secret_value()
        self.sender = publisher.Publisher(self.amqp_url)
        self.health = health.Health()
        self.http: FastAPI = web.create(
            f"Kopilka {service.name}",
            self.health,
            inner_port=config.http_inner_port,
            has_public_docs=config.http_public_docs,
            requests_max=config.http_requests,
        )
        self.timers: list[timers.Timer] = []
        self.finishers: list[Callable[[], Awaitable[None]]] = []
        """What waits for work outside of handlers and timers, while the outbox is still relayed."""
        self.closers: list[Callable[[], Awaitable[None]]] = [self.db.close]
        self._queues: list[broker.Queue] = []
        self._batch_consumers: list[batch.BatchConsumer] = []
        self._broker: RabbitBroker | None = None
        self._relay = relay.Relay(self.db, self.sender)
        self.every("outbox_gauges", lambda: _measured(relay.measure(self.db)), idle_min_s=5, idle_max_s=5)
        self.routing = self._routing_check()
        self.every("routing", self.routing.tick, idle_min_s=routing.INTERVAL_S, idle_max_s=routing.INTERVAL_S)
        self.health.add_warning("routing", self.routing.warning)
        self.health.add("database", self._database_answers)
        self.health.add("broker", self._broker_answers)

    def consume(self, *queues: broker.Queue) -> None:
        """Handle the messages of these queues."""
        self._queues.extend(queues)
        for queue in queues:
            self.health.add(f"consumer {queue.name}", partial(self._consumes, queue.name))

    def consume_batches(self, *queues: batch.BatchQueue) -> None:
        """Handle these hot queues in batches."""
        for queue in queues:
            self._batch_consumers.append(batch.BatchConsumer(self.amqp_url, queue, db=self.db, sender=self.sender))
            self.health.add(f"consumer {queue.name}", partial(self._consumes_batches, self._batch_consumers[-1]))

    def every(
        self,
        name: str,
        tick: timers.Tick,
        *,
        idle_min_s: float = 0.02,
        idle_max_s: float = 0.25,
        debounced: bool = False,
    ) -> timers.Timer:
        """Run `tick` again and again: at once while it finds work, else after a pause that grows up to `idle_max_s`.

        With `debounced` it pauses for `idle_min_s` after work too.
        """
        timer = timers.Timer(name, tick, idle_min_s, idle_max_s, debounced)
        self.timers.append(timer)
        return timer

    def housekeeping(self) -> None:
        """Maintain the inbox's partitions and the gauge of dead letters; one role of each service does it."""
        self.every("inbox_partitions", self._maintain_inbox, idle_min_s=3_600, idle_max_s=3_600)
        self.every(
            "dead_letter_gauge",
            lambda: _measured(dead_letters.measure(self.db)),
            idle_min_s=15,
            idle_max_s=15,
        )

    async def run(self) -> int:
        """Start everything, run until SIGTERM or SIGINT, then stop in order. Raises when a part cannot start.

        Gives the exit code: 1 when a part ended by itself, so that a supervisor restarts the process.
        """
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        try:
            server, sockets = self._server()
        except OSError as error:
            telemetry.log.error("process.cannot_listen", port=self.settings.http_port, error=error.strerror)
            return 1
        serving = asyncio.create_task(server.serve(sockets))
        try:
            prepare = topology.bind_own if self.settings.has_own_broker_user else topology.apply
            await topology.when_reachable(
                partial(prepare, self.amqp_url, self.service.bindings), stop=stop, give_up_s=BROKER_AWAY_S
            )
            if stop.is_set():
                return 0
            async with asyncio.timeout(BROKER_START_S):
                await self._start_broker()
            consuming = [asyncio.create_task(consumer.run()) for consumer in self._batch_consumers]
            ticking = [asyncio.create_task(timer.run()) for timer in self.timers]
            relaying = asyncio.create_task(self._relay.run())
            telemetry.log.info("process.started", port=self.settings.http_port)
            is_whole = await _first_of(stop, serving, relaying, *consuming, *ticking)
            server.should_exit = True
            await self._stop([serving, *consuming, *ticking], relaying)
        finally:
            server.should_exit = True
            await self._close()
        telemetry.log.info("process.stopped")
        return 0 if is_whole else 1

    def _server(self) -> tuple[http_server.Server, list[socket.socket]]:
        """Give the HTTP server and the sockets that it listens on. Raises OSError when a port is taken."""
        config = self.settings
        bounds = http_server.Bounds(
            connections=http_server.raise_file_limit(config.http_connections),
            connections_per_address=config.http_connections_per_address,
        )
        inner_port = config.http_inner_port
        server = http_server.Server(
            self.http, bounds=bounds, trusted_proxies=config.trusted_proxies, inner_port=inner_port
        )
        ports = [config.http_port, *([inner_port] if inner_port is not None else [])]
        return server, [http_server.listen(config.http_host, port) for port in ports]

    async def _start_broker(self) -> None:
        if self._queues:
            self._broker = broker.build(
                self.amqp_url, self._queues, db=self.db, sender=self.sender, prefetch=self.settings.prefetch
            )
            # It reconnects even after the cancellation at the end of the loop, unless it is stopped.
            self.closers.insert(0, self._broker.stop)
            await self._broker.start()

    async def _stop(self, parts: "Sequence[asyncio.Task[None]]", relaying: "asyncio.Task[None]") -> None:
        """Stop the consumers first and the relay last, so that messages of the last handlers are still published."""
        self.health.is_stopping = True
        for consumer in self._batch_consumers:
            consumer.stop()
        for timer in self.timers:
            timer.stop()
        stopping = [asyncio.create_task(self._broker.stop())] if self._broker is not None else []
        give_up_at = asyncio.get_running_loop().time() + FINISH_S
        await _finish([*parts, *stopping], FINISH_S)
        if finishing := [asyncio.ensure_future(finish()) for finish in self.finishers]:
            await _finish(finishing, max(1, give_up_at - asyncio.get_running_loop().time()))
        self._relay.stop()
        await _finish([relaying], LAST_RELAY_S)

    async def _close(self) -> None:
        """Close everything, whatever state it is in."""
        for close in (*self.closers, self.sender.close):
            try:
                async with asyncio.timeout(CLOSE_S):
                    await close()
            except Exception as error:  # noqa: BLE001 - the process ends; the rest must still be closed
                telemetry.log.warning("process.close_failed", error=type(error).__name__)

    async def _maintain_inbox(self) -> int:
        async with self.db.transaction() as tx:
            await inbox.maintain(tx)
        return 0

    async def _database_answers(self) -> bool:
        async with self.db.transaction() as tx:
            return bool(await tx.fetchval("SELECT true"))

    async def _broker_answers(self) -> bool:
        await self.sender.open()
        return self._broker is None or await self._broker.ping(timeout=1)

    async def _consumes(self, queue: str) -> bool:
        return self.routing.is_bound(queue) and self._broker is not None and await broker.consumes(self._broker, queue)

    async def _consumes_batches(self, consumer: batch.BatchConsumer) -> bool:
        return self.routing.is_bound(consumer.queue) and await consumer.is_consuming()

    def _routing_check(self) -> routing.RoutingCheck:
        api_url = self.settings.rabbitmq_api_url
        return routing.RoutingCheck(
            self.sender,
            self.service.bindings,
            self.service.published,
            None if api_url is None else management_api.ManagementApi(api_url.get_secret_value(), self.amqp_url),
            has_own_user=self.settings.has_own_broker_user,
        )


async def _first_of(stop: asyncio.Event, *parts: "asyncio.Task[None]") -> bool:
    """Wait for the signal to stop or for a part that ends by itself; gives whether it was the signal."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for part in done - {stopping}:
        telemetry.log.error("process.part_ended", exc_info=None if part.cancelled() else part.exception())
    return stopping in done


async def _finish(parts: "Sequence[asyncio.Future[None]]", timeout_s: float) -> None:
    """Wait for parts to end and cancel those that are late; their unacknowledged messages are delivered again."""
    _, late = await asyncio.wait(parts, timeout=timeout_s)
    for part in late:
        part.cancel()
    for outcome in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(outcome, Exception):
            telemetry.log.error("process.part_failed", exc_info=outcome)
    if late:
        telemetry.log.warning("process.parts_were_late", parts=len(late))


async def _measured(measurement: Coroutine[Any, Any, None]) -> int:
    await measurement
    return 0
