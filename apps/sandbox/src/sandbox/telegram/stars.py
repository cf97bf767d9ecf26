"""Telegram Stars: invoices, pre-checkout queries with their deadline, charges, refunds, the balance.

A payment is identified by its charge id, not by its invoice: an invoice can be paid any number of times.
"""

import itertools
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any

from sandbox import bounded_store, clock, errors, providers, settings, webhooks
from sandbox.telegram import bots, objects, parameters, star_objects, updates

PRE_CHECKOUTS_MAX = 10_000
TRANSACTIONS_MAX = 100_000
# A later answer is refused, and the payment has failed.
ANSWER_TIMEOUT_S = 10.0
_TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


class Stars(providers.Payments):
    """All invoices in Stars and their payments. The ref of a payment is the slug of its invoice or its charge id."""

    name = "telegram"

    def __init__(
        self,
        configured: settings.Settings,
        virtual_clock: clock.VirtualClock,
        telegram_bots: bots.Bots,
        bot_updates: updates.Updates,
    ) -> None:
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self._bots = telegram_bots
        self._updates = bot_updates
        self._invoices: bounded_store.BoundedStore[star_objects.StarInvoice] = bounded_store.BoundedStore()
        self._charges: bounded_store.BoundedStore[star_objects.StarCharge] = bounded_store.BoundedStore()
        self._pre_checkouts: dict[str, star_objects.PreCheckout] = {}
        self._transactions: dict[int, deque[dict[str, Any]]] = {}

    def reset(self) -> None:
        """Remove all invoices, pre-checkout queries and charges."""
        self._invoices.reset()
        self._charges.reset()
        self._pre_checkouts.clear()
        self._transactions.clear()

    # --- providers.Payments ---------------------------------------------------------------------------

    def has_payment(self, ref: str) -> bool:
        """Tell whether there is such an invoice or charge."""
        return self._invoices.get(ref) is not None or self._charges.get(ref) is not None

    def payment_page(self, ref: str) -> providers.PaymentPage:
        """Return the content of the payment page."""
        invoice = self._invoice(ref)
        return providers.PaymentPage(
            ref=ref,
            amount=f"{invoice.total_amount} XTR",
            description=invoice.title,
            state="paid" if any(not charge.is_refunded for charge in invoice.charges) else "open",
            is_reusable=True,
        )

    def payment_json(self, ref: str) -> dict[str, Any]:
        """Return the invoice with its pre-checkout queries and charges; Telegram itself has no such object."""
        return self._invoice(ref).details()

    def latest_payments(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest invoices."""
        newest = zip(range(limit), self._invoices.newest_first(), strict=False)
        return [invoice.details() for _, invoice in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Pay an invoice as a person, after the bot has agreed; or renew the subscription of a charge."""
        charge = self._charges.get(ref)
        if charge is None:
            return self._start_pre_checkout(self._invoice(ref), payer_id, has_stars=True)
        if charge.invoice.subscription_period is None or charge.is_canceled:
            raise errors.NotAllowed("Only the charge of a running subscription can be renewed")
        return self._charge(charge.invoice, charge.user_id, first=charge)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Send the pre-checkout query to the bot, for a payer who has no Stars."""
        return self._start_pre_checkout(self._invoice(ref), payer_id, has_stars=False)

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund a charge, or the latest charge of an invoice, as Telegram's support."""
        charge = self._charges.get(ref) or self._invoice(ref).latest_charge()
        if charge is None or charge.is_refunded:
            raise errors.NotAllowed("There is no charge left to refund")
        if amount_minor not in {None, charge.invoice.total_amount}:
            raise errors.NotAllowed("Stars are refunded in full only")
        return self._refund(charge)

    # --- methods of the Bot API -----------------------------------------------------------------------

    def create_invoice_link(self, bot: bots.Bot, params: parameters.Parameters) -> str:
        """Create an invoice that everybody with its link can pay."""
        return f"{self._base_url}/pay/{self._create_invoice(bot, params, is_link=True).id}"

    def send_invoice(self, bot: bots.Bot, chat_id: int, params: parameters.Parameters) -> dict[str, Any]:
        """Create an invoice and send it to a chat."""
        invoice = self._create_invoice(bot, params, is_link=False)
        message = self._bots.add_message(
            bot,
            chat_id,
            sent_at=self._now_s(),
            source="",
            text="",
            parse_mode=None,
            entities=[],
            reply_markup=None,
            invoice=invoice.to_json(),
        )
        return objects.message_json(bot, message)

    def answer_pre_checkout_query(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        """Approve or refuse a payment; an answer after the deadline is an error."""
        pre_checkout = self._pre_checkouts.get(params.text("pre_checkout_query_id"))
        if pre_checkout is None or pre_checkout.invoice.bot_id != bot.id or pre_checkout.state != "asked":
            raise parameters.BadRequest(_TOO_OLD)
        if params.boolean("ok"):
            pre_checkout.state = "agreed" if pre_checkout.has_stars else "unpaid"
            if pre_checkout.has_stars:
                pre_checkout.deliveries += self._charge(pre_checkout.invoice, pre_checkout.user_id)
            return True
        pre_checkout.error_message = params.text("error_message")
        if not pre_checkout.error_message:
            raise parameters.BadRequest("error_message is required when ok is false")
        pre_checkout.state = "refused"
        return True

    def refund_star_payment(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        """Refund a charge in full."""
        charge = self._charge_of(bot, params)
        if charge.is_refunded:
            raise parameters.BadRequest("CHARGE_ALREADY_REFUNDED")
        self._refund(charge)
        return True

    def edit_user_star_subscription(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        """Cancel or resume the renewals of a subscription; the bot gets an update."""
        charge = self._charge_of(bot, params)
        if charge.invoice.subscription_period is None:
            raise parameters.BadRequest("SUBSCRIPTION_NOT_ACTIVE")
        charge.is_canceled = params.boolean("is_canceled")
        content = {
            "user": objects.user_json(charge.user_id),
            "invoice_payload": charge.invoice.payload,
            "state": "canceled" if charge.is_canceled else "active",
        }
        self._updates.send(bot, "subscription", content, payment_ref=charge.invoice.id)
        return True

    def get_star_transactions(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        """Return a page of payments and refunds, oldest first."""
        offset, limit = params.integer("offset", 0), params.integer("limit", 100)
        if offset < 0 or not 1 <= limit <= 100:
            raise parameters.BadRequest("offset must not be negative and limit must be from 1 to 100")
        transactions = self._transactions.get(bot.id, deque())
        return {"transactions": list(itertools.islice(transactions, offset, offset + limit))}

    def get_my_star_balance(self, bot: bots.Bot, _params: parameters.Parameters) -> dict[str, Any]:
        """Return the Stars of the bot."""
        transactions = self._transactions.get(bot.id, deque())
        return {"amount": sum(one["amount"] if "source" in one else -one["amount"] for one in transactions)}

    # --- shared ----------------------------------------------------------------------------------------

    def _invoice(self, ref: str) -> star_objects.StarInvoice:
        charge = self._charges.get(ref)
        invoice = charge.invoice if charge else self._invoices.get(ref)
        if invoice is None:
            raise errors.UnknownPayment(errors.UnknownPayment.__doc__)
        return invoice

    def _charge_of(self, bot: bots.Bot, params: parameters.Parameters) -> star_objects.StarCharge:
        charge = self._charges.get(params.text("telegram_payment_charge_id"))
        is_own = charge is not None and charge.invoice.bot_id == bot.id
        if charge is None or not is_own or charge.user_id != params.integer("user_id"):
            raise parameters.BadRequest("CHARGE_NOT_FOUND")
        return charge

    def _create_invoice(
        self, bot: bots.Bot, params: parameters.Parameters, *, is_link: bool
    ) -> star_objects.StarInvoice:
        invoice = star_objects.invoice(
            params, number=self._invoices.next_number, bot_id=bot.id, created_at=self._now_s(), is_link=is_link
        )
        self._invoices.add(invoice)
        return invoice

    def _start_pre_checkout(
        self, invoice: star_objects.StarInvoice, payer_id: int, *, has_stars: bool
    ) -> Sequence[webhooks.Delivery]:
        pre_checkout = star_objects.PreCheckout(
            id=str(secrets.randbits(63)), invoice=invoice, user_id=payer_id, has_stars=has_stars
        )
        self._pre_checkouts[pre_checkout.id] = pre_checkout
        if len(self._pre_checkouts) > PRE_CHECKOUTS_MAX:
            del self._pre_checkouts[next(iter(self._pre_checkouts))]
        invoice.pre_checkouts.append(pre_checkout)

        def time_out() -> None:
            if pre_checkout.state == "asked":
                pre_checkout.state = "timed_out"

        self._clock.call_later(ANSWER_TIMEOUT_S, time_out)
        pre_checkout.deliveries += self._send_update(invoice, "pre_checkout_query", pre_checkout.to_json())
        return pre_checkout.deliveries

    def _charge(
        self, invoice: star_objects.StarInvoice, user_id: int, *, first: star_objects.StarCharge | None = None
    ) -> list[webhooks.Delivery]:
        charge = star_objects.charge(
            invoice, user_id, number=self._charges.next_number, charged_at=self._now_s(), first=first
        )
        self._charges.add(charge)
        invoice.charges.append(charge)
        self._add_transaction(charge, "source")
        if invoice.subscription_period is not None:
            self._renew_later(charge, first or charge)
        return self._send_service_message(charge, {"successful_payment": charge.to_json()})

    def _renew_later(self, charge: star_objects.StarCharge, first: star_objects.StarCharge) -> None:
        def renew() -> None:
            if not first.is_canceled and not charge.is_refunded:
                self._charge(charge.invoice, charge.user_id, first=first)

        self._clock.call_later(charge.invoice.subscription_period or 0, renew)

    def _refund(self, charge: star_objects.StarCharge) -> list[webhooks.Delivery]:
        charge.is_refunded = True
        self._add_transaction(charge, "receiver")
        refunded = {
            "currency": "XTR",
            "total_amount": charge.invoice.total_amount,
            "invoice_payload": charge.invoice.payload,
            "telegram_payment_charge_id": charge.id,
        }
        return self._send_service_message(charge, {"refunded_payment": refunded})

    def _add_transaction(self, charge: star_objects.StarCharge, direction: str) -> None:
        transactions = self._transactions.setdefault(charge.invoice.bot_id, deque(maxlen=TRANSACTIONS_MAX))
        transactions.append(charge.transaction(direction, self._now_s()))

    def _send_service_message(
        self, charge: star_objects.StarCharge, content: dict[str, Any]
    ) -> list[webhooks.Delivery]:
        # A service message in the private chat of payer and bot; the bot gets it in an update `message`.
        [bot] = self._bots.find(charge.invoice.bot_id)
        message = {
            "message_id": next(bot.message_ids),
            "from": objects.user_json(charge.user_id),
            "chat": objects.chat_json(charge.user_id),
            "date": self._now_s(),
            **content,
        }
        return self._send_update(charge.invoice, "message", message)

    def _send_update(
        self, invoice: star_objects.StarInvoice, kind: str, content: dict[str, Any]
    ) -> list[webhooks.Delivery]:
        [bot] = self._bots.find(invoice.bot_id)
        return self._updates.send(bot, kind, content, payment_ref=invoice.id)

    def _now_s(self) -> int:
        return int(self._clock.time_s())
