"""Deposits: each is inserted once, with its effect."""

import contracts.payments
from chassis import database
from payments.deposits import domain
from payments.domain import accounts, facts

_FIND_PAYMENT = """
SELECT payment_id FROM payment WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4
"""
_ADD = """
INSERT INTO deposit (tenant, provider, account, provider_ref, currency, amount_minor, payment_id, left_minor, cause,
  received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING true
"""
_EXISTS = """
SELECT EXISTS (SELECT FROM deposit WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4)
"""


async def find_payment(tx: database.Tx, account: accounts.Account, comment: str) -> contracts.payments.PaymentId | None:
    """Find the payment that a comment names, which is the reference that the payment was created with."""
    found: contracts.payments.PaymentId | None = await tx.fetchval(
        _FIND_PAYMENT, account.tenant, account.provider, account.name, comment
    )
    return found


async def exists(tx: database.Tx, account: accounts.Account, provider_ref: str) -> bool:
    """Tell whether a deposit is stored."""
    return bool(await tx.fetchval(_EXISTS, account.tenant, account.provider, account.name, provider_ref))


async def add(
    tx: database.Tx,
    account: accounts.Account,
    deposit: facts.Deposit,
    payment_id: contracts.payments.PaymentId | None,
    effect: domain.Effect,
) -> bool:
    """Insert a deposit with its effect; False when it is stored already."""
    return bool(
        await tx.fetchval(
            _ADD,
            account.tenant,
            account.provider,
            account.name,
            deposit.provider_ref,
            deposit.amount.currency,
            deposit.amount.amount_minor,
            payment_id,
            effect.left_minor,
            effect.cause,
            deposit.received_at,
        )
    )
