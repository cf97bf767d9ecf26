"""Payments that are due to be polled: leased, or left alone for a while."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis import database
from payments.domain import schedule
from payments.domain.lifecycle import Payment
from payments.store.payments import COLUMNS, read_row
from payments.webhooks.domain.schedule import POLL_PAUSE_S_WHILE_PAYABLE

_PAUSE = "UPDATE payment SET next_at = now() + make_interval(secs => $3) WHERE payment_id = $1 AND state = $2"
# Index payment_to_check. The lease is the next poll itself: after a poll that fails the next one follows as usual.
_LEASE_DUE = f"""
WITH due AS (
  SELECT payment_id AS id FROM payment WHERE next_at <= now() AND provider <> ALL($4::text[])
  ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE payment SET checks = least(checks + 1, 32767), next_at = now() + make_interval(secs => least(
  ($2::float8[])[least(checks + 2, cardinality($2))],
  CASE WHEN now() < expires_at OR reserved_minor > 0 THEN $3::float8 END))
FROM due WHERE payment_id = due.id RETURNING {COLUMNS}, checks, now() AS leased_at
"""


@dataclass(frozen=True, slots=True)
class DuePayment:
    """A payment leased to be polled. `polls` counts the polls since it last changed."""

    payment: Payment
    polls: int
    leased_at: datetime


async def pause(tx: database.Tx, payment: Payment, pause_s: float | None) -> None:
    """Set the pause until a payment is polled again, unless its state has changed; None ends the polling."""
    await tx.execute(_PAUSE, payment.payment_id, payment.state, pause_s)


async def lease_due(tx: database.Tx, *, limit: int, busy: Sequence[str] = ()) -> Sequence[DuePayment]:
    """Lease payments that are due to be polled, but none of busy providers."""
    rows = await tx.fetch(_LEASE_DUE, limit, schedule.POLL_PAUSES_S, POLL_PAUSE_S_WHILE_PAYABLE, list(busy))
    return [DuePayment(read_row(row), row["checks"], row["leased_at"]) for row in rows]
