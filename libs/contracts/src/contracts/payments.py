"""The commands and events of payments: the life of a payment, its refunds and disputes, deposits, and findings.

The `amount` of an event is the one that the event is about: requested, taken, refunded or disputed.
"""

from typing import Annotated, Literal, NewType, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contracts.message import AMOUNT_MINOR_MAX, Command, Event, Money, Time, UserId

PaymentId = NewType("PaymentId", UUID)
RefundId = NewType("RefundId", UUID)
DepositId = NewType("DepositId", UUID)

# Why a payment did not happen, in words of ours: what a client may show, whatever the provider calls it. Fraud, stolen
# cards and blocklists are `declined`, as the card schemes demand.
FailureReason = Literal[
    "insufficient_funds",
    "card_details",
    "authentication",
    "limit",
    "method_unavailable",
    "bank_unavailable",
    "declined",
    "expired",
    "canceled_by_payer",
    "canceled_by_shop",
    "shop_problem",
    "receipt_contact",
]
Purpose = Literal["top_up"]
DisputePolicy = Literal["hold", "take", "shop_bears"]
Provider = Literal["yookassa", "stripe", "stars", "cryptopay", "ton"]

# A text of PostgreSQL can hold no NUL, so a message with one could be received and never stored.
_WITHOUT_NUL = r"^[^\x00]*$"
Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_WITHOUT_NUL)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_WITHOUT_NUL)]

ITEMS_MAX = 80


class ReceiptItem(BaseModel):
    """One line of a fiscal receipt; `quantity_milli` in thousandths, `price` for one, `vat_code` the provider's.

    `measure` is the unit of the quantity, which receipts of the format FFD 1.2 must name.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    description: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_WITHOUT_NUL)]
    quantity_milli: int = Field(default=1_000, strict=True, gt=0, le=1_000_000_000)
    price: Money
    vat_code: int = Field(strict=True, ge=1, le=12)
    subject: Code = "service"
    mode: Code = "full_payment"
    measure: Code = "piece"


class ReceiptContact(BaseModel):
    """Where a fiscal receipt is sent: an email address, or a phone in digits."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: Annotated[str, StringConstraints(max_length=254, pattern=r"^[^\s@\x00]+@[^\s@\x00]+$")] | None = None
    phone: Annotated[str, StringConstraints(pattern=r"^[0-9]{5,15}$")] | None = None

    @model_validator(mode="after")
    def _has_one_address(self) -> Self:
        if (self.email is None) == (self.phone is None):
            raise ValueError("a receipt needs either an email or a phone")
        return self


class Receipt(ReceiptContact):
    """The data of a fiscal receipt: one address of the customer, and the items."""

    items: tuple[ReceiptItem, ...] = Field(min_length=1, max_length=ITEMS_MAX)


class PaymentCommand(Command):
    """A command about one payment; it has its effect once, however often it is sent."""

    payment_id: PaymentId

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)


class CreatePayment(PaymentCommand, type="payments.payment.create.v1"):
    """Create a payment at a provider; answered by PaymentCreated or PaymentFailed.

    With `is_held` the money is authorized only, until it is captured. `payer` is the provider's own id of the one who
    may pay. `account` names one of the tenant's accounts at the provider; without it the first one takes the payment.
    `receipt` has the lines of what is sold; with `receipt_contact` alone the account's settings make one line of the
    amount, where the account makes receipts.
    """

    user_id: UserId
    purpose: Purpose
    amount: Money
    provider: Provider
    return_url: str = Field(max_length=2048)
    is_held: bool = False
    description: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_WITHOUT_NUL)] | None = None
    payer: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_WITHOUT_NUL)] | None = None
    receipt: Receipt | None = None
    receipt_contact: ReceiptContact | None = None
    account: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")] | None = None


class CapturePayment(PaymentCommand, type="payments.payment.capture.v1"):
    """Capture an authorized payment, in whole or only `amount` of it; answered by PaymentPaid or CaptureRefused.

    What is not captured is released. `receipt` has the items that are sold, where the provider makes fiscal receipts.
    """

    amount: Money | None = None
    receipt: Receipt | None = None


class CancelPayment(PaymentCommand, type="payments.payment.cancel.v1"):
    """Release an authorized payment; answered by PaymentCanceled or CancelRefused."""


class RefundPayment(PaymentCommand, type="payments.payment.refund.v1"):
    """Refund `amount`, or all that is not refunded yet; answered by PaymentRefunded, RefundFailed or RefundRefused."""

    refund_id: RefundId
    amount: Money | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=_WITHOUT_NUL)] | None = None
    receipt: Receipt | None = None


class PaymentEvent(Event):
    """An event of one payment."""

    payment_id: PaymentId
    user_id: UserId
    purpose: Purpose
    provider: Provider
    amount: Money
    version: int = Field(ge=1)

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)

    @property
    def sequence(self) -> int:
        """The payment's version."""
        return self.version


class PaymentCreated(PaymentEvent, type="payments.payment.created.v1"):
    """The provider accepted the payment; the payer continues at `confirmation_url`."""

    confirmation_url: str
    expires_at: Time


class PaymentFailed(PaymentEvent, type="payments.payment.failed.v1"):
    """The provider refused the payment for good; no money can arrive through it.

    `code` is for operators. `failure_reason` is a FailureReason; a consumer takes one that it does not know for
    `declined`.
    """

    code: str
    failure_reason: Code | None = None


