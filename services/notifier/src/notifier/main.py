"""The composition root of the notifier."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from contracts.message import TenantId
from notifier import handlers, settings, timers
from notifier.clients import rate_limiter, telegram


def worker(process: app.Process) -> None:
    """Consume events, and send notifications."""
    config = process.settings
    assert isinstance(config, settings.NotifierSettings)
    tenant = TenantId(config.tenant)
    bot = telegram.Bot(config.telegram_url, config.bot_token)
    process.closers.append(bot.close)
    process.consume(*handlers.QUEUES)
    process.consume_batches(*handlers.BATCH_QUEUES)
    process.every(
        "send_notifications",
        partial(
            timers.send_notifications,
            process.db,
            timers.Channel(tenant, config.manager_chat_id, bot, rate_limiter.RateLimiter()),
        ),
        idle_min_s=0.1,
        debounced=True,
    )
    process.every("notifications_gauge", partial(timers.measure, process.db, tenant), idle_min_s=5, idle_max_s=5)
    process.housekeeping()


SERVICE = app.Service(
    name="notifier",
    settings=settings.NotifierSettings,
    roles={"worker": worker, "all": worker},
    migrations=Path(__file__).parent / "migrations",
    queues=handlers.QUEUES,
    batch_queues=handlers.BATCH_QUEUES,
)


def main() -> None:
    """Run one role or command of the notifier."""
    entrypoint.main(SERVICE)
