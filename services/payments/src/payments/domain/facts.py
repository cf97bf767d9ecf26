"""What is sent to providers and received from them, without any provider's own vocabulary.

A fact was fetched from the provider, or came in a webhook whose sender is verified and can't be asked. Amounts are
integer minor units of the asset.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import contracts.payments
from contracts.message import Money, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A payment to create. `is_held` asks to authorize only, for a later capture; `payer` is the provider's id."""

    payment_id: contracts.payments.PaymentId
    tenant: TenantId
    amount: Money
    return_url: str
    description: str
    is_held: bool = False
    payer: str | None = None
    receipt: contracts.payments.Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """A refund to create. `receipt` has the returned items, where the provider needs them.

    `payer` is the provider's own id of the payer, for a provider that does not look it up.
    """

    refund_id: contracts.payments.RefundId
    provider_ref: str
    amount: Money
    captured_minor: int
    reason: str | None = None
    payer: str | None = None
    receipt: contracts.payments.Receipt | None = None


FactState = Literal["pending", "authorized", "canceled", "paid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """The state of a payment at its provider. Amounts are totals so far, in the asset of `amount`.

    `amount` is what the payer was asked for, `captured_minor` what was captured, `fee_minor` the provider's fee where
    it names one. `provider_ref` is the id that `fetch` takes. `payment_id` is our id from the payment's metadata; None
    when it is missing or unreadable. `capture_before` is when an authorization expires. `reason` is why it was canceled
    in the provider's words, `failure_reason` in ours; `is_payer_gone` tells that the payer had left the page by then.

    Where one invoice can be paid several times (Stars), each charge is a fact whose `provider_ref` is the charge's id.
    The first charge of a `payment_id` pays it; a further one that `is_recurring` renews a subscription, any other was
    paid by mistake. `payer` is the provider's own id of the payer, which a RefundOrder repeats.
    """

    provider_ref: str
    state: FactState
    amount: Money
    captured_minor: int
    shop_id: str
    is_test: bool
    payment_id: contracts.payments.PaymentId | None
    created_at: datetime
    refunded_minor: int = 0
    fee_minor: int | None = None
    confirmation_url: str | None = None
    paid_at: datetime | None = None
    expires_at: datetime | None = None
    capture_before: datetime | None = None
    reason: str | None = None
    failure_reason: contracts.payments.FailureReason | None = None
    is_payer_gone: bool = False
    payer: str | None = None
    is_recurring: bool = False


RefundState = Literal["pending", "succeeded", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFact:
    """The state of a refund. `refund_id` is our id from its metadata; None for one made in the provider's dashboard."""

    refund_ref: str
    provider_ref: str
    state: RefundState
    amount: Money
    refund_id: contracts.payments.RefundId | None
    created_at: datetime
    reason: str | None = None


DisputeState = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFact:
    """The state of a dispute. While it is open and after it is lost the provider has withdrawn amount and fee.

    `due_by` is when the provider must have the shop's evidence.
    """

    dispute_ref: str
    provider_ref: str
    state: DisputeState
    amount: Money
    fee_minor: int
    created_at: datetime
    reason: str | None = None
    due_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a provider told about one payment at one time."""

    provider_ref: str
    fact: Fact | None = None
    refunds: Sequence[RefundFact] = ()
    disputes: Sequence[DisputeFact] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A transfer that arrived without a request and is final on its network. `comment` is its text, where readable.

    `provider_ref` is unique for ever; `sender` is kept for people who investigate.
    """

    provider_ref: str
    amount: Money
    comment: str | None
    received_at: datetime
    sender: str | None = None


Movement = Fact | RefundFact | DisputeFact
"""One line of a provider's report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of movements in the provider's order. `cursor` names the next page; None when this is the last one."""

    movements: tuple[Movement, ...] = ()
    deposits: tuple[Deposit, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """The HTTP request of a webhook; `headers` have lower-case names, `peer` is the address of the sender."""

    body: bytes
    headers: dict[str, str] = field(repr=False)
    peer: str
    received_at: datetime
    is_signed_by_proxy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookContent:
    """What a webhook says, as far as it is believed: which payment to fetch.

    `event` is the provider's event type; where it contains "refund" or "dispute", those are fetched as well.
    `dedupe_key` is the same in every copy. `movement` is a fact; only a provider that proves its identity and has no
    call to fetch a payment gives one.
    """

    event: str
    dedupe_key: str
    provider_ref: str
    movement: Fact | RefundFact | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A webhook of the provider about no payment: of a type that is not used, or of a connected account."""

    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreCheckout:
    """The provider asks whether it may take the money. `pre_checkout_ref` is the id that the answer names."""

    pre_checkout_ref: str
    payment_id: contracts.payments.PaymentId | None
    amount: Money
    payer: str
