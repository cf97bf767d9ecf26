"""What Telegram accepts in an invoice in Stars, and the objects around it. Pure.

Stars are whole: an amount is a number of Stars. Source: core.telegram.org/bots/payments-stars.
"""

import dataclasses
import secrets
from collections import deque
from typing import Any

from sandbox import webhooks
from sandbox.telegram import parameters, rules

TITLE_MAX, DESCRIPTION_MAX, PAYLOAD_BYTES_MAX = 32, 255, 128
STARS_MAX, SUBSCRIPTION_STARS_MAX = 100_000, 10_000
# The only period that subscriptions may have: thirty days.
SUBSCRIPTION_PERIOD_S = 2_592_000
# What an invoice remembers of its questions and charges.
REMEMBERED_MAX = 100


@dataclasses.dataclass(slots=True, kw_only=True)
class Invoice:
    """One invoice; `id` is the slug of its link."""

    id: str
    number: int
    bot_id: int
    title: str
    description: str
    payload: str
    total_amount: int
    subscription_period: int | None
    created_at: int
    checkouts: "deque[Checkout]" = dataclasses.field(default_factory=lambda: deque(maxlen=REMEMBERED_MAX))
    charges: "deque[Charge]" = dataclasses.field(default_factory=lambda: deque(maxlen=REMEMBERED_MAX))

    def wire(self) -> dict[str, Any]:
        """Render the invoice as a message shows it."""
        return {
            "title": self.title,
            "description": self.description,
            "start_parameter": "",
            "currency": "XTR",
            "total_amount": self.total_amount,
        }

    def shown(self) -> dict[str, Any]:
        """Show everything there is to know about the invoice."""
        return {
            "id": self.id,
            "bot_id": self.bot_id,
            "created_at": self.created_at,
            **self.wire(),
            "payload": self.payload,
            "subscription_period": self.subscription_period,
            "checkouts": [
                {
                    "id": checkout.id,
                    "user_id": checkout.user_id,
                    "state": checkout.state,
                    "error_message": checkout.error_message,
                }
                for checkout in self.checkouts
            ],
            "charges": [
                {"id": charge.id, "user_id": charge.user_id, "is_refunded": charge.is_refunded}
                for charge in self.charges
            ],
        }

    def latest_charge(self) -> "Charge | None":
        """Find the latest charge that was not given back."""
        return next((charge for charge in reversed(self.charges) if not charge.is_refunded), None)


@dataclasses.dataclass(slots=True, kw_only=True)
class Checkout:
    """The question to the bot before a payment; `state` is asked, agreed, refused, timed_out, or unpaid where the
    bot agreed and the payer had no Stars.
    """

    id: str
    invoice: Invoice
    user_id: int
    is_solvent: bool
    state: str = "asked"
    error_message: str = ""
    deliveries: list[webhooks.Delivery] = dataclasses.field(default_factory=list)

    def wire(self) -> dict[str, Any]:
        """Render the PreCheckoutQuery."""
        return {
            "id": self.id,
            "from": rules.shown_user(self.user_id),
            "currency": "XTR",
            "total_amount": self.invoice.total_amount,
            "invoice_payload": self.invoice.payload,
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class Charge:
    """Stars that were paid; of a subscription the first charge names it."""

    id: str
    number: int
    invoice: Invoice
    user_id: int
    charged_at: int
    is_renewal: bool
    is_refunded: bool = False
    is_canceled: bool = False

    def wire(self) -> dict[str, Any]:
        """Render the SuccessfulPayment."""
        shown = {
            "currency": "XTR",
            "total_amount": self.invoice.total_amount,
            "invoice_payload": self.invoice.payload,
            "telegram_payment_charge_id": self.id,
            "provider_payment_charge_id": f"{self.user_id}_{self.number}",
        }
        if self.invoice.subscription_period is not None:
            shown["subscription_expiration_date"] = self.charged_at + self.invoice.subscription_period
            shown["is_recurring"] = True
            if not self.is_renewal:
                shown["is_first_recurring"] = True
        return shown

    def transaction(self, direction: str, date: int) -> dict[str, Any]:
        """Render a StarTransaction: `source` for what came, `receiver` for what went back under the same id."""
        partner: dict[str, Any] = {
            "type": "user",
            "transaction_type": "invoice_payment",
            "user": rules.shown_user(self.user_id),
            "invoice_payload": self.invoice.payload,
        }
        if self.invoice.subscription_period is not None:
            partner["subscription_period"] = self.invoice.subscription_period
        return {"id": self.id, "amount": self.invoice.total_amount, "date": date, direction: partner}


def invoice(asked: parameters.Parameters, *, number: int, bot_id: int, created_at: int, is_link: bool) -> Invoice:
    """Read an invoice from its call; raises BadRequest."""
    title, description, payload = (asked.text(name) for name in ("title", "description", "payload"))
    if not 1 <= len(title) <= TITLE_MAX:
        raise parameters.BadRequest("INVOICE_TITLE_INVALID")
    if not 1 <= len(description) <= DESCRIPTION_MAX:
        raise parameters.BadRequest("INVOICE_DESCRIPTION_INVALID")
    if not 1 <= len(payload.encode()) <= PAYLOAD_BYTES_MAX:
        raise parameters.BadRequest("INVOICE_PAYLOAD_INVALID")
    if asked.text("currency") != "XTR" or asked.text("provider_token"):
        # Other currencies need a payment provider, and nobody has one here.
        raise parameters.BadRequest("PAYMENT_PROVIDER_INVALID")
    period = asked.integer("subscription_period", 0) if is_link else 0
    if period not in {0, SUBSCRIPTION_PERIOD_S}:
        raise parameters.BadRequest("SUBSCRIPTION_PERIOD_INVALID")
    return Invoice(
        id=secrets.token_urlsafe(12),
        number=number,
        bot_id=bot_id,
        title=title,
        description=description,
        payload=payload,
        total_amount=_total(asked, STARS_MAX if period == 0 else SUBSCRIPTION_STARS_MAX),
        subscription_period=period or None,
        created_at=created_at,
    )


def charge(invoice: Invoice, user_id: int, *, number: int, charged_at: int, first: Charge | None) -> Charge:
    """Make the charge of a paid invoice, or of the renewal of its subscription's `first` charge."""
    return Charge(
        id=f"stx{secrets.token_urlsafe(48)}",
        number=number,
        invoice=invoice,
        user_id=user_id,
        charged_at=charged_at,
        is_renewal=first is not None,
    )


def _total(asked: parameters.Parameters, stars_max: int) -> int:
    prices = asked.structure("prices", list) or []
    if len(prices) != 1 or not isinstance(prices[0], dict) or not isinstance(prices[0].get("label"), str):
        raise parameters.BadRequest("STARS_INVOICE_INVALID")
    amount = prices[0].get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= stars_max:
        raise parameters.BadRequest("CURRENCY_TOTAL_AMOUNT_INVALID")
    return amount
