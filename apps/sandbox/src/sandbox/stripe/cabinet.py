"""The payments of the imitated Stripe, as payers, banks and the dashboard act on them.

A payment's ref is its session's id, or its payment intent's.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from sandbox import providers, webhooks
from sandbox.stripe import account, objects, shapes


class Cabinet(providers.Payments, providers.Refunds):
    """The dashboard of one account, and everybody who pays it."""

    name = "stripe"

    def __init__(self, books: account.Account) -> None:
        self._books = books

    def knows(self, ref: str) -> bool:
        """Tell whether there is such a session or intent."""
        return self._books.sessions.get(ref) is not None or self._books.intents.get(ref) is not None

    def invoice(self, ref: str) -> providers.Invoice:
        """Show the payment to its payer."""
        session, intent = self._found(ref)
        amount, currency = (session.asked.total, session.currency) if session else (0, "")
        if intent is not None:
            amount, currency = intent.amount, intent.currency
        first = session.asked.line_items[0].price_data.product_data.name if session else ""
        back = (session.asked.success_url or "").replace("{CHECKOUT_SESSION_ID}", session.id) if session else ""
        return providers.Invoice(
            ref=session.id if session else ref,
            amount=_written(amount, currency),
            description=(intent.description if intent else None) or first,
            state=_page_state(session, intent),
            return_url=back or None,
        )

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the session or intent as the API does."""
        session, intent = self._found(ref)
        asked = intent if session is None or (intent is not None and intent.id == ref) else session
        assert asked is not None, "what is known is one or the other"
        return asked.wire()

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest sessions, and intents without one, as the API shows them."""
        alone = (intent for intent in self._books.intents.newest_first() if intent.session_id is None)
        newest: Iterable[objects.Session | objects.Intent] = heapq.merge(
            self._books.sessions.newest_first(), alone, key=lambda made: -made.created
        )
        return [made.wire() for _, made in zip(range(limit), newest, strict=False)]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - nobody asks who pays
        """Pay as the payer would; the money of a delayed method arrives with the second time."""
        return self._acted(ref, is_declined=False)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Let the payer's bank refuse; the payment can still be paid otherwise."""
        return self._acted(ref, is_declined=True)

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time of an open session, or of held money, run out."""
        session, intent = self._found(ref)
        with self._books.events.collected() as sent:
            if intent is not None and intent.status == "requires_capture":
                self._books.release(self._books.charge_of(intent))
            elif session is not None and session.status == "open":
                self._books.expire_session(session)
            else:
                raise providers.NotAllowed("Only an open session or held money expires")
        return sent

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund from the dashboard; None means all that is left."""
        try:
            with self._books.events.collected() as sent:
                self._books.create_refund(self._latest_charge(ref), shapes.CreateRefund(amount=amount_minor))
        except shapes.Refused as refused:
            raise providers.NotAllowed(refused.message) from None
        return sent

    def dispute(self, ref: str, amount_minor: int | None, outcome: str) -> Sequence[webhooks.Delivery]:
        """Open a dispute, or decide the one that is open."""
        charge = self._latest_charge(ref)
        with self._books.events.collected() as sent:
            if outcome == "open":
                self._books.open_dispute(charge, amount_minor)
            elif charge.dispute is None:
                raise providers.NotAllowed("There is no dispute to decide")
            else:
                self._books.close_dispute(charge.dispute, outcome)
        return sent

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Let the next refunds become succeeded, pending or canceled, which here is failed."""
        self._books.refund_plan.plan(outcome, count)

    def knows_refund(self, ref: str) -> bool:
        """Tell whether there is such a refund."""
        return self._books.refunds.get(ref) is not None

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """End a pending refund."""
        with self._books.events.collected() as sent:
            self._books.decide_refund(self._refund(ref), outcome)
        return sent

    def shown_refund(self, ref: str) -> dict[str, Any]:
        """Show the refund as the API does."""
        return self._refund(ref).wire()

    def _refund(self, ref: str) -> objects.Refund:
        made = self._books.refunds.get(ref)
        if made is None:
            raise providers.UnknownPayment("There is no such refund")
        return made

    def _found(self, ref: str) -> tuple[objects.Session | None, objects.Intent | None]:
        intent = self._books.intents.get(ref)
        session = self._books.sessions.get(intent.session_id or "" if intent else ref)
        if intent is None and session is None:
            raise providers.UnknownPayment(providers.UnknownPayment.__doc__)
        if intent is None and session is not None and session.intent_id is not None:
            intent = self._books.intents.get(session.intent_id)
        return session, intent

    def _acted(self, ref: str, *, is_declined: bool) -> Sequence[webhooks.Delivery]:
        session, intent = self._found(ref)
        if session is not None and session.status == "expired":
            raise providers.NotAllowed("The session has expired")
        try:
            with self._books.events.collected() as sent:
                if intent is None:
                    assert session is not None, "one of both is there"
                    intent = self._books.begin(session)
                if intent.status == "processing":
                    self._books.settle(self._books.charge_of(intent), is_declined=is_declined)
                else:
                    self._books.charge(intent, is_declined=is_declined)
        except shapes.Refused as refused:
            raise providers.NotAllowed(refused.message) from None
        return sent

    def _latest_charge(self, ref: str) -> objects.Charge:
        _, intent = self._found(ref)
        if intent is None or intent.charge_id is None:
            raise providers.NotAllowed("Nothing was paid yet")
        return self._books.charge_of(intent)


def _page_state(session: objects.Session | None, intent: objects.Intent | None) -> str:
    if intent is not None and intent.status in {"succeeded", "requires_capture"}:
        return "paid"
    is_over = (session is not None and session.status == "expired") or (intent and intent.status == "canceled")
    return "canceled" if is_over else "open"


def _written(amount: int, currency: str) -> str:
    if currency in shapes.ZERO_DECIMAL:
        return f"{amount} {currency.upper()}"
    return f"{amount // 100}.{amount % 100:02d} {currency.upper()}"
