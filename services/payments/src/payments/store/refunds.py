"""Refunds and disputes of payments; their payment is locked before them."""

import asyncpg

from chassis import database
from contracts import payments
from payments.domain import facts
from payments.domain.dispute import Dispute
from payments.domain.payment import Payment
from payments.domain.refund import Refund, State

_COLUMNS = "refund_id, payment_id, tenant, amount_minor, state, refund_ref, reason, is_ours, settled_at"
_READ = f"SELECT {_COLUMNS} FROM refund WHERE refund_id = $1"
_OF_PAYMENT = f"SELECT {_COLUMNS} FROM refund WHERE payment_id = $1 ORDER BY requested_at, refund_id LIMIT $2"
_SAVE = """
INSERT INTO refund (refund_id, payment_id, tenant, amount_minor, state, refund_ref, reason, is_ours, settled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state, refund_ref = excluded.refund_ref,
  settled_at = excluded.settled_at
"""
_DISPUTE = """
SELECT dispute_ref, payment_id, amount_minor, fee_minor, state FROM dispute WHERE payment_id = $1 AND dispute_ref = $2
"""
_DISPUTES = """
SELECT dispute_ref, payment_id, amount_minor, fee_minor, state FROM dispute WHERE payment_id = $1
ORDER BY opened_at, dispute_ref LIMIT $2
"""
# Index dispute_open.
_OPEN_DISPUTES = """
SELECT provider_ref FROM dispute JOIN payment USING (payment_id)
WHERE dispute.state = 'open' AND tenant = $1 AND provider = $2 AND account = $3
GROUP BY provider_ref ORDER BY min(opened_at) LIMIT $4
"""
_SAVE_DISPUTE = """
INSERT INTO dispute (payment_id, dispute_ref, amount_minor, fee_minor, state) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (payment_id, dispute_ref) DO UPDATE SET state = excluded.state, fee_minor = excluded.fee_minor
"""
# More refunds or disputes than one payment has; it bounds what is read under its lock.
REFUNDS_MAX = 1_000


async def read(tx: database.Tx, refund_id: payments.RefundId) -> Refund | None:
    """Read a refund; None when there is none."""
    row = await tx.fetchrow(_READ, refund_id)
    return _refund(row) if row else None


async def of_payment(tx: database.Tx, payment_id: payments.PaymentId) -> list[Refund]:
    """Give the refunds of a payment, the oldest first."""
    return [_refund(row) for row in await tx.fetch(_OF_PAYMENT, payment_id, REFUNDS_MAX)]


async def save(tx: database.Tx, refund: Refund) -> None:
    """Write a refund of a locked payment, a new one too."""
    await tx.execute(
        _SAVE,
        refund.refund_id,
        refund.payment_id,
        refund.tenant,
        refund.amount_minor,
        refund.state,
        refund.refund_ref,
        refund.reason,
        refund.is_ours,
        refund.settled_at,
    )


async def dispute(tx: database.Tx, payment: Payment, dispute_ref: str) -> Dispute | None:
    """Read a dispute of a payment; None when it is new."""
    row = await tx.fetchrow(_DISPUTE, payment.payment_id, dispute_ref)
    return Dispute(**row) if row else None


async def disputes_of(tx: database.Tx, payment_id: payments.PaymentId) -> list[Dispute]:
    """Give the disputes of a payment, the oldest first."""
    return [Dispute(**row) for row in await tx.fetch(_DISPUTES, payment_id, REFUNDS_MAX)]


async def openly_disputed(tx: database.Tx, account: facts.Account) -> list[str]:
    """Give the provider's names of payments with open disputes, those disputed longest first."""
    rows = await tx.fetch(_OPEN_DISPUTES, account.tenant, account.provider, account.name, REFUNDS_MAX)
    return [row[0] for row in rows]


async def save_dispute(tx: database.Tx, known: Dispute) -> None:
    """Write a dispute of a locked payment, a new one too."""
    await tx.execute(
        _SAVE_DISPUTE, known.payment_id, known.dispute_ref, known.amount_minor, known.fee_minor, known.state
    )


def _refund(row: asyncpg.Record) -> Refund:
    return Refund(**{**row, "state": State(row["state"])})
