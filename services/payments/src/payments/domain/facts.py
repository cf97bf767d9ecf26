"""What providers tell, in our words: facts that were fetched or came signed, and what was asked for before.

Amounts are integer minor units of the asset. Nothing here knows a provider's own vocabulary.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from contracts import payments
from contracts.message import Money, TenantId


class Capability(StrEnum):
    """What an account at a provider can do. What it can't is refused before the provider is asked."""

    CAPTURE = "capture"  # hold first, take later
    PARTIAL_CAPTURE = "partial_capture"
    CANCEL = "cancel"  # of what is held
    REFUND = "refund"
    PARTIAL_REFUND = "partial_refund"
    FETCH = "fetch"  # the truth about one payment can be asked for
    LIST = "list"  # movements of a stretch of time can be listed
    RECEIPT = "receipt"  # fiscal receipts are made from the items of a payment
    DISPUTE = "dispute"
    PRE_CHECKOUT = "pre_checkout"  # the payer's bank waits while we are asked
    DEPOSIT = "deposit"  # payers send what they like; movements are watched, nothing is created


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of ours at one provider. `is_test` is the mark that all its payments must carry.

    `shop_id` is the provider's name of it; facts of another are not ours. Neither is a secret. `gives_back_repeats` is
    what to do with an invoice that is paid once more by mistake: give the money back, or credit it as well.
    """

    tenant: TenantId
    provider: payments.Provider
    name: str
    shop_id: str
    is_test: bool
    payment_ttl: timedelta
    gives_back_repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of a fiscal receipt. `quantity` is in thousandths, `price` for one; `vat_code` is the provider's."""

    description: str
    quantity_milli: int
    price: Money
    vat_code: int
    subject: str = "service"
    mode: str = "full_payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a fiscal receipt needs: exactly one way to reach the customer, and the items. Personal: never logged."""

    items: tuple[Item, ...]
    email: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a provider is asked to create. `is_held` asks to hold the money for a capture; `payer` is its own id."""

    payment_id: payments.PaymentId
    tenant: TenantId
    amount: Money
    return_url: str
    description: str
    is_held: bool = False
    payer: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """What a provider is asked to give back. `receipt` has the items that come back, where the provider needs them.

    `payer` is the provider's own id of whoever paid, for a provider that can't find it by itself.
    """

    refund_id: payments.RefundId
    provider_ref: str
    amount: Money
    captured_minor: int
    reason: str | None = None
    payer: str | None = None
    receipt: Receipt | None = None


FactState = Literal["pending", "authorized", "canceled", "paid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """How a payment stands at its provider, all amounts in total so far and in `amount`'s asset.

    `amount` is what the payer was asked for, `captured_minor` what was taken, `fee_minor` what the provider keeps of it
    where it says so. `provider_ref` is the name that `fetch` takes. `payment_id` is what we wrote into its metadata;
    None when that is missing or unreadable. `capture_before` is when a hold ends by itself.

    Where one payment can be paid again and again (Stars), each time is a fact with a `provider_ref` of its own, the
    charge's, which a refund names; the first of a `payment_id` pays it, and a further one that `is_recurring` is the
    renewal of a subscription, any other was paid by mistake. `payer` is the provider's own id of whoever paid, which
    a RefundOrder repeats.
    """

    provider_ref: str
    state: FactState
    amount: Money
    captured_minor: int
    shop_id: str
    is_test: bool
    payment_id: payments.PaymentId | None
    created_at: datetime
    refunded_minor: int = 0
    fee_minor: int | None = None
    confirmation_url: str | None = None
    paid_at: datetime | None = None
    expires_at: datetime | None = None
    capture_before: datetime | None = None
    reason: str | None = None
    payer: str | None = None
    is_recurring: bool = False


RefundState = Literal["pending", "succeeded", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundFact:
    """How one refund stands. `refund_id` is ours from its metadata; None for one that was made in the cabinet."""

    refund_ref: str
    provider_ref: str
    state: RefundState
    amount: Money
    refund_id: payments.RefundId | None
    created_at: datetime
    reason: str | None = None


DisputeState = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFact:
    """How a dispute stands. While it is open and when it is lost the provider has taken amount and fee back."""

    dispute_ref: str
    provider_ref: str
    state: DisputeState
    amount: Money
    fee_minor: int
    created_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Money that arrived on its own, final on its network. `comment` says what it is for, as far as it can be read.

    `provider_ref` is unique for ever; `sender` is only for a person who looks into it.
    """

    provider_ref: str
    amount: Money
    comment: str | None
    received_at: datetime
    sender: str | None = None


Movement = Fact | RefundFact | DisputeFact
"""One line of a provider's own report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Movements in the provider's order, and where to go on; None when there is nothing more now."""

    movements: tuple[Movement, ...] = ()
    deposits: tuple[Deposit, ...] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What came to the door of an account, byte for byte; `headers` have lower-case names, `peer` is who sent it."""

    body: bytes
    headers: dict[str, str] = field(repr=False)
    peer: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What a webhook tells: at which payment to look.

    `event` is the provider's word, with "refund" or "dispute" in it where it is about one: then those are fetched too.
    `dedupe_key` is the same in every copy. `provider_ref` is None when it is about nothing of ours. `movement` is a
    fact of its own: only a provider that signs and whose truth can't be asked for gives one.
    """

    event: str
    dedupe_key: str
    provider_ref: str | None = None
    movement: Fact | RefundFact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A payer's bank asks, while it waits, whether a payment may be taken. `question_ref` is what the answer names."""

    question_ref: str
    payment_id: payments.PaymentId | None
    amount: Money
    payer: str
