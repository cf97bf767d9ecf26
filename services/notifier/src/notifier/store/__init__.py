"""Every SQL statement. A notification is inserted once per dedupe key, and only its lease holder changes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from chassis import database
from contracts.message import TenantId, UserId
from notifier.domain import delivery, templates

_ADD = """
INSERT INTO notification (tenant, kind, dedupe_key, user_id, text, is_bulk)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::boolean[]) ORDER BY 1, 3
ON CONFLICT (tenant, dedupe_key) DO NOTHING
"""
_SAVE_RECIPIENT = """
INSERT INTO recipient AS stored (tenant, user_id, chat_id, language) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, user_id) DO UPDATE
  SET chat_id = excluded.chat_id, language = excluded.language, reachability = 'unknown', reachability_at = now()
  WHERE stored.chat_id <> excluded.chat_id
"""
_LANGUAGE = "SELECT language FROM recipient WHERE tenant = $1 AND user_id = $2"
_WAKE = "UPDATE notification SET next_at = now() WHERE tenant = $1 AND user_id = $2 AND state = 'queued'"
# A lease that expired while sending counts as an attempt whose outcome is unknown. While the managers' chat refuses
# messages, those for it are not due before the next probe. Of what is due longest, bulk gives way to all else.
_LEASE = """
WITH manager AS (
  SELECT coalesce(max(migrated_to), $5) AS chat_id, max(probe_at) AS probe_at
  FROM manager_chat WHERE tenant = $1 AND chat_id = $5
), candidate AS (
  SELECT n.id, n.is_bulk, n.next_at FROM notification n CROSS JOIN manager
  WHERE n.tenant = $1 AND n.state IN ('queued', 'sending') AND n.next_at <= now()
    AND (n.user_id IS NOT NULL OR manager.probe_at IS NULL OR manager.probe_at <= now())
  ORDER BY n.next_at LIMIT $2 * 10
), due AS (
  SELECT n.id, n.state, CASE WHEN n.user_id IS NULL THEN manager.chat_id ELSE r.chat_id END AS chat_id,
    n.user_id IS NULL AND manager.probe_at IS NOT NULL AS is_chat_down,
    r.reachability = 'blocked' AND r.reachability_at > now() - make_interval(secs => $4) AS is_recipient_blocked
  FROM candidate JOIN notification n USING (id) CROSS JOIN manager
  LEFT JOIN recipient r ON r.tenant = n.tenant AND r.user_id = n.user_id
  WHERE n.state IN ('queued', 'sending') AND n.next_at <= now()
  ORDER BY candidate.is_bulk, candidate.next_at LIMIT $2
  FOR UPDATE OF n SKIP LOCKED
), lost AS (
  INSERT INTO delivery (notification_id, outcome) SELECT id, 'uncertain' FROM due WHERE state = 'sending'
)
UPDATE notification n SET state = 'sending', lease = n.lease + 1, next_at = now() + make_interval(secs => $3),
  attempts = n.attempts + (due.state = 'sending')::int,
  may_have_arrived = n.may_have_arrived OR due.state = 'sending'
FROM due WHERE n.id = due.id
RETURNING n.id, n.lease, n.user_id, due.chat_id, n.text, n.is_plain, n.is_bulk, n.attempts, n.may_have_arrived,
  extract(epoch FROM now() - coalesce(n.resent_at, n.created_at))::float8 AS age_s,
  coalesce(due.is_recipient_blocked, false) AS is_blocked, due.is_chat_down
