"""The actions of payers, banks and the dashboard on Stripe's payments.

The ref of a payment is the id of its session or of its payment intent.
"""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from sandbox import errors, providers, webhooks
from sandbox.stripe import account, objects, requests


class Dashboard(providers.Payments, providers.Refunds):
    """The dashboard and the payers of one account."""

    name = "stripe"

    def __init__(self, stripe_account: account.Account) -> None:
        self._account = stripe_account

    def has_payment(self, ref: str) -> bool:
        """Tell whether there is such a session or intent."""
        return self._account.sessions.get(ref) is not None or self._account.intents.get(ref) is not None

    def payment_page(self, ref: str) -> providers.PaymentPage:
        """Return the content of the payment page."""
        session, intent = self._find(ref)
        amount, currency = (session.request.total, session.currency) if session else (0, "")
        if intent is not None:
            amount, currency = intent.amount, intent.currency
        product_name = session.request.line_items[0].price_data.product_data.name if session else ""
        return_url = (session.request.success_url or "").replace("{CHECKOUT_SESSION_ID}", session.id) if session else ""
        return providers.PaymentPage(
            ref=session.id if session else ref,
            amount=_format_amount(amount, currency),
            description=(intent.description if intent else None) or product_name,
            state=_page_state(session, intent),
            return_url=return_url or None,
        )

    def payment_json(self, ref: str) -> dict[str, Any]:
        """Return the session or intent as the API does."""
        session, intent = self._find(ref)
        requested = intent if session is None or (intent is not None and intent.id == ref) else session
        assert requested is not None, "one of them exists"
        return requested.to_json()

    def latest_payments(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest sessions, and intents without a session, as the API does."""
        standalone = (intent for intent in self._account.intents.newest_first() if intent.session_id is None)
        newest: Iterable[objects.Session | objects.Intent] = heapq.merge(
            self._account.sessions.newest_first(), standalone, key=lambda item: -item.created
        )
        return [item.to_json() for _, item in zip(range(limit), newest, strict=False)]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - the payer is anonymous
        """Pay as the payer; with a delayed method the second call lets the money arrive."""
        return self._attempt(ref, is_declined=False)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Decline as the payer's bank; the payment can be attempted again."""
        return self._attempt(ref, is_declined=True)

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time of an open session, or of held money, run out."""
        session, intent = self._find(ref)
        with self._account.events.collect_deliveries() as sent:
            if intent is not None and intent.status == "requires_capture":
                self._account.release(self._account.charge_of(intent))
            elif session is not None and session.status == "open":
                self._account.expire_session(session)
            else:
                raise errors.NotAllowed("Only an open session or held money expires")
        return sent

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund in the dashboard; None means all that is left."""
        try:
            with self._account.events.collect_deliveries() as sent:
                self._account.create_refund(self._latest_charge(ref), requests.CreateRefund(amount=amount_minor))
        except requests.StripeError as error:
            raise errors.NotAllowed(error.message) from None
        return sent

    def dispute(self, ref: str, amount_minor: int | None, outcome: str) -> Sequence[webhooks.Delivery]:
        """Open a dispute, or decide the open one."""
        charge = self._latest_charge(ref)
        with self._account.events.collect_deliveries() as sent:
            if outcome == "open":
                self._account.open_dispute(charge, amount_minor)
            elif charge.dispute is None:
                raise errors.NotAllowed("There is no dispute to decide")
            else:
                self._account.close_dispute(charge.dispute, outcome)
        return sent

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Set the outcome of the next refunds; canceled means failed at Stripe."""
        self._account.refund_plan.plan(outcome, count)

    def has_refund(self, ref: str) -> bool:
        """Tell whether there is such a refund."""
        return self._account.refunds.get(ref) is not None

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """Decide a pending refund."""
        with self._account.events.collect_deliveries() as sent:
            self._account.decide_refund(self._refund(ref), outcome)
        return sent

    def refund_json(self, ref: str) -> dict[str, Any]:
        """Return the refund as the API does."""
        return self._refund(ref).to_json()

    def _refund(self, ref: str) -> objects.Refund:
        refund = self._account.refunds.get(ref)
        if refund is None:
            raise errors.UnknownPayment("There is no such refund")
        return refund

    def _find(self, ref: str) -> tuple[objects.Session | None, objects.Intent | None]:
        intent = self._account.intents.get(ref)
        session = self._account.sessions.get(intent.session_id or "" if intent else ref)
        if intent is None and session is None:
            raise errors.UnknownPayment(errors.UnknownPayment.__doc__)
        if intent is None and session is not None and session.intent_id is not None:
            intent = self._account.intents.get(session.intent_id)
        return session, intent

    def _attempt(self, ref: str, *, is_declined: bool) -> Sequence[webhooks.Delivery]:
        session, intent = self._find(ref)
        if session is not None and session.status == "expired":
            raise errors.NotAllowed("The session has expired")
        try:
            with self._account.events.collect_deliveries() as sent:
                if intent is None:
                    assert session is not None, "one of them exists"
                    intent = self._account.start_intent(session)
                if intent.status == "processing":
                    self._account.settle_delayed(self._account.charge_of(intent), is_declined=is_declined)
                else:
                    self._account.charge(intent, is_declined=is_declined)
        except requests.StripeError as error:
            raise errors.NotAllowed(error.message) from None
        return sent

    def _latest_charge(self, ref: str) -> objects.Charge:
        _, intent = self._find(ref)
        if intent is None or intent.charge_id is None:
            raise errors.NotAllowed("Nothing was paid yet")
        return self._account.charge_of(intent)


def _page_state(session: objects.Session | None, intent: objects.Intent | None) -> str:
    if intent is not None and intent.status in {"succeeded", "requires_capture"}:
        return "paid"
    is_closed = (session is not None and session.status == "expired") or (intent and intent.status == "canceled")
    return "canceled" if is_closed else "open"


def _format_amount(amount: int, currency: str) -> str:
    if currency in requests.ZERO_DECIMAL:
        return f"{amount} {currency.upper()}"
    return f"{amount // 100}.{amount % 100:02d} {currency.upper()}"
