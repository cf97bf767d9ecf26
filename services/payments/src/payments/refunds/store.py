"""Refunds of payments; their payment is locked before them."""

import asyncpg

import contracts.payments
from chassis import database
from payments.refunds.domain import Refund, State

_COLUMNS = "refund_id, payment_id, tenant, amount_minor, state, refund_ref, reason, is_ours, settled_at"
_READ = f"SELECT {_COLUMNS} FROM refund WHERE refund_id = $1"
_OF_PAYMENT = f"SELECT {_COLUMNS} FROM refund WHERE payment_id = $1 ORDER BY requested_at, refund_id LIMIT $2"
_SAVE = """
INSERT INTO refund (refund_id, payment_id, tenant, amount_minor, state, refund_ref, reason, is_ours, settled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (refund_id) DO UPDATE SET state = excluded.state, refund_ref = excluded.refund_ref,
  settled_at = excluded.settled_at
"""
# More refunds than one payment has; it bounds what is read under its lock.
REFUNDS_MAX = 1_000


async def read(tx: database.Tx, refund_id: contracts.payments.RefundId) -> Refund | None:
    """Read a refund; None when there is none."""
    row = await tx.fetchrow(_READ, refund_id)
    return _refund(row) if row else None


async def of_payment(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> list[Refund]:
    """Read the refunds of a payment, the oldest first."""
    return [_refund(row) for row in await tx.fetch(_OF_PAYMENT, payment_id, REFUNDS_MAX)]


async def save(tx: database.Tx, refund: Refund) -> None:
    """Insert or update a refund of a locked payment."""
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


def _refund(row: asyncpg.Record) -> Refund:
    return Refund(**{**row, "state": State(row["state"])})
