"""What operators read of notifications, and what they send again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from chassis import database
from contracts.message import TenantId, UserId
from notifier.domain import delivery

DELIVERIES_MAX = 100

# Without a state: those that did not arrive. An operator's query reads the table from its newest row on.
_FIND = """
SELECT n.id, n.created_at, n.state, n.reason, n.kind, n.user_id, (
    SELECT detail FROM delivery d WHERE d.notification_id = n.id ORDER BY d.id DESC LIMIT 1
  ) AS detail
FROM notification n
WHERE tenant = $1 AND coalesce(state = $2, state <> 'sent') AND ($3::text IS NULL OR kind = $3)
  AND (NOT $4 OR user_id IS NULL)
ORDER BY id DESC LIMIT $5
"""
_READ = """
SELECT id, tenant, kind, user_id, state, reason, attempts, may_have_arrived, created_at, resent_at, next_at, text
FROM notification WHERE tenant = $1 AND id = $2
"""
_DELIVERIES = """
SELECT outcome, http_status, detail, ended_at FROM delivery WHERE notification_id = $1 ORDER BY id DESC LIMIT $2
"""
_ENDED = """
SELECT id FROM notification
WHERE tenant = $1 AND state NOT IN ('queued', 'sending') AND (cardinality($2::bigint[]) = 0 OR id = ANY($2))
  AND ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR kind = $4) AND (NOT $5 OR user_id IS NULL)
ORDER BY id LIMIT $6 FOR UPDATE
"""
_RESEND = """
UPDATE notification SET state = 'queued', reason = NULL, attempts = 0, may_have_arrived = false, is_plain = false,
  resent_at = now(), next_at = now()
WHERE id = ANY($1)
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications an operator means; None is any."""

    tenant: TenantId
    state: delivery.State | None
    kind: str | None
    is_for_managers: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list; `detail` is what was answered to the last attempt."""

    id: int
    created_at: datetime
    state: delivery.State
    reason: str | None
    kind: str
    user_id: UserId | None
    detail: str | None


async def find(tx: database.Tx, chosen: Filter, *, limit: int) -> list[Listed]:
    """Return notifications, newest first; those that have arrived only when their state is chosen."""
    rows = await tx.fetch(_FIND, chosen.tenant, chosen.state, chosen.kind, chosen.is_for_managers, limit)
    return [Listed(**row) for row in rows]


async def read(
    tx: database.Tx, tenant: TenantId, notification_id: int
) -> tuple[asyncpg.Record, list[asyncpg.Record]] | None:
    """Return one notification and its latest deliveries, newest first; None when it does not exist."""
    row = await tx.fetchrow(_READ, tenant, notification_id)
    return None if row is None else (row, await tx.fetch(_DELIVERIES, notification_id, DELIVERIES_MAX))


async def ended(tx: database.Tx, chosen: Filter, ids: Sequence[int], *, limit: int) -> list[int]:
    """Return the ids of notifications that have ended, of these ids or of all, and lock them."""
    rows = await tx.fetch(_ENDED, chosen.tenant, ids, chosen.state, chosen.kind, chosen.is_for_managers, limit)
    return [row["id"] for row in rows]


async def resend(tx: database.Tx, ids: Sequence[int]) -> None:
    """Queue ended notifications again, with all their attempts and as young as new ones."""
    await tx.execute(_RESEND, ids)
