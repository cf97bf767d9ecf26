"""A payment's life: its states and what a fact does to it.

The one rule: a state only rises in rank, and only by a fact that matches what we asked for. After the money has come,
the state follows from the amounts alone.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from contracts import payments
from contracts.message import Money, TenantId, UserId
from payments.domain import facts
from payments.domain.conflict import Conflict, Refused

# Names made of a provider's own: the same for ever, whoever computes them.
_NAMES = UUID("6b1f4f0e-6d0c-5d57-9a3f-0e4f7b1a2c55")


class State(StrEnum):
    """Where a payment stands."""

    CREATED = "created"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    FAILED = "failed"
    CANCELED = "canceled"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


RANK = {
    State.CREATED: 0,
    State.PENDING: 1,
    State.AUTHORIZED: 2,
    # Given up, one way or the other; only real money goes beyond it.
    State.FAILED: 3,
    State.CANCELED: 3,
    State.PAID: 4,
    State.PARTIALLY_REFUNDED: 5,
    State.REFUNDED: 6,
}
OPEN = frozenset({State.CREATED, State.PENDING, State.AUTHORIZED})
SETTLED = frozenset({State.PAID, State.PARTIALLY_REFUNDED, State.REFUNDED})

Events = tuple[payments.PaymentEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as we asked for it, and how far it is known to have come.

    `provider_ref` and `expires_at` are None until the provider has answered, and so is `account` unless it was asked
    for. `capture_asked_minor` is what we asked to take of a hold. `reserved_minor` is promised to refunds under way,
    `disputed_minor` is what disputes took that are open or lost, `fee_minor` what the provider keeps, as it was said.
    `origin_id` is the payment whose invoice was paid once more by this one.
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
    is_held: bool = False
    description: str | None = None
    payer: str | None = None
    account: str | None = None
    provider_ref: str | None = None
    confirmation_url: str | None = None
    expires_at: datetime | None = None
    capture_before: datetime | None = None
    paid_at: datetime | None = None
    paid_by: str | None = None
    capture_asked_minor: int | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    reserved_minor: int = 0
    disputed_minor: int = 0
    fee_minor: int = 0
    origin_id: payments.PaymentId | None = None

    @property
    def left_minor(self) -> int:
        """What can still be given back."""
        return self.captured_minor - self.refunded_minor - self.reserved_minor - self.disputed_minor

    def money(self, amount_minor: int) -> Money:
        """Give an amount in the payment's asset."""
        return Money(amount_minor=amount_minor, currency=self.amount.currency)

    def is_same_request(self, other: "Payment") -> bool:
        """Tell whether this asks for the same payment as another, which may have come further."""
        return self.account in {None, other.account} and all(
            getattr(self, name) == getattr(other, name)
            for name in (
                *("payment_id", "tenant", "user_id", "purpose", "provider", "amount", "return_url"),
                *("is_held", "description", "payer"),
            )
        )


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
        is_held=command.is_held,
        description=command.description,
        payer=command.payer,
        account=command.account,
    )


def charged_again(payment: Payment, account: facts.Account, fact: facts.Fact) -> Payment:
    """Begin the payment that a further charge of one invoice is: of its own, under an id made of the charge's."""
    return replace(
        payment,
        payment_id=payments.PaymentId(named(account, fact.provider_ref)),
        state=State.CREATED,
        version=0,
        provider_ref=None,
        paid_at=None,
        paid_by=None,
        expires_at=None,
        confirmation_url=None,
        captured_minor=0,
        refunded_minor=0,
        reserved_minor=0,
        disputed_minor=0,
        fee_minor=0,
        origin_id=payment.payment_id,
    )


def named(account: facts.Account, ref: str) -> UUID:
    """Give our id of something that only its provider has named."""
    return uuid5(_NAMES, f"{account.tenant}:{account.provider}:{account.name}:{ref}")


def apply(
    payment: Payment,
    fact: facts.Fact,
    account: facts.Account,
    *,
    accepted_at: datetime,
    is_charge: bool = False,
) -> tuple[Payment, Events]:
    """Let a fact move a payment; gives the payment as it is now and what to say about it.

    The same payment and no events when the fact is old news. `accepted_at` is when we were told to look. `is_charge`
    tells that the fact is named after the charge, which nobody knew when the payment was made.
    Raises Conflict when the fact is not about what we asked for.
    """
    _require_match(payment, fact, account, is_charge=is_charge)
    if not _moves(payment, fact):
        return payment, ()
    is_paid = fact.state == "paid"
    moved = replace(
        payment,
        state=State(fact.state),
        version=payment.version + 1,
        account=account.name,
        provider_ref=fact.provider_ref,
        confirmation_url=payment.confirmation_url or fact.confirmation_url,
        expires_at=payment.expires_at or fact.expires_at or fact.created_at + account.payment_ttl,
        capture_before=payment.capture_before or fact.capture_before,
        captured_minor=fact.captured_minor if is_paid else 0,
        fee_minor=(fact.fee_minor or 0) if is_paid else 0,
        paid_at=(fact.paid_at or accepted_at) if is_paid else None,
        paid_by=fact.payer if is_paid else None,
    )
    return moved, _events(payment, moved, fact, accepted_at)


def fail(payment: Payment, code: str) -> tuple[Payment, Events]:
    """Give up a payment that the provider refused to create; nothing happens where one was created after all."""
    if payment.state is not State.CREATED:
        return payment, ()
    failed = replace(payment, state=State.FAILED, version=payment.version + 1)
    return failed, (payments.PaymentFailed(**common(failed), code=code),)


