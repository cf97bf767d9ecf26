"""Findings: what needs a person's eye. Opening one says so; the same one is open once, and may come again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chassis import database, outbox, telemetry
from contracts import payments
from contracts.message import TenantId

_OPEN = """
INSERT INTO finding (tenant, kind, provider, account, payment_id, webhook_id, about, details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)
ON CONFLICT DO NOTHING RETURNING finding_id, opened_at
"""
_LIST = """
SELECT finding_id, tenant, kind, provider, account, payment_id, about, details, opened_at, resolved_at, resolution
FROM finding
WHERE finding_id > $1 AND ($2 OR resolved_at IS NULL) AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR provider = $4) AND ($5::text IS NULL OR account = $5)
ORDER BY finding_id LIMIT $6
"""
_OF_PAYMENT = """
SELECT finding_id, tenant, kind, provider, account, payment_id, about, details, opened_at, resolved_at, resolution
FROM finding WHERE payment_id = $1 ORDER BY finding_id LIMIT $2
"""
OF_PAYMENT_MAX = 1_000
_RESOLVE = """
UPDATE finding SET resolved_at = now(), resolution = $2
WHERE finding_id = ANY($1::bigint[]) AND resolved_at IS NULL RETURNING finding_id
"""
# Only open states: they are few and indexed, while counting every payment ever made would not be.
_MEASURE = """
SELECT 'payment' AS kind, state, count(*) AS count FROM payment
WHERE state IN ('created', 'pending', 'authorized') GROUP BY state
UNION ALL SELECT 'webhook', state, count(*) FROM webhook WHERE next_at IS NOT NULL GROUP BY state
UNION ALL SELECT 'attempt', op, count(*) FROM provider_attempt WHERE next_at IS NOT NULL GROUP BY op
UNION ALL SELECT 'finding', kind, count(*) FROM finding WHERE resolved_at IS NULL GROUP BY kind
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as operators see it."""

    finding_id: int
    tenant: str
    kind: str
    provider: payments.Provider | None
    account: str | None
    payment_id: payments.PaymentId | None
    about: str | None
    details: dict[str, Any]
    opened_at: datetime
    resolved_at: datetime | None
    resolution: str | None


async def open_finding(
    tx: database.Tx,
    *,
    tenant: TenantId,
    kind: str,
    details: Mapping[str, Any],
    payment_id: payments.PaymentId | None = None,
    webhook_id: int | None = None,
    about: str | None = None,
    provider: payments.Provider | None = None,
    account: str | None = None,
) -> bool:
    """Ask for a person's eye and say so; False when the same finding is open. Nothing in it is personal."""
    row = await tx.fetchrow(_OPEN, tenant, kind, provider, account, payment_id, webhook_id, about, json.dumps(details))
    if row is None:
        return False
    said = payments.FindingOpened(
        tenant=tenant,
        finding_id=row["finding_id"],
        kind=kind,
        opened_at=row["opened_at"],
        provider=provider,
        provider_account=account,
        payment_id=payment_id,
    )
    await outbox.put(tx, [said])
    telemetry.log.warning("payments.finding", kind=kind, finding_id=row["finding_id"])
    return True


async def listed(
    tx: database.Tx,
    *,
    after: int,
    limit: int,
    is_resolved_too: bool,
    kind: str | None = None,
    provider: str | None = None,
    account: str | None = None,
) -> list[Finding]:
    """Give a page of findings, the oldest first: those whose number is above `after`."""
    rows = await tx.fetch(_LIST, after, is_resolved_too, kind, provider, account, limit)
    return [Finding(**row) for row in rows]


async def of_payment(tx: database.Tx, payment_id: payments.PaymentId) -> list[Finding]:
    """Give the findings about a payment, the oldest first."""
    return [Finding(**row) for row in await tx.fetch(_OF_PAYMENT, payment_id, OF_PAYMENT_MAX)]


async def resolve(tx: database.Tx, finding_ids: list[int], resolution: str) -> list[int]:
    """Close findings with what was done about them; gives those that were open."""
    return [row[0] for row in await tx.fetch(_RESOLVE, finding_ids, resolution)]


async def count_open(tx: database.Tx) -> list[tuple[str, str, int]]:
    """Count what is not finished: (payment, webhook, attempt or finding; its state or kind; how many)."""
    return [(row["kind"], row["state"], row["count"]) for row in await tx.fetch(_MEASURE)]
