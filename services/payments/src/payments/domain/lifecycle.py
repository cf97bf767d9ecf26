"""The life cycle of a payment: its states, and how a fact changes them.

A state only rises in rank, and only by a fact that matches what was requested. Once the money has come, the state
follows from the amounts alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypedDict
from uuid import UUID, uuid5

import contracts.payments
from contracts.message import Money, TenantId, UserId
from payments.domain import accounts, facts
from payments.domain.refusals import FactMismatchError

# The namespace of ids that are made of a provider's; it never changes, or one thing would get two ids.
_NAMES = UUID("6b1f4f0e-6d0c-5d57-9a3f-0e4f7b1a2c55")


class State(StrEnum):
    """The state of a payment."""

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
    # Both are ends without money; only a fact that money has come goes beyond them.
    State.FAILED: 3,
    State.CANCELED: 3,
    State.PAID: 4,
    State.PARTIALLY_REFUNDED: 5,
    State.REFUNDED: 6,
}
OPEN = frozenset({State.CREATED, State.PENDING, State.AUTHORIZED})
SETTLED = frozenset({State.PAID, State.PARTIALLY_REFUNDED, State.REFUNDED})

# A creation that is refused is the shop's to mend, but for these.
REASONS_OF_REFUSALS: Mapping[str, contracts.payments.FailureReason] = {
    "currency_not_supported": "method_unavailable",
    "provider_unavailable": "bank_unavailable",
    "receipt_contact": "receipt_contact",
}

Events = tuple[contracts.payments.PaymentEvent, ...]


class EventFields(TypedDict):
    """The fields that every event of a payment has."""

    tenant: TenantId
    payment_id: contracts.payments.PaymentId
    user_id: UserId
    purpose: contracts.payments.Purpose
    provider: contracts.payments.Provider
    amount: Money
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as it was requested, and its state as far as it is known.

    `provider_ref` and `expires_at` are None until the provider has answered, and so is `account` unless the request
    named one. `capture_asked_minor` is the requested capture. `reserved_minor` is reserved for refunds under way,
    `disputed_minor` is the amount of disputes that are open or lost, `fee_minor` the provider's fee. `origin_id` is the
    payment whose invoice was paid once more by this one. `failure_code` and `failure_reason` tell why it failed or was
    canceled: the provider's code, or ours, and what a client may show.
    """

    payment_id: contracts.payments.PaymentId
    tenant: TenantId
    user_id: UserId
    purpose: contracts.payments.Purpose
    provider: contracts.payments.Provider
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
    origin_id: contracts.payments.PaymentId | None = None
    failure_code: str | None = None
    failure_reason: contracts.payments.FailureReason | None = None

    @property
    def left_minor(self) -> int:
        """The amount that can still be refunded."""
        return self.captured_minor - self.refunded_minor - self.reserved_minor - self.disputed_minor

    def money(self, amount_minor: int) -> Money:
        """Give an amount in the payment's asset."""
        return Money(amount_minor=amount_minor, currency=self.amount.currency)

    def is_same_request(self, other: "Payment") -> bool:
        """Tell whether this and another payment, in whatever state, come from the same request."""
        return self.account in {None, other.account} and all(
            getattr(self, name) == getattr(other, name)
            for name in (
                *("payment_id", "tenant", "user_id", "purpose", "provider", "amount", "return_url"),
                *("is_held", "description", "payer"),
            )
        )


def requested(command: contracts.payments.CreatePayment, *, correlation_id: str, traceparent: str | None) -> Payment:
    """Create the payment that a command requests."""
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


def charged_again(payment: Payment, account: accounts.Account, fact: facts.Fact) -> Payment:
    """Create the payment of a further charge of one invoice; its id is made of the charge's, so it never changes."""
    return replace(
        payment,
        payment_id=contracts.payments.PaymentId(named(account, fact.provider_ref)),
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
        failure_code=None,
        failure_reason=None,
    )


def named(account: accounts.Account, ref: str) -> UUID:
    """Make our id of something that has only an id of its provider."""
    return uuid5(_NAMES, f"{account.tenant}:{account.provider}:{account.name}:{ref}")


def apply(
    payment: Payment,
    fact: facts.Fact,
    account: accounts.Account,
    *,
    accepted_at: datetime,
    is_charge: bool = False,
) -> tuple[Payment, Events]:
    """Apply a fact to its payment; gives the payment after it and the events to publish.

    The same payment and no events when the fact is old. `accepted_at` is when the webhook or the look began.
    `is_charge` tells that `fact.provider_ref` is a charge's id, which nobody knew when the payment was created.
    Raises FactMismatchError when the fact does not match the request.
    """
    _require_match(payment, fact, account, is_charge=is_charge)
    if not _is_news(payment, fact):
        return payment, ()
    is_paid = fact.state == "paid"
    changed = replace(
        _bound(payment, fact, account),
        state=State(fact.state),
        version=payment.version + 1,
        confirmation_url=payment.confirmation_url or fact.confirmation_url,
        capture_before=payment.capture_before or fact.capture_before,
        captured_minor=fact.captured_minor if is_paid else 0,
        fee_minor=(fact.fee_minor or 0) if is_paid else 0,
        paid_at=(fact.paid_at or accepted_at) if is_paid else None,
        paid_by=fact.payer if is_paid else None,
        failure_code=(fact.reason or "unknown") if fact.state == "canceled" else None,
        failure_reason=(fact.failure_reason or "declined") if fact.state == "canceled" else None,
    )
    return changed, _events(payment, changed, fact, accepted_at)


