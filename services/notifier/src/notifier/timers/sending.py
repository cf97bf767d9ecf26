"""Sends notifications: those that are due are leased, sent within the bot's rate limits, and their outcomes saved.

When a process dies between sending and saving, its lease expires and the message is sent a second time, because
Telegram has no idempotency key.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from chassis import database, failpoints, telemetry
from contracts.message import TenantId
from notifier import store
from notifier.clients import rate_limiter, telegram
from notifier.domain import delivery
from notifier.timers import manager_chat

BATCH = 30
CONCURRENT_SENDS = 10
LEASE_S = 60  # longer than a batch can take: three rounds of ten sends, ten seconds each
SAVE_RETRY_PAUSES_S = (0.2, 1.0, 5.0)
AWAY_PAUSE_S_MAX = 30

SENDS = Counter("kopilka_notifier_sends_total", "Attempts to send by result.", ["result"])
PENDING = Gauge("kopilka_notifications_pending", "Notifications that have not ended.")


@dataclass(slots=True)
class Channel:
    """One tenant's bot, its rate limiter, and the chat of the tenant's managers with its topic."""

    tenant: TenantId
    manager_chat_id: int
    bot: telegram.Bot
    rate_limiter: rate_limiter.RateLimiter
    manager_thread_id: int | None = None
    consecutive_failures: int = 0

    def observe(self, outcome: delivery.Outcome) -> None:
        """Pause the bot after an outcome that every other attempt would have as well."""
        if outcome.result is delivery.Result.SENT:
            self.consecutive_failures = 0
        elif outcome.result is delivery.Result.THROTTLED:
            self._pause(outcome, outcome.retry_after_s)
        elif outcome.result is delivery.Result.AWAY and not self.rate_limiter.paused_for_s():
            self.consecutive_failures += 1
            self._pause(outcome, min(2**self.consecutive_failures, AWAY_PAUSE_S_MAX))

    def _pause(self, outcome: delivery.Outcome, seconds: float) -> None:
        self.rate_limiter.pause(seconds)
        telemetry.log.warning(
            "notifier.bot_paused", reason=outcome.result, http_status=outcome.http_status, pause_s=seconds
        )


async def send_notifications(db: database.Database, channel: Channel) -> int:
    """Send notifications that are due, within the rate limits; return the number of leased ones.

    Several processes share the work: one process at a time holds the lease of a row. No transaction is open while
    messages are sent.
    """
    limit = min(BATCH, channel.rate_limiter.available())
    if limit == 0:
        return 0
    async with db.statement() as tx:
        leased = await store.lease(
            tx, channel.tenant, manager_chat_id=channel.manager_chat_id, limit=limit, lease_s=LEASE_S
        )
    if not leased:
        return 0
    # Of the messages to a chat that refuses them one is tried; if it arrives, the others are due at once.
    waiting = [notification for notification in leased if notification.is_chat_down][1:]
    semaphore = asyncio.Semaphore(CONCURRENT_SENDS)
    changes = await asyncio.gather(
        *(_deliver(db, channel, notification, semaphore) for notification in leased if notification not in waiting)
    )
    changes += [store.Change(notification, delivery.requeue(notification, 0, "chat_down")) for notification in waiting]
    failpoints.passed("notifier.before_save")
    await _save(db, channel.tenant, changes)
    await manager_chat.observe(db, channel.tenant, channel.manager_chat_id, changes)
    return len(leased)


async def measure(db: database.Database, tenant: TenantId) -> int:
    """Set the gauge of the notifications that have not ended."""
    async with db.statement() as tx:
        PENDING.set(await store.count_pending(tx, tenant))
    return 0


async def _deliver(
    db: database.Database, channel: Channel, notification: delivery.Notification, semaphore: asyncio.Semaphore
) -> store.Change:
    """Send one notification, or leave it for later when it may not be sent now."""
    transition = delivery.before_sending(notification)
    if transition is not None:
        _log_end(notification, transition)
        return store.Change(notification, transition)
    assert notification.chat_id is not None  # without one there is a transition
    async with semaphore:
        if channel.rate_limiter.paused_for_s():
            return store.Change(notification, delivery.requeue(notification, 0, "bot_paused"))
        if wait_s := channel.rate_limiter.take(notification.chat_id, is_bulk=notification.is_bulk):
            return store.Change(notification, delivery.requeue(notification, wait_s, "chat_paced"))
        outcome = await _send(db, channel, notification, notification.chat_id)
    channel.observe(outcome)
    SENDS.labels(outcome.result).inc()
    transition = delivery.after_attempt(notification, outcome, jitter=random.random())  # noqa: S311 - jitter, no secret
    _log_end(notification, transition, outcome.loggable_detail)
    return store.Change(notification, transition, outcome)


def _log_end(notification: delivery.Notification, transition: delivery.Transition, detail: str | None = None) -> None:
    """Log that a notification has ended, with Telegram's words when it was refused."""
    if transition.state not in delivery.FINAL:
        return
    log = telemetry.log.info if transition.state is delivery.State.SENT else telemetry.log.warning
    log(
        "notifier.notification.ended",
        notification_id=notification.id,
        state=transition.state,
        reason=transition.reason,
        attempts=transition.attempts,
        detail=detail,
    )


async def _send(
    db: database.Database, channel: Channel, notification: delivery.Notification, chat_id: int
) -> delivery.Outcome:
    """Send one notification; one for the managers follows their chat to its new id, and leaves a closed topic."""
    text, is_html = notification.shown_text, not notification.is_plain
    if not notification.is_for_managers:
        return await channel.bot.send(chat_id, text, is_html=is_html)
    thread_id = channel.manager_thread_id
    outcome = await channel.bot.send(chat_id, text, is_html=is_html, thread_id=thread_id)
    if outcome.migrated_to is not None:
        await manager_chat.follow(db, channel.tenant, channel.manager_chat_id, outcome.migrated_to)
        chat_id = outcome.migrated_to
        outcome = await channel.bot.send(chat_id, text, is_html=is_html, thread_id=thread_id)
    if outcome.result is delivery.Result.TOPIC_CLOSED and thread_id is not None:
        telemetry.log.warning("notifier.topic_closed", detail=outcome.loggable_detail)
        outcome = await channel.bot.send(chat_id, text, is_html=is_html)
    return outcome


async def _save(db: database.Database, tenant: TenantId, changes: Sequence[store.Change]) -> None:
    """Save the outcomes, retrying through a short outage of the database: what is not saved is sent again."""
    for pause_s in (*SAVE_RETRY_PAUSES_S, None):
        try:
            async with db.statement() as tx:
                await store.save(tx, tenant, changes)
        except Exception as error:
            if pause_s is None or not database.is_outage(error):
                raise
            await asyncio.sleep(pause_s)
        else:
            return
