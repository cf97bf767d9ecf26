"""Invoices in Telegram Stars, their pre-checkout queries and charges. Pure.

Amounts are integer numbers of Stars. Source: core.telegram.org/bots/payments-stars.
"""

import dataclasses
import secrets
from collections import deque
from typing import Any

from sandbox import webhooks
from sandbox.telegram import objects, parameters

TITLE_MAX, DESCRIPTION_MAX, PAYLOAD_BYTES_MAX = 32, 255, 128
STARS_MAX, SUBSCRIPTION_STARS_MAX = 100_000, 10_000
# The only period that Telegram allows: 30 days.
SUBSCRIPTION_PERIOD_S = 2_592_000
# How many pre-checkout queries and charges an invoice keeps.
HISTORY_MAX = 100


@dataclasses.dataclass(slots=True, kw_only=True)
class StarInvoice:
    """An invoice; `id` is the slug of its link."""

    id: str
    number: int
    bot_id: int
    title: str
    description: str
    payload: str
    total_amount: int
    subscription_period: int | None
    created_at: int
    pre_checkouts: "deque[PreCheckout]" = dataclasses.field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    charges: "deque[StarCharge]" = dataclasses.field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def to_json(self) -> dict[str, Any]:
        """Return the Invoice of a message."""
        return {
            "title": self.title,
            "description": self.description,
            "start_parameter": "",
            "currency": "XTR",
            "total_amount": self.total_amount,
        }

    def details(self) -> dict[str, Any]:
        """Return the invoice with its pre-checkout queries and charges."""
        return {
            "id": self.id,
            "bot_id": self.bot_id,
            "created_at": self.created_at,
            **self.to_json(),
            "payload": self.payload,
            "subscription_period": self.subscription_period,
            "checkouts": [
                {
                    "id": pre_checkout.id,
                    "user_id": pre_checkout.user_id,
                    "state": pre_checkout.state,
                    "error_message": pre_checkout.error_message,
                }
                for pre_checkout in self.pre_checkouts
            ],
            "charges": [
                {"id": charge.id, "user_id": charge.user_id, "is_refunded": charge.is_refunded}
                for charge in self.charges
            ],
        }

    def latest_charge(self) -> "StarCharge | None":
        """Return the latest charge that was not refunded."""
        return next((charge for charge in reversed(self.charges) if not charge.is_refunded), None)


@dataclasses.dataclass(slots=True, kw_only=True)
class PreCheckout:
    """A pre-checkout query; `state` is asked, agreed, refused, timed_out, or unpaid (agreed, but without Stars)."""

    id: str
    invoice: StarInvoice
    user_id: int
    has_stars: bool
    state: str = "asked"
    error_message: str = ""
    deliveries: list[webhooks.Delivery] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the PreCheckoutQuery."""
        return {
            "id": self.id,
            "from": objects.user_json(self.user_id),
            "currency": "XTR",
            "total_amount": self.invoice.total_amount,
            "invoice_payload": self.invoice.payload,
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class StarCharge:
    """A payment in Stars; the first charge of a subscription identifies it."""

    id: str
    number: int
    invoice: StarInvoice
    user_id: int
    charged_at: int
    is_renewal: bool
    is_refunded: bool = False
    is_canceled: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the SuccessfulPayment."""
        fields = {
            "currency": "XTR",
            "total_amount": self.invoice.total_amount,
            "invoice_payload": self.invoice.payload,
            "telegram_payment_charge_id": self.id,
            "provider_payment_charge_id": f"{self.user_id}_{self.number}",
        }
        if self.invoice.subscription_period is not None:
            fields["subscription_expiration_date"] = self.charged_at + self.invoice.subscription_period
            fields["is_recurring"] = True
            if not self.is_renewal:
                fields["is_first_recurring"] = True
        return fields

    def transaction(self, direction: str, date: int) -> dict[str, Any]:
        """Return a StarTransaction: with `source` for a payment, with `receiver` and the same id for its refund."""
        partner: dict[str, Any] = {
            "type": "user",
            "transaction_type": "invoice_payment",
            "user": objects.user_json(self.user_id),
            "invoice_payload": self.invoice.payload,
        }
        if self.invoice.subscription_period is not None:
            partner["subscription_period"] = self.invoice.subscription_period
        return {"id": self.id, "amount": self.invoice.total_amount, "date": date, direction: partner}


def invoice(params: parameters.Parameters, *, number: int, bot_id: int, created_at: int, is_link: bool) -> StarInvoice:
    """Create an invoice from the parameters of a call; raises BadRequest."""
    title, description, payload = (params.text(name) for name in ("title", "description", "payload"))
    if not 1 <= len(title) <= TITLE_MAX:
        raise parameters.BadRequest("INVOICE_TITLE_INVALID")
    if not 1 <= len(description) <= DESCRIPTION_MAX:
        raise parameters.BadRequest("INVOICE_DESCRIPTION_INVALID")
    if not 1 <= len(payload.encode()) <= PAYLOAD_BYTES_MAX:
        raise parameters.BadRequest("INVOICE_PAYLOAD_INVALID")
    if params.text("currency") != "XTR" or params.text("provider_token"):
        # Other currencies need a payment provider token, and none exists here.
        raise parameters.BadRequest("PAYMENT_PROVIDER_INVALID")
    period = params.integer("subscription_period", 0) if is_link else 0
    if period not in {0, SUBSCRIPTION_PERIOD_S}:
        raise parameters.BadRequest("SUBSCRIPTION_PERIOD_INVALID")
    return StarInvoice(
        id=secrets.token_urlsafe(12),
        number=number,
        bot_id=bot_id,
        title=title,
        description=description,
        payload=payload,
        total_amount=_total(params, STARS_MAX if period == 0 else SUBSCRIPTION_STARS_MAX),
        subscription_period=period or None,
        created_at=created_at,
    )


def charge(invoice: StarInvoice, user_id: int, *, number: int, charged_at: int, first: StarCharge | None) -> StarCharge:
    """Create the charge of an invoice, or the renewal of the subscription that started with `first`."""
    return StarCharge(
        id=f"stx{secrets.token_urlsafe(48)}",
        number=number,
        invoice=invoice,
        user_id=user_id,
        charged_at=charged_at,
        is_renewal=first is not None,
    )


def _total(params: parameters.Parameters, stars_max: int) -> int:
    prices = params.json_value("prices", list) or []
    if len(prices) != 1 or not isinstance(prices[0], dict) or not isinstance(prices[0].get("label"), str):
        raise parameters.BadRequest("STARS_INVOICE_INVALID")
    amount = prices[0].get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= stars_max:
        raise parameters.BadRequest("CURRENCY_TOTAL_AMOUNT_INVALID")
    return amount
