"""YooKassa's payments and refunds: their states, transitions and JSON. Pure: no I/O, no clock.

Amounts are integers of minor units here and strings with two decimals in JSON (API v3, https://yookassa.ru/developers/api).
"""

import dataclasses
import uuid
from datetime import datetime, timedelta
from typing import Any

from sandbox import errors
from sandbox.yookassa import requests

# YooKassa does not publish the time to pay; a hold on a bank card lasts 7 days.
PAY_WITHIN = timedelta(hours=1)
CAPTURE_WITHIN = timedelta(days=7)
# A receipt is registered some time after the payment or refund.
RECEIPT_AFTER = timedelta(seconds=30)
# The fee in thousandths; it is not returned with a refund.
FEE_PERMILLE = 35


@dataclasses.dataclass(slots=True, kw_only=True)
class Payment:
    """A payment; `captured_at`, `expires_at` and `canceled_by` (party, reason) are set on entering their states."""

    id: str
    number: int
    request: requests.CreatePayment
    shop_id: str
    confirmation_url: str
    created_at: datetime
    amount_minor: int
    status: str = "pending"
    refunded_minor: int = 0
    refund_pending_minor: int = 0
    receipt_registration: str | None = None
    captured_at: datetime | None = None
    expires_at: datetime | None = None
    canceled_by: tuple[str, str] | None = None
    is_authorized: bool = False

    @property
    def currency(self) -> str:
        """The currency of the payment and its refunds."""
        return self.request.amount.currency

    @property
    def refundable_minor(self) -> int:
        """The amount that can still be refunded; pending refunds count as refunded."""
        return self.amount_minor - self.refunded_minor - self.refund_pending_minor

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses and notifications."""
        is_succeeded = self.status == "succeeded"
        fields = {
            "id": self.id,
            "status": self.status,
            "amount": money(self.amount_minor, self.currency),
            "income_amount": money(_income_minor(self.amount_minor), self.currency) if is_succeeded else None,
            "description": self.request.description,
            "recipient": {"account_id": self.shop_id, "gateway_id": "1000001"},
            "payment_method": self._payment_method(),
            "captured_at": timestamp(self.captured_at),
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.expires_at) if self.status == "waiting_for_capture" else None,
            "confirmation": self._confirmation() if self.status == "pending" else None,
            "test": True,
            "refunded_amount": money(self.refunded_minor, self.currency) if is_succeeded else None,
            "paid": self.status in {"waiting_for_capture", "succeeded"},
            "refundable": is_succeeded and self.refundable_minor > 0,
            "receipt_registration": self.receipt_registration,
            "metadata": self.request.metadata,
            "cancellation_details": _cancellation(self.canceled_by),
            "authorization_details": self._authorization(),
            "merchant_customer_id": self.request.merchant_customer_id,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _confirmation(self) -> dict[str, str] | None:
        confirmation = self.request.confirmation
        if confirmation is None:
            return None
        details = {
            "redirect": {"return_url": confirmation.return_url or "", "confirmation_url": self.confirmation_url},
            "mobile_application": {"confirmation_url": self.confirmation_url},
            "embedded": {"confirmation_token": f"ct-{self.id}"},
            "qr": {"confirmation_data": self.confirmation_url},
            "external": {},
        }
        return {"type": confirmation.type, **details[confirmation.type]}

    def _payment_method(self) -> dict[str, Any] | None:
        chosen = self.request.payment_method_data
        if chosen is None and not self.is_authorized:
            return None
        kind = chosen.type if chosen else "bank_card"
        method: dict[str, Any] = {"type": kind, "id": self.id, "saved": False}
        if kind == "bank_card" and self.is_authorized:
            # The provider's published test card.
            method["title"] = "Bank card *4477"
            method["card"] = {
                "first6": "555555",
                "last4": "4477",
                "expiry_month": "12",
                "expiry_year": "2035",
                "card_type": "MasterCard",
                "issuer_country": "RU",
            }
        return method

    def _authorization(self) -> dict[str, Any] | None:
        if not self.is_authorized:
            return None
        digits = f"{self.number:012d}"
        return {"rrn": digits[-12:], "auth_code": digits[-6:], "three_d_secure": {"applied": False}}


@dataclasses.dataclass(slots=True, kw_only=True)
class Refund:
    """A refund; while it is pending, its amount is reserved on the payment."""

    id: str
    number: int
    payment_id: str
    amount_minor: int
    currency: str
    created_at: datetime
    description: str | None = None
    metadata: dict[str, str] | None = None
    receipt_registration: str | None = None
    status: str = "pending"

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses and notifications."""
        fields = {
            "id": self.id,
            "payment_id": self.payment_id,
            "status": self.status,
            "created_at": timestamp(self.created_at),
            "amount": money(self.amount_minor, self.currency),
            "description": self.description,
            "receipt_registration": self.receipt_registration,
            "metadata": self.metadata,
            # There is no notification for it: clients must poll to see a canceled refund.
            "cancellation_details": _cancellation(
                ("refund_network", "general_decline") if self.status == "canceled" else None
            ),
        }
        return {name: value for name, value in fields.items() if value is not None}


