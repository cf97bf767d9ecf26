"""One shop at the imitated YooKassa: its payments and refunds, what people and time do to them, and who is told.

All state changes happen without an await in between, so two requests with one key can never both execute.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sandbox import clock, providers, settings, shelf, webhooks, wire
from sandbox.yookassa import rules, shapes


class Shop(providers.Payments, providers.Refunds):
    """The shop's books."""

    name = "yookassa"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._configured = configured
        self._clock = virtual_clock
        self._courier = courier
        self._refund_plan = providers.OutcomePlan()
        self._receipt_plan = providers.OutcomePlan()
        self.made_payments: shelf.Shelf[rules.Payment] = shelf.Shelf()
        self.made_refunds: shelf.Shelf[rules.Refund] = shelf.Shelf()

    def forget(self) -> None:
        """Forget payments, refunds and plans."""
        for part in (self._refund_plan, self._receipt_plan, self.made_payments, self.made_refunds):
            part.forget()

    # --- what the sandbox asks of everybody with payments --------------------------------------------

    def knows(self, ref: str) -> bool:
        """Tell whether there is such a payment."""
        return self.made_payments.get(ref) is not None

    def invoice(self, ref: str) -> providers.Invoice:
        """Show the payment to its payer."""
        payment = self._payment(ref)
        confirmation = payment.request.confirmation
        amount = rules.money(payment.amount_minor, payment.currency)
        return providers.Invoice(
            ref=ref,
            amount=f"{amount['value']} {amount['currency']}",
            description=payment.request.description or "",
            state={"pending": "open", "canceled": "canceled"}.get(payment.status, "paid"),
            return_url=confirmation.return_url if confirmation else None,
        )

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the payment as the API does."""
        return self._payment(ref).wire()

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest payments as the API shows them."""
        newest = zip(range(limit), self.made_payments.newest_first(), strict=False)
        return [payment.wire() for _, payment in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - nobody asks who pays
        """Pay as the payer would; without `capture` the money is only held."""
        payment = self._payment(ref)
        event = rules.pay(payment, self._clock.now())
        if payment.status == "waiting_for_capture":
            self._expire_later(payment, rules.CAPTURE_WITHIN.total_seconds())
        return self._notify_of(payment, event)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Let the payer's bank refuse."""
        payment = self._payment(ref)
        return self._notify_of(payment, rules.decline(payment))

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay, or to capture, run out."""
        payment = self._payment(ref)
        return self._notify_of(payment, rules.expire(payment))

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund from the cabinet, where nobody is asked for a receipt; None means all that is left."""
        payment = self._payment(ref)
        amount = rules.money(payment.refundable_minor if amount_minor is None else amount_minor, payment.currency)
        try:
            request = shapes.body(shapes.CreateRefund, {"payment_id": ref, "amount": amount})
            made = rules.refund(payment, request, number=self.made_refunds.next_number, now=self._clock.now())
        except shapes.Refused as refused:
            raise providers.NotAllowed(refused.description) from None
        return self._start_refund(payment, made)

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Let the next refunds become succeeded, pending or canceled."""
        self._refund_plan.plan(outcome, count)

    def knows_refund(self, ref: str) -> bool:
        """Tell whether there is such a refund."""
        return self.made_refunds.get(ref) is not None

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """End a pending refund."""
        made = self._refund(ref)
        return self._decide(self._payment(made.payment_id), made, outcome)

    def shown_refund(self, ref: str) -> dict[str, Any]:
        """Show the refund as the API does."""
        return self._refund(ref).wire()

    def plan_receipts(self, outcome: str, count: int) -> None:
        """Let the next receipts be registered, refused by the tax office (canceled), or stay pending."""
        self._receipt_plan.plan(outcome, count)

    # --- what the shop asks for ----------------------------------------------------------------------

    def create_payment(self, request: shapes.CreatePayment) -> rules.Payment:
        """Start a pending payment."""
        payment = rules.create(
            request,
            number=self.made_payments.next_number,
            shop_id=self._configured.yookassa_shop_id,
            public_url=self._configured.base_url,
            now=self._clock.now(),
        )
        self.made_payments.add(payment)
        self._expire_later(payment, rules.PAY_WITHIN.total_seconds())
        return payment

    def capture(self, payment: rules.Payment, asked: shapes.CapturePayment) -> None:
        """Take held money."""
        self._notify_of(payment, rules.capture(payment, asked, self._clock.now()))

    def cancel(self, payment: rules.Payment) -> None:
        """Let go of held money."""
        self._notify_of(payment, rules.cancel_by_merchant(payment))

    def create_refund(self, payment: rules.Payment, request: shapes.CreateRefund) -> rules.Refund:
        """Return captured money; raises Refused where the receipt for it is missing."""
        rules.require_refund_receipt(payment, request)
        made = rules.refund(payment, request, number=self.made_refunds.next_number, now=self._clock.now())
        self._start_refund(payment, made)
        return made

    # --- behind both ---------------------------------------------------------------------------------

    def _payment(self, ref: str) -> rules.Payment:
        payment = self.made_payments.get(ref)
        if payment is None:
            raise providers.UnknownPayment(providers.UnknownPayment.__doc__)
        return payment

    def _refund(self, ref: str) -> rules.Refund:
        made = self.made_refunds.get(ref)
        if made is None:
            raise providers.UnknownPayment("There is no such refund")
        return made

    def _start_refund(self, payment: rules.Payment, made: rules.Refund) -> Sequence[webhooks.Delivery]:
        self.made_refunds.add(made)
        outcome = self._refund_plan.take()
        return [] if outcome == "pending" else self._decide(payment, made, outcome)

    def _decide(self, payment: rules.Payment, made: rules.Refund, outcome: str) -> Sequence[webhooks.Delivery]:
        event = rules.decide_refund(payment, made, outcome)
        if event is None:  # there is no event for a canceled refund
            return []
        self._register_receipt_later(made)
        return self._notify(event, payment.id, made.wire())

    def _expire_later(self, payment: rules.Payment, delay_s: float) -> None:
        status = payment.status

        def expire() -> None:
            if payment.status == status:
                self._notify_of(payment, rules.expire(payment))

        self._clock.after(delay_s, expire)

    def _register_receipt_later(self, receipted: rules.Payment | rules.Refund) -> None:
        if receipted.receipt_registration is None:
            return
        outcome = self._receipt_plan.take()

        def register() -> None:
            receipted.receipt_registration = outcome

        self._clock.after(rules.RECEIPT_AFTER.total_seconds(), register)

    def _notify_of(self, payment: rules.Payment, event: str) -> Sequence[webhooks.Delivery]:
        if event == "payment.succeeded":
            self._register_receipt_later(payment)
        return self._notify(event, payment.id, payment.wire())

    def _notify(self, event: str, about: str, snapshot: dict[str, Any]) -> Sequence[webhooks.Delivery]:
        # Exactly three members: no event id, no time, no attempt number, no signature.
        body = wire.encoded({"type": "notification", "event": event, "object": snapshot})
        return self._courier.post(
            webhooks.Webhook(url=self._configured.yookassa_webhook_url, body=body, is_acknowledged=_IS_OK, about=about)
        )


# Nothing but an exact 200 acknowledges.
_IS_OK: Callable[[int], bool] = (200).__eq__
