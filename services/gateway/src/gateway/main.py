"""The composition root: which roles the gateway has and what each is made of."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from gateway import api, handlers, settings, timers
from gateway.api import deps
from gateway.clients import limiter, wakeups

REDIS_PAUSE_S = 5  # while Redis is away it is asked for this often, and whoever waits looks by itself


def _api(process: app.Process) -> None:
    """Serve the clients."""
    config = _settings(process)
    waiters = wakeups.Waiters(config.redis_url.get_secret_value())
    limits = limiter.Limiter(config.redis_url.get_secret_value())
    process.every("hear_wakeups", waiters.listen, idle_max_s=REDIS_PAUSE_S)
    process.closers += [waiters.close, limits.close]
    api.mount(process.http, deps.Deps(config, process.db, waiters, limits))


def _worker(process: app.Process) -> None:
    """Project what other services say."""
    bell = wakeups.Bell(_settings(process).redis_url.get_secret_value())
    process.every("send_wakeups", bell.send, idle_max_s=REDIS_PAUSE_S)
    process.closers.append(bell.close)
    process.consume(*handlers.queues(bell.ring))
    process.consume_batches(*handlers.batch_queues(bell.ring))
    process.every("forget_commands", partial(timers.forget_commands, process.db), idle_min_s=60, idle_max_s=3_600)
    process.housekeeping()


def _all(process: app.Process) -> None:
    """Do both in one process."""
    _api(process)
    _worker(process)


def _settings(process: app.Process) -> settings.GatewaySettings:
    assert isinstance(process.settings, settings.GatewaySettings)
    return process.settings


SERVICE = app.Service(
    name="gateway",
    settings=settings.GatewaySettings,
    roles={"api": _api, "worker": _worker, "all": _all},
    migrations=Path(__file__).parent / "migrations",
    queues=handlers.queues(handlers.ring_nobody),
    batch_queues=handlers.batch_queues(handlers.ring_nobody),
)


def main() -> None:
    """Run the command line of the gateway."""
    entrypoint.main(SERVICE)
