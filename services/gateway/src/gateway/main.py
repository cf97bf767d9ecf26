"""The composition root: which roles the gateway has and what each is made of."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from gateway import api, handlers, settings, timers
from gateway.api import deps
from gateway.clients import limiter, wakeups

REDIS_RETRY_S = 5  # while Redis is away; waiting requests poll meanwhile


def _api(process: app.Process) -> None:
    """Serve the clients."""
    config = _settings(process)
    listener = wakeups.WakeupListener(config.redis_url.get_secret_value())
    limits = limiter.Limiter(config.redis_url.get_secret_value())
    process.every("listen_for_wakeups", listener.listen, idle_max_s=REDIS_RETRY_S)
    process.closers += [listener.close, limits.close]
    api.mount(process.http, deps.Deps(config, process.db, listener, limits))


def _worker(process: app.Process) -> None:
    """Project what other services say."""
    publisher = wakeups.WakeupPublisher(_settings(process).redis_url.get_secret_value())
    process.every("send_wakeups", publisher.send, idle_max_s=REDIS_RETRY_S)
    process.closers.append(publisher.close)
    process.consume(*handlers.queues(publisher.publish))
    process.consume_batches(*handlers.batch_queues(publisher.publish))
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
    queues=handlers.queues(wakeups.publish_nothing),
    batch_queues=handlers.batch_queues(wakeups.publish_nothing),
)


def main() -> None:
    """Run the command line of the gateway."""
    entrypoint.main(SERVICE)
