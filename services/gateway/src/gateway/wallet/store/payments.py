"""The SQL of payments: version 0 is the accepted request, later versions come from events.

A further charge of an invoice has no request; its row begins with its first event.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis import database
from contracts import message, payments
from gateway.wallet import domain

Change = tuple[payments.PaymentEvent, domain.payments.Status, datetime]
"""An event of a payment, the status that it leads to, and when it was published."""

_ACCEPT = """
INSERT INTO payments (tenant, id, user_id, version, status, purpose, amount_minor, currency, provider, created_at)
VALUES ($1, $2, $3, 0, 'created', $4, $5, $6, $7, now())
"""
# Status and refunded amount follow the highest version: a refund may fail after it has succeeded. Fields that only some
# events carry are kept in whatever order events come. No more is captured than was requested, so the largest amount is
# the requested one.
_PROJECT = """
INSERT INTO payments AS stored (tenant, id, user_id, version, status, purpose, amount_minor, currency, paid_minor,
  refunded_minor, provider, confirmation_url, expires_at, failure_code, failure_reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (tenant, id) DO UPDATE SET
  version = greatest(stored.version, excluded.version),
  status = CASE WHEN stored.version < excluded.version THEN excluded.status ELSE stored.status END,
  amount_minor = greatest(stored.amount_minor, excluded.amount_minor),
  paid_minor = coalesce(stored.paid_minor, excluded.paid_minor),
  refunded_minor = CASE WHEN stored.version < excluded.version THEN excluded.refunded_minor
    ELSE stored.refunded_minor END,
  confirmation_url = coalesce(stored.confirmation_url, excluded.confirmation_url),
  expires_at = coalesce(stored.expires_at, excluded.expires_at),
  failure_code = coalesce(stored.failure_code, excluded.failure_code),
  failure_reason = CASE WHEN stored.version < excluded.version THEN excluded.failure_reason
    ELSE stored.failure_reason END,
  created_at = least(stored.created_at, excluded.created_at)
"""
_GET = """
SELECT id, status, purpose, amount_minor, currency, paid_minor, refunded_minor, provider, confirmation_url, expires_at,
  failure_code, failure_reason, created_at
FROM payments WHERE tenant = $1 AND id = $2 AND user_id = $3
"""

# Reads a table of the access slice: a statement of one column keeps the slices' code apart.
_TELEGRAM_ID = "SELECT telegram_id FROM users WHERE tenant = $1 AND id = $2"


async def accept(tx: database.Tx, command: payments.CreatePayment) -> None:
    """Insert version 0 of a payment."""
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
    """Apply events to payments; an event older than the row fills only fields that are missing.

    Rows are locked in the order of their ids in every batch; the events of one payment keep their order.
    """
    rows = [_row(*change) for change in sorted(changes, key=lambda change: change[0].payment_id)]
    await tx.executemany(_PROJECT, rows)


async def get(
    tx: database.Tx, tenant: message.TenantId, payment_id: UUID, *, owner: message.UserId
) -> domain.payments.Payment | None:
    """Return a payment of this owner, or None; the payments of others are not found."""
    row = await tx.fetchrow(_GET, tenant, payment_id, owner)
    return _payment(row) if row else None


async def telegram_id_of(tx: database.Tx, tenant: message.TenantId, user_id: message.UserId) -> int | None:
    """Return the Telegram account of a user, or None when there is no such user."""
    telegram_id: int | None = await tx.fetchval(_TELEGRAM_ID, tenant, user_id)
    return telegram_id


def _row(event: payments.PaymentEvent, status: domain.payments.Status, published_at: datetime) -> tuple[object, ...]:
    created = event if isinstance(event, payments.PaymentCreated) else None
    requested, paid_minor, refunded_minor = _amounts(event)
    return (
        event.tenant,
        event.payment_id,
        event.user_id,
        event.version,
        status,
        event.purpose,
        requested.amount_minor,
        requested.currency,
        paid_minor,
        refunded_minor,
        event.provider,
        created.confirmation_url if created else None,
        created.expires_at if created else None,
        event.code if isinstance(event, payments.PaymentFailed) else None,
        event.failure_reason if isinstance(event, payments.PaymentFailed | payments.PaymentCanceled) else None,
        published_at,
    )


def _amounts(event: payments.PaymentEvent) -> tuple[message.Money, int | None, int]:
    """Return the requested amount as far as an event carries it, and the paid and the refunded one."""
    match event:
        case payments.PaymentPaid():
            return event.asked or event.amount, event.amount.amount_minor, 0
        case payments.PaymentRefunded():
            return event.captured, event.captured.amount_minor, event.refunded.amount_minor
        case payments.RefundReversed():
            refunded_minor = event.refunded.amount_minor if event.refunded else 0
            return event.captured, event.captured.amount_minor, refunded_minor
        case _:
            return event.amount, None, 0


def _payment(row: asyncpg.Record) -> domain.payments.Payment:
    fields = dict(row)
    amount = message.Money(amount_minor=fields.pop("amount_minor"), currency=fields.pop("currency"))
    return domain.payments.Payment(amount=amount, **fields)