class PaymentAuthorized(PaymentEvent, type="payments.payment.authorized.v1"):
    """The payer's money is authorized and not captured; the provider releases it at `capture_before`."""

    provider_account: Code
    provider_ref: Text
    capture_before: Time | None = None


class PaymentPaid(PaymentEvent, type="payments.payment.paid.v1"):
    """The provider has the payer's money.

    `amount` is what was taken; `asked` is set where the payment was created for more. `fee` is what the provider keeps
    of it, where it is known. `accepted_at` is the time when the webhook was stored that led to this event: there the
    credit latency begins. `origin_id` names the payment whose invoice was paid once more; this is the second payment.
    """

    provider_account: str
    provider_ref: str
    paid_at: Time
    accepted_at: Time
    asked: Money | None = None
    fee: Money | None = None
    origin_id: PaymentId | None = None


class PaymentPaidLate(PaymentPaid, type="payments.payment.paid_late.v1"):
    """A payment that was failed or canceled before has been paid after all."""


class PaymentCanceled(PaymentEvent, type="payments.payment.canceled.v1"):
    """The payer declined, the payment expired, or its authorization was released.

    `reason` is the provider's, for operators. `failure_reason` is a FailureReason, as in PaymentFailed.
    `is_payer_gone` tells that the payer had left the page when the payment failed, so no page can tell them.
    """

    reason: str
    failure_reason: Code | None = None
    is_payer_gone: bool = False


class PaymentRefunded(PaymentEvent, type="payments.payment.refunded.v1"):
    """One refund succeeded: `amount` is its own, `refunded` that of all so far.

    `is_ours` is false for a refund that was made in the provider's dashboard.
    """

    refund_id: RefundId
    provider_account: Code
    provider_ref: Text
    refund_ref: Text
    captured: Money
    refunded: Money
    is_full: bool
    is_ours: bool = True
    refunded_at: Time


class RefundRequested(PaymentEvent, type="payments.refund.requested.v1"):
    """`amount` is reserved for a refund of ours, which ends in PaymentRefunded or RefundFailed."""

    refund_id: RefundId


class RefundFailed(PaymentEvent, type="payments.refund.failed.v1"):
    """The provider did not refund the money; `amount`, which was reserved for it, can be refunded again."""

    refund_id: RefundId
    code: Code


class RefundReversed(PaymentEvent, type="payments.refund.reversed.v1"):
    """A refund that had succeeded failed afterwards: the provider has its `amount` again, and the payer has not.

    It undoes the PaymentRefunded with this `refund_id`. `refunded` is the amount of the refunds that stand; None when
    none does. `reason` is the provider's, for operators.
    """

    refund_id: RefundId
    provider_account: Code
    provider_ref: Text
    refund_ref: Text
    captured: Money
    refunded: Money | None = None
    reason: Code
    is_ours: bool = True
    reversed_at: Time


class PaymentDisputed(PaymentEvent, type="payments.payment.disputed.v1"):
    """The payer's bank took back `amount`, and `fee` besides, until the dispute is decided.

    `payer_share` is what of it may come from the payer's wallet at most, and `policy` what is done about it: hold it
    until the dispute is decided, take it at once, or leave it, so that the shop bears it; None is that as well.
    `due_by` is when the provider must have the shop's evidence.
    """

    dispute_ref: Text
    provider_account: Code
    fee: Money | None = None
    reason: Code | None = None
    policy: DisputePolicy | None = None
    payer_share: Money | None = None
    due_by: Time | None = None


class DisputeClosed(PaymentEvent, type="payments.dispute.closed.v1"):
    """A dispute is decided: won, and the money came back, or lost. `payer_share` is as in PaymentDisputed."""

    dispute_ref: Text
    provider_account: Code
    outcome: Literal["won", "lost"]
    fee: Money | None = None
    payer_share: Money | None = None


class Refused(Event):
    """A command was refused, with a stable code and a text for people; nothing was changed."""

    payment_id: PaymentId
    code: Code
    detail: Text

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)


class CaptureRefused(Refused, type="payments.capture.refused.v1", is_consumed=False):
    """The payment has no authorization for this capture, or the provider refused it."""


class CancelRefused(Refused, type="payments.cancellation.refused.v1", is_consumed=False):
    """The payment has no authorization to release, or the provider refused to release it."""


class RefundRefused(Refused, type="payments.refund.refused.v1", is_consumed=False):
    """The payment has nothing left for this refund; no request went to the provider."""

    refund_id: RefundId


class DepositReceived(Event, type="payments.deposit.received.v1"):
    """Money arrived that matches no open payment; it is kept in suspense until a person decides.

    `payment_id` and `user_id` are set where the payer named a payment, which was paid before or has another amount.
    """

    deposit_id: DepositId
    provider: Provider
    provider_account: Code
    provider_ref: Text
    amount: Money
    cause: Literal["unmatched", "underpaid", "overpaid", "reused"]
    received_at: Time
    payment_id: PaymentId | None = None
    user_id: UserId | None = None

    @property
    def subject(self) -> str:
        """The deposit's id."""
        return str(self.deposit_id)


class FindingOpened(Event, type="payments.finding.opened.v1"):
    """Something does not agree with a provider and must be looked at by a person."""

    finding_id: int = Field(ge=1, le=AMOUNT_MINOR_MAX)
    kind: Code
    opened_at: Time
    provider: Provider | None = None
    provider_account: Code | None = None
    payment_id: PaymentId | None = None

    @property
    def subject(self) -> str:
        """The finding's id."""
        return str(self.finding_id)
