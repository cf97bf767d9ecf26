"""What payments hears and says: a payment's life from the request to the money that really moved, and back.

The `amount` of an event is what it is about: what was asked for, what was really taken, what one refund gave back.
"""

from datetime import datetime
from typing import Annotated, Literal, NewType
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contracts.message import AMOUNT_MINOR_MAX, Command, Event, Money, UserId

PaymentId = NewType("PaymentId", UUID)
RefundId = NewType("RefundId", UUID)
DepositId = NewType("DepositId", UUID)

Purpose = Literal["top_up"]
Provider = Literal["yookassa", "stripe", "stars", "cryptopay", "ton"]

# PostgreSQL keeps no NUL in a text, so a message with one could be heard but never written down.
_WITHOUT_NUL = r"^[^\x00]*$"
Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_WITHOUT_NUL)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_WITHOUT_NUL)]

ITEMS_MAX = 80


class ReceiptItem(BaseModel):
    """One line of a fiscal receipt; `quantity_milli` in thousandths, `price` for one, `vat_code` the provider's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    description: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_WITHOUT_NUL)]
    quantity_milli: int = Field(default=1_000, strict=True, gt=0, le=1_000_000_000)
    price: Money
    vat_code: int = Field(strict=True, ge=1, le=12)
    subject: Code = "service"
    mode: Code = "full_payment"


class Receipt(BaseModel):
    """What a fiscal receipt needs: one way to reach the customer, and the items."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: Annotated[str, StringConstraints(max_length=254, pattern=r"^[^\s@\x00]+@[^\s@\x00]+$")] | None = None
    phone: Annotated[str, StringConstraints(pattern=r"^[0-9]{5,15}$")] | None = None
    items: tuple[ReceiptItem, ...] = Field(min_length=1, max_length=ITEMS_MAX)

    @model_validator(mode="after")
    def _has_one_address(self) -> "Receipt":
        if (self.email is None) == (self.phone is None):
            raise ValueError("a receipt needs either an email or a phone")
        return self


class PaymentCommand(Command):
    """What every command about a payment carries; the same one again does nothing twice."""

    payment_id: PaymentId

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)


class CreatePayment(PaymentCommand, type="payments.payment.create.v1"):
    """Ask a provider for a payment; answered by PaymentCreated or PaymentFailed.

    `is_held` asks to hold the money until it is captured. `payer` is who may pay, in the provider's own words.
    `account` names one of the tenant's accounts at the provider; without it the first one takes the payment.
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
    account: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")] | None = None


class CapturePayment(PaymentCommand, type="payments.payment.capture.v1"):
    """Take what a payment holds, or `amount` of it and let the rest go; answered by PaymentPaid or CaptureRefused.

    `receipt` has the items that are sold after all, where the provider makes fiscal receipts.
    """

    amount: Money | None = None
    receipt: Receipt | None = None


class CancelPayment(PaymentCommand, type="payments.payment.cancel.v1"):
    """Let go of what a payment holds; answered by PaymentCanceled or CancelRefused."""


class RefundPayment(PaymentCommand, type="payments.payment.refund.v1"):
    """Give back `amount`, or all that is left; answered by PaymentRefunded, RefundFailed or RefundRefused."""

    refund_id: RefundId
    amount: Money | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=_WITHOUT_NUL)] | None = None
    receipt: Receipt | None = None


class PaymentEvent(Event):
    """What every event of a payment carries."""

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
    """The provider accepted the payment; the payer continues at its page."""

    confirmation_url: str
    expires_at: datetime


class PaymentFailed(PaymentEvent, type="payments.payment.failed.v1"):
    """The provider refused the payment for good; no money can arrive through it."""

    code: str


class PaymentAuthorized(PaymentEvent, type="payments.payment.authorized.v1"):
    """The payer's money is held and buys nothing yet; `capture_before` is when the provider lets it go by itself."""

    provider_account: Code
    provider_ref: Text
    capture_before: AwareDatetime | None = None


