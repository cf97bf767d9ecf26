"""The payments as their owners see them: version 0 is what was accepted, later versions come from events.

A further charge of an invoice is known by its events alone; its row begins with the first of them.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis import database
from contracts import message, payments
from gateway.domain import views

Change = tuple[payments.PaymentEvent, views.PaymentStatus, datetime]
"""What an event tells of a payment, how that is shown, and when it was said."""

_ACCEPT = """
INSERT INTO payments (tenant, id, user_id, version, status, purpose, amount_minor, currency, provider, created_at)
VALUES ($1, $2, $3, 0, 'created', $4, $5, $6, $7, now())
"""
# The status follows the highest version. What only some events know is kept whatever comes before or after them: never
# is more taken than was asked, so the largest amount is what was asked; and what was given back only grows.
_PROJECT = """
INSERT INTO payments AS known (tenant, id, user_id, version, status, purpose, amount_minor, currency, paid_minor,
  refunded_minor, provider, confirmation_url, expires_at, failure_code, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (tenant, id) DO UPDATE SET
  version = greatest(known.version, excluded.version),
  status = CASE WHEN known.version < excluded.version THEN excluded.status ELSE known.status END,
  amount_minor = greatest(known.amount_minor, excluded.amount_minor),
  paid_minor = coalesce(known.paid_minor, excluded.paid_minor),
  refunded_minor = greatest(known.refunded_minor, excluded.refunded_minor),
  confirmation_url = coalesce(known.confirmation_url, excluded.confirmation_url),
  expires_at = coalesce(known.expires_at, excluded.expires_at),
  failure_code = coalesce(known.failure_code, excluded.failure_code),
  created_at = least(known.created_at, excluded.created_at)
"""
_GET = """
SELECT id, status, purpose, amount_minor, currency, paid_minor, refunded_minor, provider, confirmation_url, expires_at,
  failure_code, created_at
FROM payments WHERE tenant = $1 AND id = $2 AND user_id = $3
"""


async def accept(tx: database.Tx, command: payments.CreatePayment) -> None:
    """Show a payment from the moment its command is stored."""
    await tx.execute(
        _ACCEPT,
        command.tenant,
        command.payment_id,
        command.user_id,
        command.purpose,
        command.amount.amount_minor,
        command.amount.currency,
        command.provider,
    )


async def project(tx: database.Tx, changes: Sequence[Change]) -> None:
    """Bring payments to the versions that events tell; an older one only fills what is not known yet.

    Rows are locked by their ids, in the same order in every batch; what is told of one payment keeps its order.
    """
    rows = [_row(*change) for change in sorted(changes, key=lambda change: change[0].payment_id)]
    await tx.executemany(_PROJECT, rows)


async def get(
    tx: database.Tx, tenant: message.TenantId, payment_id: UUID, *, owner: message.UserId
) -> views.Payment | None:
    """Give a payment of this owner, or None; another's payment is as unknown as none."""
    row = await tx.fetchrow(_GET, tenant, payment_id, owner)
    return _payment(row) if row else None


def _row(event: payments.PaymentEvent, status: views.PaymentStatus, said_at: datetime) -> tuple[object, ...]:
    created = event if isinstance(event, payments.PaymentCreated) else None
    asked, paid_minor, refunded_minor = _amounts(event)
    return (
        event.tenant,
        event.payment_id,
        event.user_id,
        event.version,
        status,
        event.purpose,
        asked.amount_minor,
        asked.currency,
        paid_minor,
        refunded_minor,
        event.provider,
        created.confirmation_url if created else None,
        created.expires_at if created else None,
        event.code if isinstance(event, payments.PaymentFailed) else None,
        said_at,
    )


def _amounts(event: payments.PaymentEvent) -> tuple[message.Money, int | None, int]:
    """Give what was asked, as far as an event knows it, what was taken, and what was given back of that."""
    match event:
        case payments.PaymentPaid():
            return event.asked or event.amount, event.amount.amount_minor, 0
        case payments.PaymentRefunded():
            return event.captured, event.captured.amount_minor, event.refunded.amount_minor
        case _:
            return event.amount, None, 0


def _payment(row: asyncpg.Record) -> views.Payment:
    known = dict(row)
    amount = message.Money(amount_minor=known.pop("amount_minor"), currency=known.pop("currency"))
    return views.Payment(amount=amount, **known)
