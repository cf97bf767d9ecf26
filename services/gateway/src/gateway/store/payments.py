"""The payments as their owners see them: version 0 is what was accepted, later versions come from events."""

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
# What only one event knows is kept whatever comes before or after it; everything else follows the highest version.
_PROJECT = """
INSERT INTO payments AS known (tenant, id, user_id, version, status, purpose, amount_minor, currency, provider,
  confirmation_url, expires_at, failure_code, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant, id) DO UPDATE SET
  version = greatest(known.version, excluded.version),
  status = CASE WHEN known.version < excluded.version THEN excluded.status ELSE known.status END,
  confirmation_url = coalesce(known.confirmation_url, excluded.confirmation_url),
  expires_at = coalesce(known.expires_at, excluded.expires_at),
  failure_code = coalesce(known.failure_code, excluded.failure_code),
  created_at = least(known.created_at, excluded.created_at)
WHERE known.version < excluded.version OR known.confirmation_url IS NULL
"""
_GET = """
SELECT id, status, purpose, amount_minor, currency, provider, confirmation_url, expires_at, failure_code, created_at
FROM payments WHERE tenant = $1 AND id = $2 AND user_id = $3
"""


async def accept(tx: database.Tx, command: payments.CreatePayment) -> None:
    """Show a payment from the moment its command is stored."""
    await (await database.driver(tx)).execute(
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
    await (await database.driver(tx)).executemany(_PROJECT, rows)


async def get(
    tx: database.Tx, tenant: message.TenantId, payment_id: UUID, *, owner: message.UserId
) -> views.Payment | None:
    """Give a payment of this owner, or None; another's payment is as unknown as none."""
    row = await (await database.driver(tx)).fetchrow(_GET, tenant, payment_id, owner)
    return _payment(row) if row else None


def _row(event: payments.PaymentEvent, status: views.PaymentStatus, said_at: datetime) -> tuple[object, ...]:
    created = event if isinstance(event, payments.PaymentCreated) else None
    return (
        event.tenant,
        event.payment_id,
        event.user_id,
        event.version,
        status,
        event.purpose,
        event.amount.amount_minor,
        event.amount.currency,
        event.provider,
        created.confirmation_url if created else None,
        created.expires_at if created else None,
        event.code if isinstance(event, payments.PaymentFailed) else None,
        said_at,
    )


def _payment(row: asyncpg.Record) -> views.Payment:
    known = dict(row)
    amount = message.Money(amount_minor=known.pop("amount_minor"), currency=known.pop("currency"))
    return views.Payment(amount=amount, **known)