"""
# One statement for three tables, so that it is atomic: what is not saved is sent again.
_SAVE = """
WITH change AS (
  SELECT * FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::text[], $6::smallint[], $7::boolean[],
    $8::boolean[], $9::float8[], $10::uuid[], $11::text[], $12::smallint[], $13::bigint[], $14::text[], $15::text[])
    WITH ORDINALITY AS change(id, lease, state, reason, attempts, is_plain, may_have_arrived, wait_s, user_id, outcome,
      http_status, message_id, detail, reachability, position)
), saved AS (
  UPDATE notification n SET state = change.state, reason = change.reason, attempts = change.attempts,
    is_plain = change.is_plain, may_have_arrived = change.may_have_arrived,
    next_at = now() + make_interval(secs => change.wait_s)
  FROM change WHERE n.id = change.id AND n.lease = change.lease AND n.state = 'sending'
), logged AS (
  INSERT INTO delivery (notification_id, outcome, http_status, telegram_message_id, detail)
  SELECT id, outcome, http_status, message_id, detail FROM change WHERE outcome IS NOT NULL
)
UPDATE recipient r SET reachability = observed.reachability, reachability_at = now()
FROM (
  SELECT DISTINCT ON (user_id) user_id, reachability FROM change WHERE reachability IS NOT NULL
  ORDER BY user_id, position DESC
) AS observed
WHERE r.tenant = $1 AND r.user_id = observed.user_id
  AND (r.reachability <> observed.reachability OR observed.reachability = 'blocked')
"""
# What an outcome shows about the recipient; other outcomes show nothing.
_REACHABILITY = {delivery.Result.SENT: "enabled", delivery.Result.BLOCKED: "blocked"}
_PENDING = "SELECT count(*) FROM notification WHERE tenant = $1 AND state IN ('queued', 'sending')"
_MANAGER_CHAT = """
SELECT chat_id, migrated_to, down_since, down_reason, probe_at, probes, (
    SELECT count(*) FROM notification WHERE tenant = $1 AND user_id IS NULL AND state IN ('queued', 'sending')
  ) AS waiting
FROM manager_chat WHERE tenant = $1 AND chat_id = $2
"""
_MANAGER_CHAT_DOWN = """
INSERT INTO manager_chat AS chat (tenant, chat_id, down_since, down_reason, probes, probe_at)
VALUES ($1, $2, now(), $3, 1, now() + make_interval(secs => ($4::float8[])[1]))
ON CONFLICT (tenant, chat_id) DO UPDATE SET down_since = coalesce(chat.down_since, now()), down_reason = $3,
  probes = least(chat.probes + 1, 1000),
  probe_at = now() + make_interval(secs => ($4::float8[])[least(chat.probes + 1, cardinality($4))])
  WHERE chat.probe_at IS NULL OR chat.probe_at <= now()
