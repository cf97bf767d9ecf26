"""Findings as operators work on them: listed page by page, and resolved with a note."""

from dataclasses import dataclass
from datetime import datetime

import contracts.payments
from chassis import database

_COLUMNS = """
finding_id, tenant, kind, provider, account, payment_id, about, details, opened_at, resolved_at, resolution
"""
_LIST = f"""
SELECT {_COLUMNS} FROM finding
WHERE finding_id > $1 AND ($2 OR resolved_at IS NULL) AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR provider = $4) AND ($5::text IS NULL OR account = $5)
ORDER BY finding_id LIMIT $6
"""
_OF_PAYMENT = f"SELECT {_COLUMNS} FROM finding WHERE payment_id = $1 ORDER BY finding_id LIMIT $2"
OF_PAYMENT_MAX = 1_000
_RESOLVE = """
UPDATE finding SET resolved_at = now(), resolution = $2
WHERE finding_id = ANY($1::bigint[]) AND resolved_at IS NULL RETURNING finding_id
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as operators see it."""

    finding_id: int
    tenant: str
    kind: str
    provider: contracts.payments.Provider | None
    account: str | None
    payment_id: contracts.payments.PaymentId | None
    about: str | None
    details: dict[str, object]
    opened_at: datetime
    resolved_at: datetime | None
    resolution: str | None


async def read_page(
    tx: database.Tx,
    *,
    after: int,
    limit: int,
    with_resolved: bool,
    kind: str | None = None,
    provider: str | None = None,
    account: str | None = None,
) -> list[Finding]:
    """Read a page of findings, the oldest first: those whose id is above `after`."""
    rows = await tx.fetch(_LIST, after, with_resolved, kind, provider, account, limit)
    return [Finding(**row) for row in rows]


async def of_payment(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> list[Finding]:
    """Read the findings about a payment, the oldest first."""
    return [Finding(**row) for row in await tx.fetch(_OF_PAYMENT, payment_id, OF_PAYMENT_MAX)]


async def resolve(tx: database.Tx, finding_ids: list[int], resolution: str) -> list[int]:
    """Close findings with a note of what was done; gives those that were open."""
    return [row[0] for row in await tx.fetch(_RESOLVE, finding_ids, resolution)]
