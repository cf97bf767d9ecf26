"""A payment's life: its states, what a fetched fact does to it, and when to ask the provider again.

The one rule: a state only rises in rank, and only by a fetched fact that matches what we asked for.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from contracts import payments
from contracts.message import Money, TenantId, UserId

# The schedule on which open payments are looked at: lost webhooks and expiry are found by it alone.
# Most payers are done within two minutes; an earlier look would ask the provider twice about nearly every payment.
CHECK_RESTS_S = (120.0, 600.0, 3_600.0, 21_600.0, 86_400.0)
# While the payer may still pay, a lost webhook must be noticed within ten minutes.
CHECK_REST_S_WHILE_PAYABLE = 600.0
CHECKED_FOR = timedelta(days=7)

# The provider forgets an idempotence key 24 hours after its first use and would then execute the request anew.
KEY_LIFETIME = timedelta(hours=23)
CREATE_RESTS_S = (2.0, 60.0)
# The same in every attempt. Only asking anew after a definite refusal would be number 2; we fail the payment instead.
CREATE_KEY = "pay.%s.create.1"

FETCH_REST_S_MAX = 600.0
HINT_LIFETIME = timedelta(days=3)
UNKNOWN_REF_RESTS_S = (5.0, 30.0, 120.0, 600.0, 1_800.0)


class State(StrEnum):
    """Where a payment stands."""

    CREATED = "created"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    FAILED = "failed"
    CANCELED = "canceled"
    PAID = "paid"


RANK = {
    State.CREATED: 0,
    State.PENDING: 1,
    State.AUTHORIZED: 2,
    # Given up, one way or the other; only real money goes beyond it.
    State.FAILED: 3,
    State.CANCELED: 3,
    State.PAID: 4,
}
OPEN = frozenset({State.CREATED, State.PENDING, State.AUTHORIZED})

FactState = Literal[State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID]


class Conflict(Exception):  # noqa: N818 - a verdict about a fact
    """A fact differs from what we asked for; it is kept as a finding and changes nothing."""

    def __init__(self, what: str, *, expected: object, found: object) -> None:
        """Name what differs, with both values; none of them is personal."""
        super().__init__(f"{what} differs")
        self.kind = f"{what}_mismatch"
        self.details: dict[str, Any] = {"expected": _plain(expected), "found": _plain(found)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One shop of ours at one provider. `is_test` is the mark that all its payments must carry."""

    tenant: TenantId
    provider: payments.Provider
    name: str
    shop_id: str
    is_test: bool
    payment_ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as we asked for it, and how far it is known to have come.

    `account`, `provider_ref` and `expires_at` are None until the provider has answered.
    """

    payment_id: payments.PaymentId
    tenant: TenantId
    user_id: UserId
    purpose: payments.Purpose
    provider: payments.Provider
    amount: Money
    return_url: str
    state: State
    version: int
    correlation_id: str
    traceparent: str | None = None
    account: str | None = None
    provider_ref: str | None = None
    confirmation_url: str | None = None
    expires_at: datetime | None = None
    paid_at: datetime | None = None

    def is_same_request(self, other: "Payment") -> bool:
        """Tell whether both ask for the same payment."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("payment_id", "tenant", "user_id", "purpose", "provider", "amount", "return_url")
        )


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook's body tells us: at which payment to look. Nothing else in it is believed.

    `provider_ref` is None when the notification is not about a payment.
    """

    event: str
    dedupe_key: str
    provider_ref: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a provider says about one of its payments, in our words.

    `payment_id` is what we wrote into its metadata; None when that is missing or unreadable.
    """

    provider_ref: str
    state: FactState
    amount: Money
    shop_id: str
    is_test: bool
    payment_id: payments.PaymentId | None
    created_at: datetime
    confirmation_url: str | None = None
    paid_at: datetime | None = None
    reason: str | None = None


def requested(command: payments.CreatePayment, *, correlation_id: str, traceparent: str | None) -> Payment:
    """Begin the payment that a command asks for."""
    return Payment(
        payment_id=command.payment_id,
        tenant=command.tenant,
        user_id=command.user_id,
        purpose=command.purpose,
        provider=command.provider,
        amount=command.amount,
        return_url=command.return_url,
        state=State.CREATED,
        version=0,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )


