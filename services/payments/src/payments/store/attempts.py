"""Requests to providers: one row for each, stored with its idempotency key before it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import TypeAdapter

import contracts.payments
from chassis import database
from payments.domain.lifecycle import Payment
from payments.refunds.domain import Refund, State
from payments.store.payments import COLUMNS, read_row

Op = Literal["create", "capture", "cancel", "refund"]
Outcome = Literal["ok", "rejected", "refused", "unknown", "given_up"]

# The number in the key grows only after a definite refusal: what may have been done is never sent under another key.
_ADD = """
INSERT INTO provider_attempt (idempotence_key, payment_id, op, refund_id, receipt)
SELECT format('%s.%s.%s.%s', CASE $2::text WHEN 'refund' THEN 'ref' ELSE 'pay' END, coalesce($3::uuid, $1::uuid), $2,
  1 + count(*)), $1, $2, $3, $4::jsonb
FROM provider_attempt WHERE payment_id = $1 AND op = $2 AND refund_id IS NOT DISTINCT FROM $3
HAVING bool_and(outcome = 'rejected') IS NOT FALSE
RETURNING true
"""
_IS_OPEN = """
SELECT EXISTS (SELECT FROM provider_attempt WHERE payment_id = $1 AND op = $2 AND outcome NOT IN ('ok', 'rejected'))
"""
# Index provider_attempt_payment.
_LATEST = """
SELECT op, refund_id, tries, outcome, code, next_at IS NOT NULL AS is_open FROM provider_attempt WHERE payment_id = $1
ORDER BY asked_at DESC, idempotence_key DESC LIMIT $2
"""
LATEST_MAX = 100
_RECEIPT = TypeAdapter(contracts.payments.Receipt)
_CONTACT = TypeAdapter(contracts.payments.ReceiptContact)
# Index provider_attempt_due; rows that another process is leasing are skipped, not waited for.
_LEASE = f"""
WITH due AS (
  SELECT idempotence_key AS key FROM provider_attempt AS attempt JOIN payment USING (payment_id)
  WHERE attempt.next_at <= now() AND provider <> ALL($3::text[])
  ORDER BY attempt.next_at LIMIT $1 FOR UPDATE OF attempt SKIP LOCKED
), tried AS (
  UPDATE provider_attempt SET tries = least(tries + 1, 32767), outcome = 'sent', sent_at = now(),
    is_uncertain = is_uncertain OR outcome IN ('sent', 'unknown'), first_sent_at = coalesce(first_sent_at, now()),
    next_at = now() + make_interval(secs => $2)
  FROM due WHERE idempotence_key = due.key
  RETURNING idempotence_key, payment_id AS tried_payment, op, refund_id AS tried_refund, tries, is_uncertain, asked_at,
    first_sent_at, receipt
)
SELECT {COLUMNS}, idempotence_key, op, tries, is_uncertain, now() - first_sent_at AS key_age, now() - asked_at AS age,
  now() - payment.created_at AS payment_age, tried.receipt, refund.*
FROM tried JOIN payment ON payment_id = tried_payment
LEFT JOIN LATERAL (
  SELECT refund_id, refund.amount_minor AS refund_minor, refund.state AS refund_state, refund_ref, reason, is_ours,
    settled_at
  FROM refund WHERE refund.refund_id = tried_refund
) AS refund ON true
"""
_CLOSE = """
UPDATE provider_attempt SET outcome = $2, next_at = now() + make_interval(secs => $3),
  receipt = CASE WHEN $3::float8 IS NOT NULL THEN receipt END, code = $4
WHERE idempotence_key = $1
"""


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The state of a request; `is_open` while it may be sent again, `code` is the provider's code of a refusal."""

    op: Op
    refund_id: contracts.payments.RefundId | None
    tries: int
    outcome: str
    code: str | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request leased to be sent.

    `is_uncertain` tells that an earlier try may have been carried out; ages are by the database's clock.
    """

    key: str
    op: Op
    payment: Payment
    refund: Refund | None
    receipt: contracts.payments.Receipt | None
    receipt_contact: contracts.payments.ReceiptContact | None
    tries: int
    is_uncertain: bool
    key_age: timedelta
    age: timedelta


async def add(
    tx: database.Tx,
    payment: Payment,
    op: Op,
    refund_id: contracts.payments.RefundId | None = None,
    receipt: contracts.payments.ReceiptContact | None = None,
) -> bool:
    """Store a request to a provider; False while the same is under way or done.

    The receipt, or the address of one, is deleted when the request is closed.
    """
    kept = receipt.model_dump_json() if receipt else None
    return bool(await tx.fetchval(_ADD, payment.payment_id, op, refund_id, kept))


async def latest(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> list[AttemptState]:
    """Read the requests about a payment, the latest first."""
    return [AttemptState(**row) for row in await tx.fetch(_LATEST, payment_id, LATEST_MAX)]


async def is_open(tx: database.Tx, payment: Payment, op: Op) -> bool:
    """Tell whether a request of this kind is neither done nor refused."""
    return bool(await tx.fetchval(_IS_OPEN, payment.payment_id, op))


async def lease(tx: database.Tx, *, limit: int, lease_s: float, busy: Sequence[str] = ()) -> Sequence[Attempt]:
    """Lease requests that are due, but none to busy providers, and record that they are sent."""
    attempts = []
    for row in await tx.fetch(_LEASE, limit, lease_s, list(busy)):
        payment = read_row(row)
        refund = row["refund_id"] and Refund(
            refund_id=contracts.payments.RefundId(row["refund_id"]),
            payment_id=payment.payment_id,
            tenant=payment.tenant,
            amount_minor=row["refund_minor"],
            state=State(row["refund_state"]),
            refund_ref=row["refund_ref"],
            reason=row["reason"],
            is_ours=row["is_ours"],
            settled_at=row["settled_at"],
        )
        attempts.append(
            Attempt(
                key=row["idempotence_key"],
                op=row["op"],
                payment=payment,
                refund=refund or None,
                receipt=_RECEIPT.validate_python(row["receipt"]) if "items" in (row["receipt"] or {}) else None,
                receipt_contact=_CONTACT.validate_python(row["receipt"]) if row["receipt"] else None,
                tries=row["tries"],
                is_uncertain=row["is_uncertain"],
                key_age=row["key_age"],
                age=row["age"] if refund else row["payment_age"],
            )
        )
    return attempts


async def close(
    tx: database.Tx, key: str, outcome: Outcome, *, again_s: float | None = None, code: str | None = None
) -> None:
    """Record how the latest try ended, and the pause before the next one; None for no further try."""
    await tx.execute(_CLOSE, key, outcome, again_s, code)