def create(request: requests.CreatePayment, *, number: int, shop_id: str, public_url: str, now: datetime) -> Payment:
    """Create a pending payment."""
    payment_id = str(uuid.uuid4())
    return Payment(
        id=payment_id,
        number=number,
        request=request,
        shop_id=shop_id,
        confirmation_url=f"{public_url}/pay/{payment_id}",
        created_at=now,
        amount_minor=request.amount.minor,
        receipt_registration="pending" if request.receipt else None,
    )


def pay(payment: Payment, now: datetime) -> str:
    """Pay: take the money, or hold it if the shop captures in a second step. Return the event."""
    _require(payment, "pending", to="be paid")
    payment.is_authorized = True
    if payment.request.capture:
        payment.status, payment.captured_at = "succeeded", now
        return "payment.succeeded"
    payment.status, payment.expires_at = "waiting_for_capture", now + CAPTURE_WITHIN
    return "payment.waiting_for_capture"


def capture(payment: Payment, request: requests.CapturePayment, now: datetime) -> str:
    """Capture the held money, or a part of it and release the rest; return the event."""
    _require(payment, "waiting_for_capture", to="be captured")
    if request.amount is not None:
        _require_amount(request.amount, payment.currency, payment.amount_minor)
        payment.amount_minor = request.amount.minor
    if request.receipt is not None:
        payment.receipt_registration = "pending"
    payment.status, payment.captured_at = "succeeded", now
    return "payment.succeeded"


def cancel_by_merchant(payment: Payment) -> str:
    """Release held money; the shop cannot cancel a pending payment. Return the event."""
    _require(payment, "waiting_for_capture", to="be canceled")
    return _cancel(payment, "merchant", "canceled_by_merchant")


def decline(payment: Payment) -> str:
    """Decline as the payer's bank; return the event."""
    _require(payment, "pending", to="be declined")
    return _cancel(payment, "payment_network", "insufficient_funds")


def expire(payment: Payment) -> str:
    """Cancel because the time to pay or to capture ran out; return the event."""
    if payment.status == "waiting_for_capture":
        return _cancel(payment, "yoo_money", "expired_on_capture")
    _require(payment, "pending", to="expire")
    return _cancel(payment, "yoo_money", "expired_on_confirmation")


def require_refund_receipt(payment: Payment, request: requests.CreateRefund) -> None:
    """Require a receipt for a partial refund of a payment that has one; raises YooKassaError."""
    is_partial = request.amount.minor < payment.amount_minor
    if is_partial and payment.receipt_registration is not None and request.receipt is None:
        raise requests.YooKassaError("Receipt is required for a partial refund of this payment", "receipt")


def refund(payment: Payment, request: requests.CreateRefund, *, number: int, now: datetime) -> Refund:
    """Create a pending refund and reserve its amount on the payment."""
    _require(payment, "succeeded", to="be refunded")
    _require_amount(request.amount, payment.currency, payment.refundable_minor)
    payment.refund_pending_minor += request.amount.minor
    return Refund(
        id=str(uuid.uuid4()),
        number=number,
        payment_id=payment.id,
        amount_minor=request.amount.minor,
        currency=payment.currency,
        created_at=now,
        description=request.description,
        metadata=request.metadata,
        receipt_registration="pending" if request.receipt else None,
    )


def decide_refund(payment: Payment, refund: Refund, outcome: str) -> str | None:
    """Decide a pending refund: succeeded or canceled. Return the event, or None for a canceled refund."""
    if refund.status != "pending":
        raise errors.NotAllowed(f"The refund is already {refund.status}")
    refund.status = outcome
    payment.refund_pending_minor -= refund.amount_minor
    if outcome == "canceled":
        return None
    payment.refunded_minor += refund.amount_minor
    return "refund.succeeded"


def money(amount_minor: int, currency: str) -> dict[str, str]:
    """Return an amount in JSON; every currency of this provider has two decimals."""
    return {"value": f"{amount_minor // 100}.{amount_minor % 100:02d}", "currency": currency}


def timestamp(value: datetime | None) -> str | None:
    """Return a time as the provider writes it, with milliseconds and Z."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def _income_minor(amount_minor: int) -> int:
    return amount_minor - amount_minor * FEE_PERMILLE // 1000


def _cancel(payment: Payment, party: str, reason: str) -> str:
    payment.status, payment.canceled_by = "canceled", (party, reason)
    if payment.receipt_registration is not None:
        payment.receipt_registration = "canceled"
    return "payment.canceled"


def _cancellation(canceled_by: tuple[str, str] | None) -> dict[str, str] | None:
    return {"party": canceled_by[0], "reason": canceled_by[1]} if canceled_by else None


def _require(payment: Payment, status: str, *, to: str) -> None:
    if payment.status != status:
        raise errors.NotAllowed(f"A payment that is {payment.status} cannot {to}")


def _require_amount(amount: requests.Amount, currency: str, minor_max: int) -> None:
    if amount.currency != currency:
        raise requests.YooKassaError("Currency differs from the payment's currency", "amount.currency")
    if amount.minor > minor_max:
        raise requests.YooKassaError("Amount exceeds what is left of the payment", "amount.value")