def apply(
    payment: Payment, fact: Fact, account: Account, *, accepted_at: datetime
) -> tuple[Payment, tuple[payments.PaymentEvent, ...]]:
    """Let a fetched fact move a payment; gives the payment as it is now and what to say about it.

    The same payment and no events when the fact is old news. `accepted_at` is when we were told to look.
    Raises Conflict when the fact is not about what we asked for.
    """
    _require_match(payment, fact, account)
    if not _moves(payment, fact):
        return payment, ()
    moved = replace(
        payment,
        state=fact.state,
        version=payment.version + 1,
        account=account.name,
        provider_ref=fact.provider_ref,
        confirmation_url=payment.confirmation_url or fact.confirmation_url,
        expires_at=payment.expires_at or fact.created_at + account.payment_ttl,
        paid_at=(fact.paid_at or accepted_at) if fact.state is State.PAID else None,
    )
    return moved, _events(payment, moved, fact, accepted_at)


def fail(payment: Payment, code: str) -> tuple[Payment, tuple[payments.PaymentEvent, ...]]:
    """Give up a payment that the provider refused to create; nothing happens where one was created after all."""
    if payment.state is not State.CREATED:
        return payment, ()
    failed = replace(payment, state=State.FAILED, version=payment.version + 1)
    return failed, (payments.PaymentFailed(**_common(failed), code=code),)


def create_rest_s(tries: int) -> float:
    """Give the pause after the n-th attempt to create whose outcome is unknown: soon at first, then each minute."""
    return CREATE_RESTS_S[min(tries, len(CREATE_RESTS_S)) - 1]


def fetch_rest_s(attempts: int) -> float:
    """Give the pause after the n-th attempt to fetch that failed."""
    return min(2.0 ** min(attempts - 1, 16), FETCH_REST_S_MAX)


def unknown_ref_rest_s(misses: int) -> float | None:
    """Give the pause after the n-th time that no payment of ours belonged to a hint; None when to stop looking."""
    return UNKNOWN_REF_RESTS_S[misses - 1] if misses <= len(UNKNOWN_REF_RESTS_S) else None


def _require_match(payment: Payment, fact: Fact, account: Account) -> None:
    for what, expected, found in (
        ("payment_id", payment.payment_id, fact.payment_id),
        ("tenant", payment.tenant, account.tenant),
        ("provider", payment.provider, account.provider),
        ("account", payment.account or account.name, account.name),
        ("provider_ref", payment.provider_ref or fact.provider_ref, fact.provider_ref),
        ("shop", account.shop_id, fact.shop_id),
        ("test", account.is_test, fact.is_test),
        ("currency", payment.amount.currency, fact.amount.currency),
        ("amount", payment.amount.amount_minor, fact.amount.amount_minor),
    ):
        if expected != found:
            raise Conflict(what, expected=expected, found=found)


def _moves(payment: Payment, fact: Fact) -> bool:
    if fact.state is State.PENDING and fact.confirmation_url is None:
        # Without the page the payer can't go on, so we wait for the answer that has it.
        return False
    return RANK[fact.state] > RANK[payment.state]


def _events(before: Payment, payment: Payment, fact: Fact, accepted_at: datetime) -> tuple[payments.PaymentEvent, ...]:
    if payment.state is State.PENDING:
        assert payment.confirmation_url is not None  # else the fact would not have moved it
        assert payment.expires_at is not None
        return (
            payments.PaymentCreated(
                **_common(payment), confirmation_url=payment.confirmation_url, expires_at=payment.expires_at
            ),
        )
    if payment.state is State.PAID:
        said = payments.PaymentPaid if before.state in OPEN else payments.PaymentPaidLate
        return (
            said(
                **_common(payment),
                provider_account=str(payment.account),
                provider_ref=fact.provider_ref,
                paid_at=payment.paid_at,
                accepted_at=accepted_at,
            ),
        )
    if payment.state is State.CANCELED:
        return (payments.PaymentCanceled(**_common(payment), reason=fact.reason or "unknown"),)
    # A hold is told to nobody yet: money that is only held buys nothing.
    return ()


def _common(payment: Payment) -> dict[str, Any]:
    return {
        "tenant": payment.tenant,
        "payment_id": payment.payment_id,
        "user_id": payment.user_id,
        "purpose": payment.purpose,
        "provider": payment.provider,
        "amount": payment.amount,
        "version": payment.version,
    }


def _plain(value: object) -> Any:
    return value if isinstance(value, int | str | None) else str(value)