"""
_MANAGER_CHAT_UP = """
UPDATE manager_chat SET down_since = NULL, down_reason = NULL, probes = 0, probe_at = NULL
WHERE tenant = $1 AND chat_id = $2 AND down_since IS NOT NULL
"""
_MANAGER_CHAT_MIGRATED = """
INSERT INTO manager_chat (tenant, chat_id, migrated_to) VALUES ($1, $2, $3)
ON CONFLICT (tenant, chat_id) DO UPDATE SET migrated_to = excluded.migrated_to
"""


@dataclass(frozen=True, slots=True)
class Change:
    """The transition of one leased notification, and the outcome of the attempt that led to it, if there was one."""

    notification: delivery.Notification
    transition: delivery.Transition
    outcome: delivery.Outcome | None = None


@dataclass(frozen=True, slots=True)
class ManagerChat:
    """What became of the chat that the setting names, and how many notifications wait for it."""

    chat_id: int
    migrated_to: int | None
    down_since: datetime | None
    down_reason: str | None
    probe_at: datetime | None
    probes: int
    waiting: int


async def add(tx: database.Tx, drafts: Sequence[templates.Draft]) -> None:
    """Queue notifications; one whose dedupe key exists is left as it is."""
    await tx.execute(
        _ADD,
        [draft.tenant for draft in drafts],
        [draft.kind for draft in drafts],
        [draft.dedupe_key for draft in drafts],
        [draft.user_id for draft in drafts],
        [draft.text for draft in drafts],
        [draft.is_bulk for draft in drafts],
    )


async def save_recipient(
    tx: database.Tx, tenant: TenantId, user_id: UserId, chat_id: int, language: str | None
) -> None:
    """Store the chat of a user, and make the notifications that waited for it due at once."""
    await tx.execute(_SAVE_RECIPIENT, tenant, user_id, chat_id, language)
    await tx.execute(_WAKE, tenant, user_id)


async def language_of(tx: database.Tx, tenant: TenantId, user_id: UserId) -> str | None:
    """Return the language of a user, where it is known."""
    language: str | None = await tx.fetchval(_LANGUAGE, tenant, user_id)
    return language


async def lease(
    tx: database.Tx, tenant: TenantId, *, manager_chat_id: int, limit: int, lease_s: float
) -> list[delivery.Notification]:
    """Lease due notifications for `lease_s` seconds, bulk last, else longest due first; then others may lease them.

    Those for the managers get `manager_chat_id`, or what it has migrated to. Rows that a concurrent transaction is
    leasing are skipped. Reads the index of the due ones.
    """
    rows = await tx.fetch(_LEASE, tenant, limit, lease_s, delivery.BLOCKED_FOR_S, manager_chat_id)
    return [_notification(row) for row in rows]


async def save(tx: database.Tx, tenant: TenantId, changes: Sequence[Change]) -> None:
    """Save the transitions of leased notifications, the log of the attempts, and who can be reached.

    A notification that another process has leased meanwhile is not changed; its attempt is logged all the same.
    """
    await tx.execute(_SAVE, tenant, *zip(*map(_columns, changes), strict=True))


async def count_pending(tx: database.Tx, tenant: TenantId) -> int:
    """Return the number of notifications that have not ended. Reads the index of the due ones."""
    count: int = await tx.fetchval(_PENDING, tenant)
    return count


async def manager_chat(tx: database.Tx, tenant: TenantId, chat_id: int) -> ManagerChat | None:
    """Return what became of the managers' chat, or None when nothing has."""
    row = await tx.fetchrow(_MANAGER_CHAT, tenant, chat_id)
    return None if row is None else ManagerChat(**row)


async def save_refusal(tx: database.Tx, tenant: TenantId, chat_id: int, reason: str | None) -> None:
    """Store that the managers' chat refuses messages, and when to try again; refusals before then change nothing."""
    await tx.execute(_MANAGER_CHAT_DOWN, tenant, chat_id, reason, list(delivery.PROBE_PAUSES_S))


async def save_acceptance(tx: database.Tx, tenant: TenantId, chat_id: int) -> None:
    """Store that the managers' chat takes messages again, so that all that wait for it are due."""
    await tx.execute(_MANAGER_CHAT_UP, tenant, chat_id)


async def save_migration(tx: database.Tx, tenant: TenantId, chat_id: int, migrated_to: int) -> None:
    """Store the new id of the managers' chat."""
    await tx.execute(_MANAGER_CHAT_MIGRATED, tenant, chat_id, migrated_to)


def _notification(row: asyncpg.Record) -> delivery.Notification:
    return delivery.Notification(
        id=row["id"],
        lease=row["lease"],
        chat_id=row["chat_id"],
        user_id=row["user_id"],
        text=row["text"],
        is_plain=row["is_plain"],
        is_bulk=row["is_bulk"],
        attempts=row["attempts"],
        may_have_arrived=row["may_have_arrived"],
        age_s=row["age_s"],
        is_recipient_blocked=row["is_blocked"],
        is_chat_down=row["is_chat_down"],
    )


def _columns(change: Change) -> tuple[object, ...]:
    notification, transition, outcome = change.notification, change.transition, change.outcome
    attempt: tuple[object, ...] = (None,) * 5
    if outcome is not None:
        reachability = _REACHABILITY.get(outcome.result) if notification.user_id is not None else None
        attempt = (outcome.result, outcome.http_status, outcome.message_id, outcome.detail, reachability)
    return (
        notification.id,
        notification.lease,
        transition.state,
        transition.reason,
        transition.attempts,
        transition.is_plain,
        transition.may_have_arrived,
        transition.wait_s,
        notification.user_id,
        *attempt,
    )
