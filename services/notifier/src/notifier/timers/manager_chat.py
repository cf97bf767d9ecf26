"""Watches the chat of the managers: it may move, refuse messages for a while, or close the topic of the setting.

What is queued for it stays queued, and what became of it shows in the log, in a metric and in the readiness report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import Gauge

from chassis import database, telemetry
from contracts.message import TenantId
from notifier import store
from notifier.clients import telegram
from notifier.domain import delivery, templates

DOWN = Gauge("kopilka_notifier_manager_chat_down", "1 while the managers' chat refuses messages, else 0.")


@dataclass(slots=True)
class Watch:
    """What was last seen of the managers' chat, for the readiness report."""

    tenant: TenantId
    chat_id: int
    bot: telegram.Bot
    warning: str | None = None

    async def probe(self, db: database.Database) -> int:
        """Ask Telegram whether the bot may write to the chat, unless messages that wait for it will show it."""
        async with db.statement() as tx:
            chat = await store.manager_chat(tx, self.tenant, self.chat_id)
        is_down = chat is not None and chat.down_since is not None
        if chat is not None and is_down and chat.waiting:
            return 0
        outcome = await self.bot.probe(self.chat_id if chat is None or chat.migrated_to is None else chat.migrated_to)
        if outcome.migrated_to is not None:
            await follow(db, self.tenant, self.chat_id, outcome.migrated_to)
        elif outcome.result in delivery.CHAT_DOWN:
            await _refused(db, self.tenant, self.chat_id, outcome)
        elif outcome.result is delivery.Result.SENT and is_down:
            await _accepted(db, self.tenant, self.chat_id)
        return 0

    async def measure(self, db: database.Database) -> int:
        """Set the gauge and the warning of the readiness report."""
        async with db.statement() as tx:
            chat = await store.manager_chat(tx, self.tenant, self.chat_id)
        DOWN.set(chat is not None and chat.down_since is not None)
        self.warning = None if chat is None else _warning(chat)
        return 0


async def observe(db: database.Database, tenant: TenantId, chat_id: int, changes: Sequence[store.Change]) -> None:
    """Store what the outcomes of sent notifications show about the chat."""
    seen = [
        (change.notification, change.outcome)
        for change in changes
        if change.notification.is_for_managers and change.outcome is not None
    ]
    accepted = [notification for notification, outcome in seen if outcome.result is delivery.Result.SENT]
    refused = [outcome for _, outcome in seen if outcome.result in delivery.CHAT_DOWN]
    if refused and not accepted:
        await _refused(db, tenant, chat_id, refused[0])
    elif any(notification.is_chat_down for notification in accepted):
        await _accepted(db, tenant, chat_id)


async def follow(db: database.Database, tenant: TenantId, chat_id: int, migrated_to: int) -> None:
    """Store the new id of the chat, and tell the managers there that the setting must follow."""
    async with db.transaction() as tx:
        await store.save_migration(tx, tenant, chat_id, migrated_to)
        await store.add(tx, [templates.of_migration(tenant, chat_id, migrated_to)])
    telemetry.log.warning("notifier.manager_chat.migrated", chat_id=chat_id, migrated_to=migrated_to)


async def _refused(db: database.Database, tenant: TenantId, chat_id: int, outcome: delivery.Outcome) -> None:
    async with db.statement() as tx:
        await store.save_refusal(tx, tenant, chat_id, outcome.loggable_detail)
    telemetry.log.warning("notifier.manager_chat.down", http_status=outcome.http_status, detail=outcome.loggable_detail)


async def _accepted(db: database.Database, tenant: TenantId, chat_id: int) -> None:
    async with db.statement() as tx:
        await store.save_acceptance(tx, tenant, chat_id)
    telemetry.log.info("notifier.manager_chat.up")


def _warning(chat: store.ManagerChat) -> str | None:
    if chat.down_since is not None:
        since, until = _time(chat.down_since), _time(chat.probe_at)
        return f"refuses messages since {since} ({chat.down_reason}); {chat.waiting} wait, next try at {until}"
    if chat.migrated_to is not None:
        return f"has migrated: set NOTIFIER_MANAGER_CHAT_ID to {chat.migrated_to}"
    return None


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
