"""The composition root of the notifier."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from contracts.message import TenantId
from notifier import handlers, operations, settings
from notifier.clients import rate_limiter, telegram
from notifier.timers import manager_chat, sending


def worker(process: app.Process) -> None:
    """Consume events, and send notifications."""
    config = process.settings
    assert isinstance(config, settings.NotifierSettings)
    tenant = TenantId(config.tenant)
    bot = telegram.Bot(config.telegram_url, config.bot_token)
    process.closers.append(bot.close)
    process.consume(*handlers.QUEUES)
    process.consume_batches(*handlers.BATCH_QUEUES)
    channel = sending.Channel(tenant, config.manager_chat_id, bot, rate_limiter.RateLimiter(), config.manager_thread_id)
    send = partial(sending.send_notifications, process.db, channel)
    process.every("send_notifications", send, idle_min_s=0.1, debounced=True)
    process.every("notifications_gauge", partial(sending.measure, process.db, tenant), idle_min_s=5, idle_max_s=5)
    watch = manager_chat.Watch(tenant, config.manager_chat_id, bot)
    process.every("probe_manager_chat", partial(watch.probe, process.db), idle_min_s=600, idle_max_s=600)
    process.every("manager_chat_gauge", partial(watch.measure, process.db), idle_min_s=15, idle_max_s=15)
    process.health.add_warning("manager chat", lambda: watch.warning)
    process.housekeeping()


SERVICE = app.Service(
    name="notifier",
    settings=settings.NotifierSettings,
    roles={"worker": worker, "all": worker},
    migrations=Path(__file__).parent / "migrations",
    queues=handlers.QUEUES,
    batch_queues=handlers.BATCH_QUEUES,
    commands=operations.COMMANDS,
)


def main() -> None:
    """Run one role or command of the notifier."""
    entrypoint.main(SERVICE)
