"""Stripe's objects and their JSON. Pure; their state changes are in `lifecycle`.

Amounts are integers in the currency's smallest unit, times are Unix seconds.
"""

import dataclasses
import secrets
from typing import Any

from sandbox.stripe import requests


def new_id(prefix: str) -> str:
    """Return a new id in Stripe's format: the type's prefix and 24 random characters."""
    return f"{prefix}_{secrets.token_hex(12)}"


@dataclasses.dataclass(slots=True, kw_only=True)
class Session:
    """One Checkout Session."""

    id: str
    number: int
    created: int
    expires_at: int
    request: requests.CreateSession
    page_url: str
    status: str = "open"
    payment_status: str = "unpaid"
    intent_id: str | None = None

    @property
    def currency(self) -> str:
        """The currency of all line items."""
        return self.request.line_items[0].price_data.currency

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        return {
            "id": self.id,
            "object": "checkout.session",
            "amount_subtotal": self.request.total,
            "amount_total": self.request.total,
            "cancel_url": self.request.cancel_url,
            "client_reference_id": self.request.client_reference_id,
            "created": self.created,
            "currency": self.currency,
            "customer": None,
            "customer_email": self.request.customer_email,
            "expires_at": self.expires_at,
            "livemode": False,
            "metadata": self.request.metadata,
            "mode": "payment",
            "payment_intent": self.intent_id,
            "payment_method_types": self.request.payment_method_types,
            "payment_status": self.payment_status,
            "status": self.status,
            "success_url": self.request.success_url,
            "ui_mode": "hosted",
            "url": self.page_url if self.status == "open" else None,
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class Intent:
    """One PaymentIntent, with or without a session."""

    id: str
    number: int
    created: int
    amount: int
    currency: str
    capture_method: str
    payment_method_types: list[str]
    description: str | None
    metadata: dict[str, str]
    receipt_email: str | None = None
    session_id: str | None = None
    status: str = "requires_payment_method"
    payment_method: str | None = None
    charge_id: str | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    last_payment_error: dict[str, Any] | None = None
    next_action: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        return {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount_capturable,
            "amount_received": self.amount_received,
            "automatic_payment_methods": None,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": f"{self.id}_secret_{self.number}",
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": None,
            "description": self.description,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.charge_id,
            "livemode": False,
            "metadata": self.metadata,
            "next_action": self.next_action,
            "payment_method": self.payment_method,
            "payment_method_types": self.payment_method_types,
            "receipt_email": self.receipt_email,
            "status": self.status,
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class Charge:
    """One attempt to charge an intent; `status` is succeeded, pending or failed."""

    id: str
    number: int
    created: int
    amount: int
    currency: str
    intent: Intent
    status: str
    method: str
    amount_captured: int = 0
    amount_refunded: int = 0
    balance_id: str | None = None
    dispute: "Dispute | None" = None

    @property
    def refundable(self) -> int:
        """The amount that can still be refunded."""
        return self.amount_captured - self.amount_refunded

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        is_failed = self.status == "failed"
        return {
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount_captured,
            "amount_refunded": self.amount_refunded,
            "balance_transaction": self.balance_id,
            "captured": self.amount_captured > 0,
            "created": self.created,
            "currency": self.currency,
            "description": self.intent.description,
            "disputed": self.dispute is not None,
            "failure_code": "card_declined" if is_failed else None,
            "failure_message": "Your card has insufficient funds." if is_failed else None,
            "livemode": False,
            "metadata": self.intent.metadata,
            "paid": self.status == "succeeded",
            "payment_intent": self.intent.id,
            "payment_method": self.intent.payment_method,
            "payment_method_details": self._method_details(),
            "receipt_email": self.intent.receipt_email,
            "refunded": 0 < self.amount_captured == self.amount_refunded,
            "status": self.status,
        }

    def _method_details(self) -> dict[str, Any]:
        if self.method != "card":
            return {"type": self.method, self.method: {}}
        # The test card of Stripe's documentation.
        card = {"brand": "visa", "country": "US", "exp_month": 12, "exp_year": 2035, "funding": "credit"}
        return {"type": "card", "card": {**card, "last4": "4242", "network": "visa"}}


@dataclasses.dataclass(slots=True, kw_only=True)
class Refund:
    """One refund; `status` is pending, succeeded or failed."""

    id: str
    number: int
    created: int
    amount: int
    charge: Charge
    metadata: dict[str, str]
    reason: str | None
    status: str = "pending"
    balance_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        fields = {
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": self.balance_id,
            "charge": self.charge.id,
            "created": self.created,
            "currency": self.charge.currency,
            "metadata": self.metadata,
            "payment_intent": self.charge.intent.id,
            "reason": self.reason,
            "receipt_number": None,
            "status": self.status,
        }
        return fields | ({"failure_reason": "expired_or_canceled_card"} if self.status == "failed" else {})


@dataclasses.dataclass(slots=True, kw_only=True)
class Dispute:
    """One dispute; `status` is needs_response, won or lost."""

    id: str
    number: int
    created: int
    amount: int
    charge: Charge
    due_by: int
    status: str = "needs_response"
    balance: "list[BalanceTransaction]" = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        return {
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": [one.to_json() for one in self.balance],
            "charge": self.charge.id,
            "created": self.created,
            "currency": self.charge.currency,
            "evidence_details": {
                "due_by": self.due_by,
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": self.charge.intent.id,
            "reason": "fraudulent",
            "status": self.status,
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class BalanceTransaction:
    """One balance transaction; `amount` is signed, and `fee` is deducted from it."""

    id: str
    number: int
    created: int
    amount: int
    fee: int
    currency: str
    type: str
    reporting_category: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
        fees = [{"amount": self.fee, "currency": self.currency, "description": "Stripe fees", "type": "stripe_fee"}]
        return {
            "id": self.id,
            "object": "balance_transaction",
            "amount": self.amount,
            "available_on": self.created,
            "created": self.created,
            "currency": self.currency,
            "description": None,
            "exchange_rate": None,
            "fee": self.fee,
            "fee_details": fees if self.fee else [],
            "net": self.amount - self.fee,
            "reporting_category": self.reporting_category,
            "source": self.source,
            "status": "available",
            "type": self.type,
        }
