"""A service and its processes: which roles it has, and how one of them starts, runs and stops.

On SIGTERM a process takes nothing new, finishes what it began, lets its outbox go and exits, within 30 seconds.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI
from faststream.rabbit import RabbitBroker
from prometheus_client import Info

from chassis import (
    batch,
    broker,
    clock,
    database,
    dead_letters,
    failpoints,
    health,
    inbox,
    operations,
    publisher,
    relay,
    settings,
    telemetry,
    topology,
    web,
)

STOP_S = 28  # the whole of a graceful stop; supervisors send SIGKILL at 30
BROKER_START_S = 60

BUILD = Info("kopilka_build", "Which service and role this process is.")


@dataclass(frozen=True, slots=True)
class Service:
    """What a service is made of; `main.py` of each service builds exactly one."""

    name: str
    settings: type[settings.Settings]
    roles: Mapping[str, "Callable[[Process], None]"]
    migrations: Path
    queues: tuple[broker.Queue, ...] = ()
    intakes: tuple[batch.Intake, ...] = ()
    commands: "Mapping[str, Callable[[Service, Sequence[str]], Coroutine[Any, Any, int]]]" = field(default_factory=dict)

    @property
    def bindings(self) -> list[topology.Binding]:
        """Everything the broker must route to this service."""
        return [*(queue.binding for queue in self.queues), *(intake.binding for intake in self.intakes)]


class Process:
    """One process of a service, as a role composes it."""

    def __init__(self, service: Service, role: str, config: settings.Settings) -> None:
        """Build the parts every process has; a role adds routes, consumers and timers before it runs."""
        self.service, self.role, self.settings = service, role, config
        self.db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=config.pool_size)
        self.amqp_url = config.amqp_url.get_secret_value()
        self.sender = publisher.Publisher(self.amqp_url)
        self.health = health.Health()
        self.http: FastAPI = web.create(f"Kopilka {service.name}", self.health)
        self.timers: list[clock.Timer] = []
        self.closers: list[Callable[[], Awaitable[None]]] = [self.db.close]
        self._queues: list[broker.Queue] = []
        self._intakes: list[batch.BatchConsumer] = []
        self._broker: RabbitBroker | None = None
        self._relay = relay.Relay(self.db, self.sender)
        self.every("outbox_gauges", lambda: _measured(relay.measure(self.db)), idle_min_s=5, idle_max_s=5)
        self.health.add("database", self._database_answers)
        self.health.add("broker", self._broker_answers)

    def consume(self, *queues: broker.Queue) -> None:
        """Handle the messages of these queues."""
        self._queues.extend(queues)

    def take_in(self, *intakes: batch.Intake) -> None:
        """Handle these hot queues in batches."""
        for intake in intakes:
            self._intakes.append(batch.BatchConsumer(self.amqp_url, intake, db=self.db, sender=self.sender))
            self.health.add(f"consumer {intake.queue}", _truth_of(self._intakes[-1]))

    def every(self, name: str, tick: clock.Tick, *, idle_min_s: float = 0.02, idle_max_s: float = 0.25) -> clock.Timer:
        """Run `tick` again and again: at once while it finds work, else after a rest that grows to the maximum."""
        timer = clock.Timer(name, tick, idle_min_s, idle_max_s)
        self.timers.append(timer)
        return timer

    def housekeeping(self) -> None:
        """Keep the inbox's partitions and the gauges of this schema; one role of each service does it."""
        self.every("inbox_partitions", self._maintain_inbox, idle_min_s=3_600, idle_max_s=3_600)
        self.every(
            "dead_letter_gauge",
            lambda: _measured(dead_letters.measure(self.db)),
            idle_min_s=15,
            idle_max_s=15,
        )

    async def run(self) -> None:
        """Start everything, run until SIGTERM or SIGINT, then stop in order. Raises when a part cannot start."""
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        server = _Server(
            uvicorn.Config(
                self.http,
                host=self.settings.http_host,
                port=self.settings.http_port,
                access_log=False,
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=10,
                timeout_keep_alive=30,
                limit_concurrency=1_000,
                server_header=False,
            )
        )
        serving = asyncio.create_task(server.serve())
        try:
            async with asyncio.timeout(BROKER_START_S):
                await topology.apply(self.amqp_url, self.service.bindings)
                await self._start_broker()
            consuming = [asyncio.create_task(consumer.run()) for consumer in self._intakes]
            ticking = [asyncio.create_task(timer.run()) for timer in self.timers]
            relaying = asyncio.create_task(self._relay.run())
            telemetry.log.info("process.started", port=self.settings.http_port)
            await _first_of(stop, serving, relaying, *consuming, *ticking)
            async with asyncio.timeout(STOP_S):
                await self._stop(server, serving, consuming, ticking, relaying)
        finally:
            server.should_exit = True
            for close in self.closers:
                await close()
            await self.sender.close()
        telemetry.log.info("process.stopped")

    async def _start_broker(self) -> None:
        if self._queues:
            self._broker = broker.build(
                self.amqp_url, self._queues, db=self.db, sender=self.sender, prefetch=self.settings.prefetch
            )
            await self._broker.start()

    async def _stop(
        self,
        server: "_Server",
        serving: "asyncio.Task[None]",
        consuming: "Sequence[asyncio.Task[None]]",
        ticking: "Sequence[asyncio.Task[None]]",
        relaying: "asyncio.Task[None]",
    ) -> None:
        """Intake first, the relay last, so that what the finishing handlers say still goes out."""
        self.health.is_stopping = True
        server.should_exit = True
        for consumer in self._intakes:
            consumer.stop()
        for timer in self.timers:
            timer.stop()
        if self._broker is not None:
            await self._broker.stop()
        await asyncio.gather(serving, *consuming, *ticking, return_exceptions=True)
        self._relay.stop()
        await asyncio.gather(relaying, return_exceptions=True)

    async def _maintain_inbox(self) -> int:
        async with self.db.transaction() as tx:
            await inbox.maintain(tx)
        return 0

    async def _database_answers(self) -> bool:
        async with self.db.transaction() as tx:
            return bool(await (await database.driver(tx)).fetchval("SELECT true"))

    async def _broker_answers(self) -> bool:
        if self._broker is not None:
            return await self._broker.ping(timeout=1)
        await self.sender.open()
        return True