def fail(payment: Payment, code: str) -> tuple[Payment, Events]:
    """End a payment that the provider refused to create; changes nothing where it was created after all."""
    if payment.state is not State.CREATED:
        return payment, ()
    failed = _ended(payment, State.FAILED, code, REASONS_OF_REFUSALS.get(code, "shop_problem"))
    event = contracts.payments.PaymentFailed(**event_fields(failed), code=code, failure_reason=failed.failure_reason)
    return failed, (event,)


def fail_unconfirmed(payment: Payment, fact: facts.Fact, account: accounts.Account) -> tuple[Payment, Events]:
    """End a payment that was created without a page for its payer, and keep the provider's id of it."""
    failed, published = fail(payment, "no_confirmation")
    return (failed if failed is payment else _bound(failed, fact, account)), published


def cancel(payment: Payment, code: str, reason: contracts.payments.FailureReason) -> tuple[Payment, Events]:
    """Cancel a payment that waits for its payer, at a provider that keeps no state of it."""
    if payment.state not in OPEN:
        return payment, ()
    canceled = _ended(payment, State.CANCELED, code, reason)
    return canceled, (_canceled(canceled),)


def event_fields(payment: Payment, amount_minor: int | None = None) -> EventFields:
    """Give the fields that every event of a payment has; `amount_minor` where the event is about another amount."""
    return {
        "tenant": payment.tenant,
        "payment_id": payment.payment_id,
        "user_id": payment.user_id,
        "purpose": payment.purpose,
        "provider": payment.provider,
        "amount": payment.amount if amount_minor is None else payment.money(amount_minor),
        "version": payment.version,
    }


def is_unnamed(payment: Payment, fact: facts.Fact) -> bool:
    """Whether the provider has lost our metadata of a payment whose id it gave us itself when we created it."""
    return fact.payment_id is None and payment.provider_ref == fact.provider_ref


def _require_match(payment: Payment, fact: facts.Fact, account: accounts.Account, *, is_charge: bool) -> None:
    # A charge gets its id when it is paid; until then, and in late answers, the payment has the id of its invoice.
    is_renamed = is_charge and (payment.state not in SETTLED or fact.state != "paid")
    is_bound = payment.provider_ref is not None and not is_renamed
    for what, expected, found in (
        ("payment_id", payment.payment_id, payment.payment_id if is_unnamed(payment, fact) else fact.payment_id),
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
            raise FactMismatchError(what, expected=expected, found=found)
    if fact.state == "paid" and fact.captured_minor != (expected := _captured_minor(payment)):
        raise FactMismatchError("captured", expected=expected, found=fact.captured_minor)


def _captured_minor(payment: Payment) -> int:
    """Give the amount that a payment must have captured: the requested capture, or all of it."""
    return payment.amount.amount_minor if payment.capture_asked_minor is None else payment.capture_asked_minor


def _expected_minor(payment: Payment, fact: facts.Fact) -> int:
    """Give what the payer was asked for; after a partial capture some providers only know the captured amount."""
    taken = _captured_minor(payment)
    is_taken = fact.state == "paid" and fact.amount.amount_minor == taken
    return taken if is_taken else payment.amount.amount_minor


def _is_news(payment: Payment, fact: facts.Fact) -> bool:
    if fact.state == "pending" and fact.confirmation_url is None:
        # Without its page the payer can't go on, so the payment waits for the answer that has it.
        return False
    return RANK[State(fact.state)] > RANK[payment.state]


def _events(before: Payment, payment: Payment, fact: facts.Fact, accepted_at: datetime) -> Events:
    if payment.state is State.PENDING:
        assert payment.confirmation_url is not None  # else the fact would not have changed it
        assert payment.expires_at is not None
        return (
            contracts.payments.PaymentCreated(
                **event_fields(payment), confirmation_url=payment.confirmation_url, expires_at=payment.expires_at
            ),
        )
    account, ref = str(payment.account), fact.provider_ref
    if payment.state is State.AUTHORIZED:
        return (
            contracts.payments.PaymentAuthorized(
                **event_fields(payment),
                provider_account=account,
                provider_ref=ref,
                capture_before=payment.capture_before,
            ),
        )
    if payment.state is State.CANCELED:
        return (_canceled(payment, is_payer_gone=fact.is_payer_gone),)
    paid = contracts.payments.PaymentPaid if before.state in OPEN else contracts.payments.PaymentPaidLate
    return (
        paid(
            **event_fields(payment, payment.captured_minor),
            provider_account=account,
            provider_ref=ref,
            paid_at=payment.paid_at,
            accepted_at=accepted_at,
            asked=payment.amount if payment.captured_minor != payment.amount.amount_minor else None,
            fee=payment.money(payment.fee_minor) if payment.fee_minor else None,
            origin_id=payment.origin_id,
        ),
    )


def _bound(payment: Payment, fact: facts.Fact, account: accounts.Account) -> Payment:
    """Keep which account knows the payment, by which id and until when."""
    return replace(
        payment,
        account=account.name,
        provider_ref=fact.provider_ref,
        expires_at=payment.expires_at or fact.expires_at or fact.created_at + account.payment_ttl,
    )


def _ended(payment: Payment, state: State, code: str, reason: contracts.payments.FailureReason) -> Payment:
    return replace(payment, state=state, version=payment.version + 1, failure_code=code, failure_reason=reason)


def _canceled(payment: Payment, *, is_payer_gone: bool = False) -> contracts.payments.PaymentCanceled:
    return contracts.payments.PaymentCanceled(
        **event_fields(payment),
        reason=payment.failure_code or "unknown",
        failure_reason=payment.failure_reason,
        is_payer_gone=is_payer_gone,
    )
