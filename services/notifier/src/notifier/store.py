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
# One statement for three tables: what is not written as a whole is not written at all, and is sent again.
_MARK = """
WITH step AS (
  SELECT * FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::text[], $6::smallint[], $7::boolean[],
    $8::boolean[], $9::float8[], $10::uuid[], $11::text[], $12::smallint[], $13::bigint[], $14::text[], $15::text[])
    WITH ORDINALITY AS step(id, lease, state, reason, attempts, is_plain, may_have_arrived, wait_s, user_id, outcome,
      http_status, message_id, detail, reachability, position)
), marked AS (
  UPDATE notification n SET state = step.state, reason = step.reason, attempts = step.attempts,
    is_plain = step.is_plain, may_have_arrived = step.may_have_arrived,
    next_at = now() + make_interval(secs => step.wait_s)
  FROM step WHERE n.id = step.id AND n.lease = step.lease AND n.state = 'sending'
), logged AS (
  INSERT INTO delivery (notification_id, outcome, http_status, telegram_message_id, detail)
  SELECT id, outcome, http_status, message_id, detail FROM step WHERE outcome IS NOT NULL
)
UPDATE recipient r SET reachability = heard.reachability, reachability_at = now()
FROM (
  SELECT DISTINCT ON (user_id) user_id, reachability FROM step WHERE reachability IS NOT NULL
  ORDER BY user_id, position DESC
) AS heard
WHERE r.tenant = $1 AND r.user_id = heard.user_id
  AND (r.reachability <> heard.reachability OR heard.reachability = 'blocked')
"""
# What an attempt tells about whether its recipient can be reached; any other outcome tells nothing.
_HEARD = {domain.Result.SENT: "enabled", domain.Result.BLOCKED: "blocked"}
_PENDING = "SELECT count(*) FROM notification WHERE tenant = $1 AND state IN ('queued', 'sending')"


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of one leased notification, and the attempt that led to it, if there was one."""

    notification: domain.Notification
    step: domain.Step
    outcome: domain.Outcome | None = None


async def add(tx: database.Tx, drafts: Sequence[domain.Draft]) -> None:
    """Queue notifications; one whose dedupe key is known is left as it is."""
    await tx.execute(
        _ADD,
        [draft.tenant for draft in drafts],
        [draft.kind for draft in drafts],
        [draft.dedupe_key for draft in drafts],
        [draft.user_id for draft in drafts],
        [draft.text for draft in drafts],
    )


async def learn_recipient(tx: database.Tx, tenant: TenantId, user_id: UserId, chat_id: int) -> None:
    """Remember where a person can be reached, and let what waited for it go at once."""
    await tx.execute(_LEARN, tenant, user_id, chat_id)
    await tx.execute(_WAKE, tenant, user_id)


async def lease(tx: database.Tx, tenant: TenantId, *, limit: int, lease_s: float) -> list[domain.Notification]:
    """Take due notifications, longest waiting first, for `lease_s` seconds; after that others may take them.

    Rows in other hands are left out. Reads the index of the due ones.
    """
    rows = await tx.fetch(_LEASE, tenant, limit, lease_s, domain.BLOCKED_FOR_S)
    return [_notification(row) for row in rows]


async def mark(tx: database.Tx, tenant: TenantId, marks: Sequence[Mark]) -> None:
    """Write what became of leased notifications, the log of the attempts, and who can be reached.

    A notification whose lease somebody else has taken meanwhile is left to them; its attempt is logged all the same.
    """
    await tx.execute(_MARK, tenant, *zip(*map(_marked, marks), strict=True))


async def count_pending(tx: database.Tx, tenant: TenantId) -> int:
    """Count the notifications that have not ended. Reads the index of the due ones."""
    count: int = await tx.fetchval(_PENDING, tenant)
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


def _marked(mark: Mark) -> tuple[object, ...]:
    one, step, outcome = mark.notification, mark.step, mark.outcome
    attempt: tuple[object, ...] = (None,) * 5
    if outcome is not None:
        heard = _HEARD.get(outcome.result) if one.user_id is not None else None
        attempt = (outcome.result, outcome.http_status, outcome.message_id, outcome.detail, heard)
    became = (step.state, step.reason, step.attempts, step.is_plain, step.may_have_arrived, step.wait_s)
    return (one.id, one.lease, *became, one.user_id, *attempt)