def cancel(payment: Payment, reason: str) -> tuple[Payment, Events]:
    """Give up a payment that only waits for its payer; for providers that can't be asked and keep nothing of it."""
    if payment.state not in OPEN:
        return payment, ()
    canceled = replace(payment, state=State.CANCELED, version=payment.version + 1)
    return canceled, (payments.PaymentCanceled(**common(canceled), reason=reason),)


def ask_capture(
    payment: Payment, asked: Money | None, capabilities: frozenset[facts.Capability], *, is_canceled: bool = False
) -> Payment | None:
    """Note what is to be taken of a hold; None when that was asked for before. Raises Refused."""
    amount = asked or payment.amount
    if payment.state in SETTLED and amount.amount_minor == payment.captured_minor:
        return None
    if payment.state is not State.AUTHORIZED:
        raise Refused("not_authorized", "The payment holds no money.")
    if is_canceled:
        raise Refused("cancel_under_way", "The payment is being canceled.")
    if amount.currency != payment.amount.currency:
        raise Refused("currency_mismatch", "The payment is in another currency.")
    if payment.capture_asked_minor is not None:
        if payment.capture_asked_minor == amount.amount_minor:
            return None
        raise Refused("capture_under_way", "Another amount is being captured.")
    if amount.amount_minor > payment.amount.amount_minor:
        raise Refused("capture_exceeds_authorized", "Less than this is held.")
    if amount != payment.amount and facts.Capability.PARTIAL_CAPTURE not in capabilities:
        raise Refused("partial_capture_not_supported", "The provider captures all of it or nothing.")
    return replace(payment, capture_asked_minor=amount.amount_minor, version=payment.version + 1)


def forget_capture(payment: Payment) -> Payment:
    """Let a refused capture be asked for again, with this or another amount."""
    return replace(payment, capture_asked_minor=None, version=payment.version + 1)


def common(payment: Payment, amount_minor: int | None = None) -> dict[str, Any]:
    """Give what every event of a payment carries; its own amount unless the event is about another."""
    return {
        "tenant": payment.tenant,
        "payment_id": payment.payment_id,
        "user_id": payment.user_id,
        "purpose": payment.purpose,
        "provider": payment.provider,
        "amount": payment.amount if amount_minor is None else payment.money(amount_minor),
        "version": payment.version,
    }


def _require_match(payment: Payment, fact: facts.Fact, account: facts.Account, *, is_charge: bool) -> None:
    # A charge gets its name when it is paid; until then, and in late answers, the payment is known by its invoice's.
    is_renamed = is_charge and (payment.state not in SETTLED or fact.state != "paid")
    is_bound = payment.provider_ref is not None and not is_renamed
    for what, expected, found in (
        ("payment_id", payment.payment_id, fact.payment_id),
        ("tenant", payment.tenant, account.tenant),
        ("provider", payment.provider, account.provider),
        ("account", payment.account or account.name, account.name),
        ("provider_ref", payment.provider_ref if is_bound else fact.provider_ref, fact.provider_ref),
        ("shop", account.shop_id, fact.shop_id),
        ("test", account.is_test, fact.is_test),
        ("currency", payment.amount.currency, fact.amount.currency),
        ("amount", _expected_minor(payment, fact), fact.amount.amount_minor),
    ):
        if expected != found:
            raise Conflict(what, expected=expected, found=found)
    if fact.state == "paid" and fact.captured_minor != (expected := _taken_minor(payment)):
        raise Conflict("captured", expected=expected, found=fact.captured_minor)


def _taken_minor(payment: Payment) -> int:
    """Give what must have been taken when money was taken: what we asked to capture, or all of it."""
    return payment.amount.amount_minor if payment.capture_asked_minor is None else payment.capture_asked_minor


def _expected_minor(payment: Payment, fact: facts.Fact) -> int:
    """Give what the payer was asked for; after a partial capture some providers only know what was taken."""
    taken = _taken_minor(payment)
    is_taken = fact.state == "paid" and fact.amount.amount_minor == taken
    return taken if is_taken else payment.amount.amount_minor


def _moves(payment: Payment, fact: facts.Fact) -> bool:
    if fact.state == "pending" and fact.confirmation_url is None:
        # Without the page the payer can't go on, so we wait for the answer that has it.
        return False
    return RANK[State(fact.state)] > RANK[payment.state]


def _events(before: Payment, payment: Payment, fact: facts.Fact, accepted_at: datetime) -> Events:
    where = {"provider_account": str(payment.account), "provider_ref": fact.provider_ref}
    if payment.state is State.PENDING:
        assert payment.confirmation_url is not None  # else the fact would not have moved it
        assert payment.expires_at is not None
        return (
            payments.PaymentCreated(
                **common(payment), confirmation_url=payment.confirmation_url, expires_at=payment.expires_at
            ),
        )
    if payment.state is State.AUTHORIZED:
        return (payments.PaymentAuthorized(**common(payment), **where, capture_before=payment.capture_before),)
    if payment.state is State.CANCELED:
        return (payments.PaymentCanceled(**common(payment), reason=fact.reason or "unknown"),)
    said = payments.PaymentPaid if before.state in OPEN else payments.PaymentPaidLate
    return (
        said(
            **common(payment, payment.captured_minor),
            **where,
            paid_at=payment.paid_at,
            accepted_at=accepted_at,
            asked=payment.amount if payment.captured_minor != payment.amount.amount_minor else None,
            fee=payment.money(payment.fee_minor) if payment.fee_minor else None,
            origin_id=payment.origin_id,
        ),
    )
