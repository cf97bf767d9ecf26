"""The composition root: which roles the gateway has and what each is made of."""

from functools import partial
from pathlib import Path

import gateway.shop.handlers
import gateway.wallet.handlers
from chassis import app, entrypoint
from gateway import api, settings, timers
from gateway.access.api import authenticator, users
from gateway.clients import limiter, wakeups
from gateway.domain import published
from gateway.shop.api import catalog, orders
from gateway.wallet.api import payments, statement


def _api(process: app.Process) -> None:
    config = _settings(process)
    listener = wakeups.WakeupListener(config.redis_url.get_secret_value())
    limits = limiter.Limiter(config.redis_url.get_secret_value())
    process.every("listen_for_wakeups", listener.listen, idle_max_s=wakeups.RETRY_S)
    process.closers += [listener.close, limits.close]
    parts = api.deps.Deps(config, process.db, authenticator.Authenticator(config, process.db), listener, limits)
    api.mount(process.http, parts, (users.router, payments.router, statement.router, catalog.router, orders.router))


def _worker(process: app.Process) -> None:
    publisher = wakeups.WakeupPublisher(_settings(process).redis_url.get_secret_value())
    process.every("send_wakeups", publisher.send, idle_max_s=wakeups.RETRY_S)
    process.closers.append(publisher.close)
    process.consume(*gateway.shop.handlers.queues(publisher.publish))
    process.consume_batches(*gateway.wallet.handlers.batch_queues(publisher.publish))
    process.every("delete_commands", partial(timers.delete_commands, process.db), idle_min_s=60, idle_max_s=3_600)
    process.housekeeping()


def _all(process: app.Process) -> None:
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
    publishes=published.MESSAGES,
    queues=gateway.shop.handlers.queues(wakeups.publish_nothing),
    batch_queues=gateway.wallet.handlers.batch_queues(wakeups.publish_nothing),
)


def main() -> None:
    """Run the command line of the gateway."""
    entrypoint.main(SERVICE)