class _Server(uvicorn.Server):
    """The HTTP server inside our event loop; the process handles the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def main(service: Service) -> None:
    """Run `<service> <role>`, `<service> migrate` or one of the service's operator commands, and exit."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "help"), sys.argv[2:]
    commands = {**operations.COMMANDS, **service.commands}
    if name in service.roles:
        config = settings.load(service.settings)
        telemetry.configure(service=service.name, role=name, level=config.log_level)
        failpoints.arm(config.failpoint)
        BUILD.info({"service": service.name, "role": name})
        uvloop.run(_run(service, name, config))
    elif name in commands:
        raise SystemExit(uvloop.run(commands[name](service, arguments)))
    else:
        sys.stderr.write(f"usage: {service.name} {' | '.join([*service.roles, *commands])}\n")
        raise SystemExit(0 if name == "help" else 2)


async def _run(service: Service, role: str, config: settings.Settings) -> None:
    process = Process(service, role, config)
    service.roles[role](process)
    await process.run()


async def _first_of(stop: asyncio.Event, *parts: "asyncio.Task[None]") -> None:
    """Wait for the signal to stop; a part that ends before it takes the process down, so that it is restarted."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for part in done - {stopping}:
        telemetry.log.error("process.part_ended", exc_info=part.exception())


async def _measured(measurement: Coroutine[Any, Any, None]) -> int:
    await measurement
    return 0


def _truth_of(consumer: batch.BatchConsumer) -> health.Check:
    async def is_consuming() -> bool:
        return consumer.is_consuming

    return is_consuming
