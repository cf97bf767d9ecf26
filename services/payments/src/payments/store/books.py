"""How far the providers' own books were read, the deposits found there, and our side of a comparison with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from chassis import database
from contracts import payments
from payments.domain import deposit as rules
from payments.domain import facts

What = Literal["deposits", "movements", "comparison", "clearing"]

_READING = """
SELECT cursor, read_until FROM reading WHERE tenant = $1 AND provider = $2 AND account = $3 AND what = $4
"""
_NOTE = """
INSERT INTO reading (tenant, provider, account, what, cursor, read_until) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, provider, account, what)
DO UPDATE SET cursor = excluded.cursor, read_until = excluded.read_until
"""
_NAMED_BY = """
SELECT payment_id FROM payment WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4
"""
_ADD_DEPOSIT = """
INSERT INTO deposit (tenant, provider, account, provider_ref, currency, amount_minor, payment_id, left_minor, cause,
  received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING true
"""
_IS_KNOWN = """
SELECT EXISTS (SELECT FROM deposit WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4)
"""
# Index payment_created. What was named in the list may be older than the stretch of time, so it is asked for by name.
_OURS = """
SELECT payment_id, provider_ref, state, currency, captured_minor, refunded_minor, created_at,
  greatest(paid_at, (
    SELECT max(coalesce(settled_at, requested_at)) FROM refund WHERE refund.payment_id = payment.payment_id
  )) AS moved_at, created_at BETWEEN $5 AND $6 AS is_within
FROM payment
WHERE tenant = $1 AND provider = $2 AND account = $3
  AND (provider_ref = ANY($4::text[]) OR created_at BETWEEN $5 AND $6) AND provider_ref IS NOT NULL
"""
_REFUND_REFS = """
SELECT refund_ref FROM refund JOIN payment USING (payment_id)
WHERE payment.tenant = $1 AND provider = $2 AND account = $3 AND refund_ref = ANY($4::text[])
"""
_LOOK_AGAIN = "UPDATE payment SET next_at = now() WHERE payment_id = $1"


@dataclass(frozen=True, slots=True)
class Ours:
    """Our side of one payment in a comparison. `is_within` tells that the provider's list must have it."""

    payment_id: payments.PaymentId
    provider_ref: str
    state: str
    currency: str
    captured_minor: int
    refunded_minor: int
    created_at: datetime
    moved_at: datetime | None
    is_within: bool


async def reading(tx: database.Tx, account: facts.Account, what: What) -> tuple[str | None, datetime | None]:
    """Tell how far an account's books were read: the provider's cursor, and the time."""
    row = await tx.fetchrow(_READING, *_place(account), what)
    return (row["cursor"], row["read_until"]) if row else (None, None)


async def note(
    tx: database.Tx, account: facts.Account, what: What, *, cursor: str | None = None, until: datetime | None = None
) -> None:
    """Note how far an account's books were read."""
    await tx.execute(_NOTE, *_place(account), what, cursor, until)


async def named_by(tx: database.Tx, account: facts.Account, comment: str) -> payments.PaymentId | None:
    """Find the payment that a comment names, which is the reference that it was created with."""
    found: payments.PaymentId | None = await tx.fetchval(_NAMED_BY, *_place(account), comment)
    return found


async def is_deposit_known(tx: database.Tx, account: facts.Account, provider_ref: str) -> bool:
    """Tell whether a deposit was noted before."""
    return bool(await tx.fetchval(_IS_KNOWN, *_place(account), provider_ref))


async def add_deposit(
    tx: database.Tx,
    account: facts.Account,
    deposit: facts.Deposit,
    payment_id: payments.PaymentId | None,
    verdict: rules.Verdict,
) -> bool:
    """Note a deposit and what it did; False when it was noted before."""
    return bool(
        await tx.fetchval(
            _ADD_DEPOSIT,
            *_place(account),
            deposit.provider_ref,
            deposit.amount.currency,
            deposit.amount.amount_minor,
            payment_id,
            verdict.left_minor,
            verdict.cause,
            deposit.received_at,
        )
    )


async def ours(
    tx: database.Tx, account: facts.Account, refs: Sequence[str], since: datetime, until: datetime
) -> list[Ours]:
    """Give our side of a comparison: payments of a stretch of time, and those that the other side named."""
    return [Ours(**row) for row in await tx.fetch(_OURS, *_place(account), list(refs), since, until)]


async def known_refunds(tx: database.Tx, account: facts.Account, refund_refs: Sequence[str]) -> set[str]:
    """Give those of the provider's refunds that we know."""
    return {row[0] for row in await tx.fetch(_REFUND_REFS, *_place(account), list(refund_refs))}


async def look_again(tx: database.Tx, payment_id: payments.PaymentId) -> None:
    """Let a payment be looked at as soon as possible."""
    await tx.execute(_LOOK_AGAIN, payment_id)


def _place(account: facts.Account) -> tuple[str, str, str]:
    return account.tenant, account.provider, account.name
