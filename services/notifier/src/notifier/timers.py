"""The clock door of the notifier: takes what is due, sends it at the bot's pace, and writes what became of it.

A process that dies between sending and writing leaves its lease behind; whoever takes it next sends the message a
second time, because Telegram has no key to recognise it by.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter, Gauge

from chassis import database, failpoints, telemetry
from contracts.message import TenantId
from notifier import domain, store
from notifier.clients import pace, telegram

BATCH = 30
AT_ONCE = 10
LEASE_S = 60  # above the longest batch: three rounds of ten sends, ten seconds each
MARK_PAUSES_S = (0.2, 1.0, 5.0)
AWAY_PAUSE_S_MAX = 30

SENDS = Counter("kopilka_notifier_sends_total", "Attempts to send by how they ended.", ["result"])
PENDING = Gauge("kopilka_notifications_pending", "Notifications that have not ended.")


@dataclass(slots=True)
class Channel:
    """One tenant's bot, its pace, and the chat of the tenant's managers."""

    tenant: TenantId
    manager_chat_id: int
    bot: telegram.Bot
    pace: pace.Pace
    failures_in_a_row: int = 0

    def address(self, one: domain.Notification) -> domain.Notification:
        """Give a notification with the managers' chat where it is for them."""
        return one if one.user_id is not None else replace(one, chat_id=self.manager_chat_id)

    def heed(self, outcome: domain.Outcome) -> None:
        """Let the bot be silent where an attempt has shown that every other would fail as well."""
        if outcome.result is domain.Result.SENT:
            self.failures_in_a_row = 0
        elif outcome.result is domain.Result.THROTTLED:
            self._pause(outcome, outcome.retry_after_s)
        elif outcome.result is domain.Result.AWAY and not self.pace.paused_for_s():
            self.failures_in_a_row += 1
            self._pause(outcome, min(2**self.failures_in_a_row, AWAY_PAUSE_S_MAX))

    def _pause(self, outcome: domain.Outcome, seconds: float) -> None:
        self.pace.pause(seconds)
        telemetry.log.warning(
            "notifier.bot_paused", reason=outcome.result, http_status=outcome.http_status, pause_s=seconds
        )


async def send_notifications(db: database.Database, channel: Channel) -> int:
    """Send what is due, as much as the bot's pace allows; gives how much was taken.

    Several processes share the work. Each row is in one hand at a time, and no transaction is open while it is sent.
    """
    limit = min(BATCH, channel.pace.available())
    if limit == 0:
        return 0
    async with db.statement() as tx:
        leased = await store.lease(tx, channel.tenant, limit=limit, lease_s=LEASE_S)
    if not leased:
        return 0
    gate = asyncio.Semaphore(AT_ONCE)
    marks = await asyncio.gather(*(_deliver(channel, channel.address(one), gate) for one in leased))
    failpoints.passed("notifier.before_mark")
    await _mark(db, channel.tenant, marks)
    return len(leased)


async def measure(db: database.Database, tenant: TenantId) -> int:
    """Set the gauge of the notifications that have not ended."""
    async with db.statement() as tx:
        PENDING.set(await store.count_pending(tx, tenant))
    return 0


async def _deliver(channel: Channel, one: domain.Notification, gate: asyncio.Semaphore) -> store.Mark:
    """Send one notification, or leave it for later when it is not its turn."""
    held_back = domain.before_sending(one)
    if held_back is not None:
        return store.Mark(one, held_back)
    assert one.chat_id is not None  # else it was held back
    async with gate:
        if channel.pace.paused_for_s():
            return store.Mark(one, domain.later(one, 0, "bot_paused"))
        if wait_s := channel.pace.take(one.chat_id):
            return store.Mark(one, domain.later(one, wait_s, "chat_paced"))
        outcome = await channel.bot.send(one.chat_id, one.shown_text, is_html=not one.is_plain)
    channel.heed(outcome)
    SENDS.labels(outcome.result).inc()
    step = domain.after_attempt(one, outcome, jitter=random.random())  # noqa: S311 - jitter, not a secret
    if step.state in domain.FINAL:
        telemetry.log.info(
            "notifier.notification.ended", notification_id=one.id, state=step.state, attempts=step.attempts
        )
    return store.Mark(one, step, outcome)


async def _mark(db: database.Database, tenant: TenantId, marks: Sequence[store.Mark]) -> None:
    """Write the outcomes, waiting out a short absence of the database: what is not written is sent again."""
    for pause_s in (*MARK_PAUSES_S, None):
        try:
            async with db.statement() as tx:
                await store.mark(tx, tenant, marks)
        except Exception as error:
            if pause_s is None or not database.is_outage(error):
                raise
            await asyncio.sleep(pause_s)
        else:
            return