class PaymentPaid(PaymentEvent, type="payments.payment.paid.v1"):
    """The provider holds the payer's money; fetched from the provider, never believed from a webhook.

    `amount` is what was really taken; `asked` is given where that is less than what the payment was made for. `fee` is
    what the provider keeps of it, where it is known. `accepted_at` is when the hint that led to it was stored: there
    the credit latency begins. `origin_id` names the payment whose invoice was paid once more, by a payment of its own.
    """

    provider_account: str
    provider_ref: str
    paid_at: datetime
    accepted_at: datetime
    asked: Money | None = None
    fee: Money | None = None
    origin_id: PaymentId | None = None


class PaymentPaidLate(PaymentPaid, type="payments.payment.paid_late.v1"):
    """The same for a payment that had already been given up; the money is real all the same."""


class PaymentCanceled(PaymentEvent, type="payments.payment.canceled.v1"):
    """The payer declined or let it expire, or what was held was let go."""

    reason: str


class PaymentRefunded(PaymentEvent, type="payments.payment.refunded.v1"):
    """One refund went through, also one of the cabinet; `amount` is this one's, `refunded` that of all so far."""

    refund_id: RefundId
    provider_account: Code
    provider_ref: Text
    refund_ref: Text
    captured: Money
    refunded: Money
    is_full: bool
    is_ours: bool = True
    refunded_at: AwareDatetime


class RefundFailed(PaymentEvent, type="payments.refund.failed.v1"):
    """The provider did not give the money back; `amount`, which was reserved for it, is free again."""

    refund_id: RefundId
    code: Code


class PaymentDisputed(PaymentEvent, type="payments.payment.disputed.v1"):
    """The payer's bank took `amount` back and `fee` besides, until the dispute is decided."""

    dispute_ref: Text
    provider_account: Code
    fee: Money | None = None
    reason: Code | None = None


class DisputeClosed(PaymentEvent, type="payments.dispute.closed.v1"):
    """A dispute is decided: won, and the money came back, or lost for good."""

    dispute_ref: Text
    provider_account: Code
    outcome: Literal["won", "lost"]
    fee: Money | None = None


class Refused(Event):
    """A command that can't be carried out: a stable code and words for people. Nothing was changed."""

    payment_id: PaymentId
    code: Code
    detail: Text

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)


class CaptureRefused(Refused, type="payments.capture.refused.v1"):
    """The payment holds nothing that can be taken so, or the provider did not take it."""


class CancelRefused(Refused, type="payments.cancellation.refused.v1"):
    """The payment holds nothing to let go, or the provider did not let go."""


class RefundRefused(Refused, type="payments.refund.refused.v1"):
    """The payment has nothing that can be given back so; the provider was not asked."""

    refund_id: RefundId


class DepositReceived(Event, type="payments.deposit.received.v1"):
    """Money arrived that pays nothing we asked for; it waits in suspense for a person.

    `payment_id` and `user_id` are given where the payer named a payment: one paid before, or with another amount.
    """

    deposit_id: DepositId
    provider: Provider
    provider_account: Code
    provider_ref: Text
    amount: Money
    cause: Literal["unmatched", "underpaid", "overpaid", "reused"]
    received_at: AwareDatetime
    payment_id: PaymentId | None = None
    user_id: UserId | None = None

    @property
    def subject(self) -> str:
        """The deposit's id."""
        return str(self.deposit_id)


class FindingOpened(Event, type="payments.finding.opened.v1"):
    """Something does not agree with a provider and needs a person's eye."""

    finding_id: int = Field(ge=1, le=AMOUNT_MINOR_MAX)
    kind: Code
    opened_at: AwareDatetime
    provider: Provider | None = None
    provider_account: Code | None = None
    payment_id: PaymentId | None = None

    @property
    def subject(self) -> str:
        """The finding's id."""
        return str(self.finding_id)
