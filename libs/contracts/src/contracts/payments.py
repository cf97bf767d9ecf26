"""What payments hears and says: a payment's life from the request to the money that really moved."""

from datetime import datetime
from typing import Literal, NewType
from uuid import UUID

from pydantic import Field

from contracts.message import Command, Event, Money, UserId

PaymentId = NewType("PaymentId", UUID)

Purpose = Literal["top_up"]
Provider = Literal["yookassa"]


class CreatePayment(Command, type="payments.payment.create.v1"):
    """Ask a provider for a payment; answered by PaymentCreated or PaymentFailed."""

    payment_id: PaymentId
    user_id: UserId
    purpose: Purpose
    amount: Money
    provider: Provider
    return_url: str = Field(max_length=2048)

    @property
    def subject(self) -> str:
        """The payment's id."""
        return str(self.payment_id)


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


class PaymentPaid(PaymentEvent, type="payments.payment.paid.v1"):
    """The provider holds the payer's money; fetched from the provider, never believed from a webhook.

    `accepted_at` is when the hint that led to it was stored, the start of the credit latency.
    """

    provider_account: str
    provider_ref: str
    paid_at: datetime
    accepted_at: datetime


class PaymentPaidLate(PaymentPaid, type="payments.payment.paid_late.v1"):
    """The same for a payment that had already been given up; the money is real all the same."""


class PaymentCanceled(PaymentEvent, type="payments.payment.canceled.v1"):
    """The payer declined or let it expire."""

    reason: str
