"""Every SQL statement of the notifier. A notification is written once per dedupe key; its lease's holder moves it."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from chassis import database
from contracts.message import TenantId, UserId
from notifier import domain

_ADD = """
INSERT INTO notification (tenant, kind, dedupe_key, user_id, text)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[]) ORDER BY 1, 3
ON CONFLICT (tenant, dedupe_key) DO NOTHING
"""
_LEARN = """
INSERT INTO recipient AS known (tenant, user_id, chat_id) VALUES ($1, $2, $3)
ON CONFLICT (tenant, user_id) DO UPDATE
  SET chat_id = excluded.chat_id, reachability = 'unknown', reachability_at = now()
  WHERE known.chat_id <> excluded.chat_id
"""
_WAKE = "UPDATE notification SET next_at = now() WHERE tenant = $1 AND user_id = $2 AND state = 'queued'"
# A lease that ran out while sending is an attempt of its own, whose outcome nobody knows.
_LEASE = """
WITH due AS (
  SELECT n.id, n.state, r.chat_id,
    r.reachability = 'blocked' AND r.reachability_at > now() - make_interval(secs => $4) AS is_recipient_blocked
  FROM notification n LEFT JOIN recipient r ON r.tenant = n.tenant AND r.user_id = n.user_id
  WHERE n.tenant = $1 AND n.state IN ('queued', 'sending') AND n.next_at <= now()
  ORDER BY n.next_at LIMIT $2
  FOR UPDATE OF n SKIP LOCKED
), lost AS (
  INSERT INTO delivery (notification_id, outcome) SELECT id, 'uncertain' FROM due WHERE state = 'sending'
)
UPDATE notification n SET state = 'sending', lease = n.lease + 1, next_at = now() + make_interval(secs => $3),
  attempts = n.attempts + (due.state = 'sending')::int,
  may_have_arrived = n.may_have_arrived OR due.state = 'sending'
FROM due WHERE n.id = due.id
RETURNING n.id, n.lease, n.user_id, due.chat_id, n.text, n.is_plain, n.attempts, n.may_have_arrived,
  extract(epoch FROM now() - n.created_at)::float8 AS age_s, coalesce(due.is_recipient_blocked, false) AS is_blocked
"""
_MARK = """
UPDATE notification n SET state = step.state, reason = step.reason, attempts = step.attempts,
  is_plain = step.is_plain, may_have_arrived = step.may_have_arrived,
  next_at = now() + make_interval(secs => step.wait_s)
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::smallint[], $6::boolean[], $7::boolean[],
  $8::float8[]) AS step(id, lease, state, reason, attempts, is_plain, may_have_arrived, wait_s)
WHERE n.id = step.id AND n.lease = step.lease AND n.state = 'sending'
"""
_LOG = """
INSERT INTO delivery (notification_id, outcome, http_status, telegram_message_id, detail)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[], $5::text[])
"""
_REACH = """
UPDATE recipient r SET reachability = now.reachability, reachability_at = now()
FROM (SELECT DISTINCT ON (1) * FROM unnest($2::uuid[], $3::text[])) AS now(user_id, reachability)
WHERE r.tenant = $1 AND r.user_id = now.user_id
  AND (r.reachability <> now.reachability OR now.reachability = 'blocked')
"""
_PENDING = "SELECT count(*) FROM notification WHERE tenant = $1 AND state IN ('queued', 'sending')"


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of one leased notification, and the attempt that led to it, if there was one."""

    notification: domain.Notification
    step: domain.Step
    outcome: domain.Outcome | None = None


async def add(tx: database.Tx, drafts: Sequence[domain.Draft]) -> None:
    """Queue notifications; one whose dedupe key is known is left as it is."""
    await (await database.driver(tx)).execute(
        _ADD,
        [draft.tenant for draft in drafts],
        [draft.kind for draft in drafts],
        [draft.dedupe_key for draft in drafts],
        [draft.user_id for draft in drafts],
        [draft.text for draft in drafts],
    )


async def learn_recipient(tx: database.Tx, tenant: TenantId, user_id: UserId, chat_id: int) -> None:
    """Remember where a person can be reached, and let what waited for it go at once."""
    connection = await database.driver(tx)
    await connection.execute(_LEARN, tenant, user_id, chat_id)
    await connection.execute(_WAKE, tenant, user_id)


async def lease(tx: database.Tx, tenant: TenantId, *, limit: int, lease_s: float) -> list[domain.Notification]:
    """Take due notifications, longest waiting first, for `lease_s` seconds; after that others may take them.

    Rows in other hands are left out. Reads the index of the due ones.
    """
    rows = await (await database.driver(tx)).fetch(_LEASE, tenant, limit, lease_s, domain.BLOCKED_FOR_S)
    return [_notification(row) for row in rows]


async def mark(tx: database.Tx, tenant: TenantId, marks: Sequence[Mark]) -> None:
    """Write what became of leased notifications, the log of the attempts, and who can be reached.

    A notification whose lease somebody else has taken meanwhile is left to them; its attempt is logged all the same.
    """
    connection = await database.driver(tx)
    await connection.execute(
        _MARK,
        [one.notification.id for one in marks],
        [one.notification.lease for one in marks],
        [one.step.state for one in marks],
        [one.step.reason for one in marks],
        [one.step.attempts for one in marks],
        [one.step.is_plain for one in marks],
        [one.step.may_have_arrived for one in marks],
        [one.step.wait_s for one in marks],
    )
    tried = [(one.notification, one.outcome) for one in marks if one.outcome is not None]
    if tried:
        await connection.execute(
            _LOG,
            [one.id for one, _ in tried],
            [outcome.result for _, outcome in tried],
            [outcome.http_status for _, outcome in tried],
            [outcome.message_id for _, outcome in tried],
            [outcome.detail for _, outcome in tried],
        )
    heard = {
        one.user_id: "enabled" if outcome.result is domain.Result.SENT else "blocked"
        for one, outcome in tried
        if one.user_id is not None and outcome.result in {domain.Result.SENT, domain.Result.BLOCKED}
    }
    if heard:
        await connection.execute(_REACH, tenant, list(heard), list(heard.values()))


async def count_pending(tx: database.Tx, tenant: TenantId) -> int:
    """Count the notifications that have not ended. Reads the index of the due ones."""
    count: int = await (await database.driver(tx)).fetchval(_PENDING, tenant)
    return count


def _notification(row: asyncpg.Record) -> domain.Notification:
    return domain.Notification(
        id=row["id"],
        lease=row["lease"],
        chat_id=row["chat_id"],
        user_id=row["user_id"],
        text=row["text"],
        is_plain=row["is_plain"],
        attempts=row["attempts"],
        may_have_arrived=row["may_have_arrived"],
        age_s=row["age_s"],
        is_recipient_blocked=row["is_blocked"],
    )
