"""Payments: inserted once, and locked before a change."""

import asyncpg

import contracts.payments
from chassis import database
from contracts.message import Money, TenantId, UserId
from payments.domain import accounts, schedule
from payments.domain.lifecycle import OPEN, Payment, State

COLUMNS = """
payment_id, tenant, user_id, purpose, provider, currency, amount_minor, return_url, state, version, correlation_id,
traceparent, is_held, description, payer, account, provider_ref, confirmation_url, expires_at, capture_before, paid_at,
paid_by, capture_asked_minor, captured_minor, refunded_minor, reserved_minor, disputed_minor,
fee_minor, origin_id, failure_code, failure_reason
"""
_ADD = """
INSERT INTO payment (payment_id, tenant, user_id, purpose, provider, currency, amount_minor, return_url, state,
  version, correlation_id, traceparent, is_held, description, payer, account, origin_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (payment_id) DO NOTHING RETURNING true
"""
_LOCK = f"SELECT {COLUMNS} FROM payment WHERE payment_id = $1 FOR UPDATE"
_READ = f"SELECT {COLUMNS} FROM payment WHERE payment_id = $1"
_LOCK_BY_REF = f"""
SELECT {COLUMNS} FROM payment
WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4 FOR UPDATE
"""
_SAVE = """
UPDATE payment SET state = $2, version = $3, account = $4, provider_ref = $5, confirmation_url = $6, expires_at = $7,
  capture_before = $8, paid_at = $9, paid_by = $10, capture_asked_minor = $11, captured_minor = $12,
  refunded_minor = $13, reserved_minor = $14, disputed_minor = $15, fee_minor = $16, checks = 0,
  failure_code = $17, failure_reason = $18, changed_at = now(), next_at = now() + make_interval(secs => $19)
WHERE payment_id = $1 AND version < $3
"""
_UNDER_WAY = """
SELECT reserved_minor > 0, disputed_minor > 0 FROM payment
WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4
"""


async def add(tx: database.Tx, payment: Payment) -> bool:
    """Insert a requested payment; False when its id is taken."""
    return bool(
        await tx.fetchval(
            _ADD,
            payment.payment_id,
            payment.tenant,
            payment.user_id,
            payment.purpose,
            payment.provider,
            payment.amount.currency,
            payment.amount.amount_minor,
            payment.return_url,
            payment.state,
            payment.version,
            payment.correlation_id,
            payment.traceparent,
            payment.is_held,
            payment.description,
            payment.payer,
            payment.account,
            payment.origin_id,
        )
    )


async def lock(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> Payment | None:
    """Lock a payment until the transaction ends; None when there is none."""
    row = await tx.fetchrow(_LOCK, payment_id)
    return read_row(row) if row else None


async def read(tx: database.Tx, payment_id: contracts.payments.PaymentId) -> Payment | None:
    """Read a payment without a lock; None when there is none."""
    row = await tx.fetchrow(_READ, payment_id)
    return read_row(row) if row else None


async def lock_of(
    tx: database.Tx,
    account: accounts.Account,
    provider_ref: str,
    payment_id: contracts.payments.PaymentId | None = None,
) -> Payment | None:
    """Lock the payment that a fact is about: by our id in its metadata, else by the provider's id."""
    row = None if payment_id is None else await tx.fetchrow(_LOCK, payment_id)
    if row is None:
        row = await tx.fetchrow(_LOCK_BY_REF, account.tenant, account.provider, account.name, provider_ref)
    return read_row(row) if row else None


async def under_way(tx: database.Tx, account: accounts.Account, provider_ref: str) -> tuple[bool, bool]:
    """Tell whether a payment has open refunds, and whether it has disputes that were not won."""
    row = await tx.fetchrow(_UNDER_WAY, account.tenant, account.provider, account.name, provider_ref)
    return (row[0], row[1]) if row else (False, False)


async def save(tx: database.Tx, payment: Payment) -> None:
    """Update a locked payment; one with something open will be polled soon, any other never."""
    saved = await tx.execute(
        _SAVE,
        payment.payment_id,
        payment.state,
        payment.version,
        payment.account,
        payment.provider_ref,
        payment.confirmation_url,
        payment.expires_at,
        payment.capture_before,
        payment.paid_at,
        payment.paid_by,
        payment.capture_asked_minor,
        payment.captured_minor,
        payment.refunded_minor,
        payment.reserved_minor,
        payment.disputed_minor,
        payment.fee_minor,
        payment.failure_code,
        payment.failure_reason,
        schedule.POLL_PAUSES_S[0] if payment.state in OPEN or payment.reserved_minor else None,
    )
    assert saved == "UPDATE 1"  # the row is locked, so no other transaction changed its version


def read_row(row: asyncpg.Record) -> Payment:
    """Make a payment of a row that has its columns."""
    return Payment(
        payment_id=contracts.payments.PaymentId(row["payment_id"]),
        tenant=TenantId(row["tenant"]),
        user_id=UserId(row["user_id"]),
        purpose=row["purpose"],
        provider=row["provider"],
        amount=Money(amount_minor=row["amount_minor"], currency=row["currency"]),
        return_url=row["return_url"],
        state=State(row["state"]),
        version=row["version"],
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        is_held=row["is_held"],
        description=row["description"],
        payer=row["payer"],
        account=row["account"],
        provider_ref=row["provider_ref"],
        confirmation_url=row["confirmation_url"],
        expires_at=row["expires_at"],
        capture_before=row["capture_before"],
        paid_at=row["paid_at"],
        paid_by=row["paid_by"],
        capture_asked_minor=row["capture_asked_minor"],
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        reserved_minor=row["reserved_minor"],
        disputed_minor=row["disputed_minor"],
        fee_minor=row["fee_minor"],
        origin_id=contracts.payments.PaymentId(row["origin_id"]) if row["origin_id"] else None,
        failure_code=row["failure_code"],
        failure_reason=row["failure_reason"],
    )
