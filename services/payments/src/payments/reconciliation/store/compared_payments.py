"""Our side of a comparison with a provider's report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import contracts.payments
from chassis import database
from payments.domain import accounts

# Index payment_created. A payment of the report may be older than the period, so those are selected by their ids.
_LIST = """
SELECT payment_id, provider_ref, state, currency, captured_minor, refunded_minor, created_at,
  greatest(paid_at, (
    SELECT max(coalesce(settled_at, requested_at)) FROM refund WHERE refund.payment_id = payment.payment_id
  )) AS moved_at, created_at BETWEEN $5 AND $6 AS is_within
FROM payment
WHERE tenant = $1 AND provider = $2 AND account = $3
  AND (provider_ref = ANY($4::text[]) OR created_at BETWEEN $5 AND $6) AND provider_ref IS NOT NULL
"""
_KNOWN_REFUNDS = """
SELECT refund_ref FROM refund JOIN payment USING (payment_id)
WHERE payment.tenant = $1 AND provider = $2 AND account = $3 AND refund_ref = ANY($4::text[])
"""
_POLL_NOW = "UPDATE payment SET next_at = now() WHERE payment_id = $1"


# Index dispute_open.
_WITH_OPEN_DISPUTES = """
SELECT provider_ref FROM dispute JOIN payment USING (payment_id)
WHERE dispute.state = 'open' AND tenant = $1 AND provider = $2 AND account = $3
GROUP BY provider_ref ORDER BY min(opened_at) LIMIT $4
"""
# More open disputes than an account should have; the rest is fetched the next night.
DISPUTED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class ComparedPayment:
    """A payment as we know it. `is_within` tells that the provider's report must have it."""

    payment_id: contracts.payments.PaymentId
    provider_ref: str
    state: str
    currency: str
    captured_minor: int
    refunded_minor: int
    created_at: datetime
    moved_at: datetime | None
    is_within: bool


async def read(
    tx: database.Tx, account: accounts.Account, refs: Sequence[str], since: datetime, until: datetime
) -> list[ComparedPayment]:
    """Read the payments of a period, and those with one of the provider's ids."""
    rows = await tx.fetch(_LIST, account.tenant, account.provider, account.name, list(refs), since, until)
    return [ComparedPayment(**row) for row in rows]


async def known_refunds(tx: database.Tx, account: accounts.Account, refund_refs: Sequence[str]) -> set[str]:
    """Give those of the provider's refunds that we know."""
    rows = await tx.fetch(_KNOWN_REFUNDS, account.tenant, account.provider, account.name, list(refund_refs))
    return {row[0] for row in rows}


async def poll_now(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> None:
    """Let a payment be polled as soon as possible."""
    await tx.execute(_POLL_NOW, payment_id)


async def with_open_disputes(tx: database.Tx, account: accounts.Account) -> list[str]:
    """Give the provider's ids of payments with open disputes, those disputed longest first."""
    rows = await tx.fetch(_WITH_OPEN_DISPUTES, account.tenant, account.provider, account.name, DISPUTED_MAX)
    return [row[0] for row in rows]
