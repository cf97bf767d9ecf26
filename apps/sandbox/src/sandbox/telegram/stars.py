"""Telegram Stars: invoices, the payer's pre-checkout question with its deadline, charges, refunds, the balance.

A payment exists by its charge id, never by its invoice: one invoice can be paid any number of times.
"""

import itertools
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any

from sandbox import clock, providers, settings, shelf, webhooks
from sandbox.telegram import chats, parameters, rules, star_rules, updates

CHECKOUTS_MAX = 10_000
TRANSACTIONS_MAX = 100_000
# Answers beyond it are refused, and the payer sees the payment fail.
ANSWER_WITHIN_S = 10.0
_TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


class Stars(providers.Payments):
    """All invoices in Stars and what was paid on them. A payment's ref is its invoice's slug or its charge id."""

    name = "telegram"

    def __init__(
        self,
        configured: settings.Settings,
        virtual_clock: clock.VirtualClock,
        known_chats: chats.Chats,
        told: updates.Updates,
    ) -> None:
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self._chats = known_chats
        self._updates = told
        self._invoices: shelf.Shelf[star_rules.Invoice] = shelf.Shelf()
        self._charges: shelf.Shelf[star_rules.Charge] = shelf.Shelf()
        self._checkouts: dict[str, star_rules.Checkout] = {}
        self._transactions: dict[int, deque[dict[str, Any]]] = {}

    def forget(self) -> None:
        """Forget all invoices, questions and charges."""
        self._invoices.forget()
        self._charges.forget()
        self._checkouts.clear()
        self._transactions.clear()

    # --- what the sandbox asks of everybody with payments --------------------------------------------

    def knows(self, ref: str) -> bool:
        """Tell whether there is such an invoice or charge."""
        return self._invoices.get(ref) is not None or self._charges.get(ref) is not None

    def invoice(self, ref: str) -> providers.Invoice:
        """Show the invoice to whoever may pay it."""
        invoice = self._invoice(ref)
        return providers.Invoice(
            ref=ref,
            amount=f"{invoice.total_amount} XTR",
            description=invoice.title,
            state="paid" if any(not charge.is_refunded for charge in invoice.charges) else "open",
            asks_payer=True,
        )

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the invoice with its questions and charges; Telegram itself has no such object."""
        return self._invoice(ref).shown()

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest invoices."""
        newest = zip(range(limit), self._invoices.newest_first(), strict=False)
        return [invoice.shown() for _, invoice in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Pay an invoice as a person would, once the bot agrees; or renew the subscription of a charge."""
        charge = self._charges.get(ref)
        if charge is None:
            return self._ask(self._invoice(ref), payer_id, is_solvent=True)
        if charge.invoice.subscription_period is None or charge.is_canceled:
            raise providers.NotAllowed("Only the charge of a running subscription can be renewed")
        return self._charge(charge.invoice, charge.user_id, first=charge)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Ask the bot before the payment, and then have no Stars to pay with."""
        return self._ask(self._invoice(ref), payer_id, is_solvent=False)

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Give a charge back, or the latest one of an invoice, as Telegram's support does."""
        charge = self._charges.get(ref) or self._invoice(ref).latest_charge()
        if charge is None or charge.is_refunded:
            raise providers.NotAllowed("There is no charge left to refund")
        if amount_minor not in {None, charge.invoice.total_amount}:
            raise providers.NotAllowed("Stars are refunded in full only")
        return self._give_back(charge)

    # --- the methods of the Bot API ------------------------------------------------------------------

    def create_invoice_link(self, bot: chats.Bot, asked: parameters.Parameters) -> str:
        """Make an invoice that whoever has its link may pay."""
        return f"{self._base_url}/pay/{self._make_invoice(bot, asked, is_link=True).id}"

    def send_invoice(self, bot: chats.Bot, chat_id: int, asked: parameters.Parameters) -> dict[str, Any]:
        """Make an invoice and show it in a chat."""
        invoice = self._make_invoice(bot, asked, is_link=False)
        message = self._chats.add(
            bot,
            chat_id,
            sent_at=self._now_s(),
            source="",
            text="",
            parse_mode=None,
            entities=[],
            reply_markup=None,
            invoice=invoice.wire(),
        )
        return rules.shown_message(bot, message)

    def answer_pre_checkout_query(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        """Let a payer go on, or not; too late is an error."""
        checkout = self._checkouts.get(asked.text("pre_checkout_query_id"))
        if checkout is None or checkout.invoice.bot_id != bot.id or checkout.state != "asked":
            raise parameters.BadRequest(_TOO_OLD)
        if asked.flag("ok"):
            checkout.state = "agreed" if checkout.is_solvent else "unpaid"
            if checkout.is_solvent:
                checkout.deliveries += self._charge(checkout.invoice, checkout.user_id)
            return True
        checkout.error_message = asked.text("error_message")
        if not checkout.error_message:
            raise parameters.BadRequest("error_message is required when ok is false")
        checkout.state = "refused"
        return True

    def refund_star_payment(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        """Give a charge back in full."""
        charge = self._charge_of(bot, asked)
        if charge.is_refunded:
            raise parameters.BadRequest("CHARGE_ALREADY_REFUNDED")
        self._give_back(charge)
        return True

    def edit_user_star_subscription(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        """End or resume the renewals of a subscription, and tell so."""
        charge = self._charge_of(bot, asked)
        if charge.invoice.subscription_period is None:
            raise parameters.BadRequest("SUBSCRIPTION_NOT_ACTIVE")
        charge.is_canceled = asked.flag("is_canceled")
        content = {
            "user": rules.shown_user(charge.user_id),
            "invoice_payload": charge.invoice.payload,
            "state": "canceled" if charge.is_canceled else "active",
        }
        self._updates.tell(bot, "subscription", content, about=charge.invoice.id)
        return True

    def get_star_transactions(self, bot: chats.Bot, asked: parameters.Parameters) -> dict[str, Any]:
        """List what came and went, oldest first."""
        offset, limit = asked.integer("offset", 0), asked.integer("limit", 100)
        if offset < 0 or not 1 <= limit <= 100:
            raise parameters.BadRequest("offset must not be negative and limit must be from 1 to 100")
        done = self._transactions.get(bot.id, deque())
        return {"transactions": list(itertools.islice(done, offset, offset + limit))}

    def get_my_star_balance(self, bot: chats.Bot, _asked: parameters.Parameters) -> dict[str, Any]:
        """Tell how many Stars the bot has."""
        done = self._transactions.get(bot.id, deque())
        return {"amount": sum(one["amount"] if "source" in one else -one["amount"] for one in done)}

    # --- behind both ---------------------------------------------------------------------------------

    def _invoice(self, ref: str) -> star_rules.Invoice:
        charge = self._charges.get(ref)
        invoice = charge.invoice if charge else self._invoices.get(ref)
        if invoice is None:
            raise providers.UnknownPayment(providers.UnknownPayment.__doc__)
        return invoice

    def _charge_of(self, bot: chats.Bot, asked: parameters.Parameters) -> star_rules.Charge:
        charge = self._charges.get(asked.text("telegram_payment_charge_id"))
        is_theirs = charge is not None and charge.invoice.bot_id == bot.id
        if charge is None or not is_theirs or charge.user_id != asked.integer("user_id"):
            raise parameters.BadRequest("CHARGE_NOT_FOUND")
        return charge

    def _make_invoice(self, bot: chats.Bot, asked: parameters.Parameters, *, is_link: bool) -> star_rules.Invoice:
        invoice = star_rules.invoice(
            asked, number=self._invoices.next_number, bot_id=bot.id, created_at=self._now_s(), is_link=is_link
        )
        self._invoices.add(invoice)
        return invoice

    def _ask(self, invoice: star_rules.Invoice, payer_id: int, *, is_solvent: bool) -> Sequence[webhooks.Delivery]:
        checkout = star_rules.Checkout(
            id=str(secrets.randbits(63)), invoice=invoice, user_id=payer_id, is_solvent=is_solvent
        )
        self._checkouts[checkout.id] = checkout
        if len(self._checkouts) > CHECKOUTS_MAX:
            del self._checkouts[next(iter(self._checkouts))]
        invoice.checkouts.append(checkout)

        def give_up() -> None:
            if checkout.state == "asked":
                checkout.state = "timed_out"

        self._clock.after(ANSWER_WITHIN_S, give_up)
        checkout.deliveries += self._tell(invoice, "pre_checkout_query", checkout.wire())
        return checkout.deliveries

    def _charge(
        self, invoice: star_rules.Invoice, user_id: int, *, first: star_rules.Charge | None = None
    ) -> list[webhooks.Delivery]:
        charge = star_rules.charge(
            invoice, user_id, number=self._charges.next_number, charged_at=self._now_s(), first=first
        )
        self._charges.add(charge)
        invoice.charges.append(charge)
        self._book(charge, "source")
        if invoice.subscription_period is not None:
            self._renew_later(charge, first or charge)
        return self._tell_payer(charge, {"successful_payment": charge.wire()})

    def _renew_later(self, charge: star_rules.Charge, first: star_rules.Charge) -> None:
        def renew() -> None:
            if not first.is_canceled and not charge.is_refunded:
                self._charge(charge.invoice, charge.user_id, first=first)

        self._clock.after(charge.invoice.subscription_period or 0, renew)

    def _give_back(self, charge: star_rules.Charge) -> list[webhooks.Delivery]:
        charge.is_refunded = True
        self._book(charge, "receiver")
        refunded = {
            "currency": "XTR",
            "total_amount": charge.invoice.total_amount,
            "invoice_payload": charge.invoice.payload,
            "telegram_payment_charge_id": charge.id,
        }
        return self._tell_payer(charge, {"refunded_payment": refunded})

    def _book(self, charge: star_rules.Charge, direction: str) -> None:
        done = self._transactions.setdefault(charge.invoice.bot_id, deque(maxlen=TRANSACTIONS_MAX))
        done.append(charge.transaction(direction, self._now_s()))

    def _tell_payer(self, charge: star_rules.Charge, content: dict[str, Any]) -> list[webhooks.Delivery]:
        # A service message of the private chat between payer and bot; the update `message` brings it to the bot.
        [bot] = self._chats.bots(charge.invoice.bot_id)
        message = {
            "message_id": next(bot.message_ids),
            "from": rules.shown_user(charge.user_id),
            "chat": rules.shown_chat(charge.user_id),
            "date": self._now_s(),
            **content,
        }
        return self._tell(charge.invoice, "message", message)

    def _tell(self, invoice: star_rules.Invoice, kind: str, content: dict[str, Any]) -> list[webhooks.Delivery]:
        [bot] = self._chats.bots(invoice.bot_id)
        return self._updates.tell(bot, kind, content, about=invoice.id)

    def _now_s(self) -> int:
        return int(self._clock.time_s())
