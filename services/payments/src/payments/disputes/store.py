"""Disputes of payments; their payment is locked before them."""

import contracts.payments
from chassis import database
from payments.disputes.domain import Dispute
from payments.domain.lifecycle import Payment

_READ = """
SELECT dispute_ref, payment_id, amount_minor, fee_minor, state FROM dispute WHERE payment_id = $1 AND dispute_ref = $2
"""
_OF_PAYMENT = """
SELECT dispute_ref, payment_id, amount_minor, fee_minor, state FROM dispute WHERE payment_id = $1
ORDER BY opened_at, dispute_ref LIMIT $2
"""
_SAVE = """
INSERT INTO dispute (payment_id, dispute_ref, amount_minor, fee_minor, state) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (payment_id, dispute_ref) DO UPDATE SET state = excluded.state, fee_minor = excluded.fee_minor
"""
# More disputes than one payment has; it bounds what is read under its lock.
DISPUTES_MAX = 1_000


async def read(tx: database.Tx, payment: Payment, dispute_ref: str) -> Dispute | None:
    """Read a dispute of a payment; None when there is none."""
    row = await tx.fetchrow(_READ, payment.payment_id, dispute_ref)
    return Dispute(**row) if row else None


async def of_payment(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> list[Dispute]:
    """Read the disputes of a payment, the oldest first."""
    return [Dispute(**row) for row in await tx.fetch(_OF_PAYMENT, payment_id, DISPUTES_MAX)]


async def save(tx: database.Tx, dispute: Dispute) -> None:
    """Insert or update a dispute of a locked payment."""
    await tx.execute(
        _SAVE, dispute.payment_id, dispute.dispute_ref, dispute.amount_minor, dispute.fee_minor, dispute.state
    )
