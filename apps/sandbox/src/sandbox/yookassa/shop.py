"""One shop at YooKassa: its payments and refunds, the actions on them and their notifications.

State changes contain no await, so two requests with one key cannot both be executed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sandbox import bounded_store, clock, errors, json_response, providers, settings, webhooks
from sandbox.yookassa import lifecycle, requests


class Shop(providers.Payments, providers.Refunds):
    """The objects of the shop and the actions on them."""

    name = "yookassa"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
    ) -> None:
        self._configured = configured
        self._clock = virtual_clock
        self._webhook_sender = webhook_sender
        self._refund_plan = providers.PlannedOutcomes()
        self._receipt_plan = providers.PlannedOutcomes()
        self.payments: bounded_store.BoundedStore[lifecycle.Payment] = bounded_store.BoundedStore()
        self.refunds: bounded_store.BoundedStore[lifecycle.Refund] = bounded_store.BoundedStore()

    def reset(self) -> None:
        """Remove payments, refunds and plans."""
        for part in (self._refund_plan, self._receipt_plan, self.payments, self.refunds):
            part.reset()

    # --- providers.Payments ---------------------------------------------------------------------------

    def has_payment(self, ref: str) -> bool:
        """Tell whether there is such a payment."""
        return self.payments.get(ref) is not None

    def payment_page(self, ref: str) -> providers.PaymentPage:
        """Return the content of the payment page."""
        payment = self._payment(ref)
        confirmation = payment.request.confirmation
        amount = lifecycle.money(payment.amount_minor, payment.currency)
        return providers.PaymentPage(
            ref=ref,
            amount=f"{amount['value']} {amount['currency']}",
            description=payment.request.description or "",
            state={"pending": "open", "canceled": "canceled"}.get(payment.status, "paid"),
            return_url=confirmation.return_url if confirmation else None,
        )

    def payment_json(self, ref: str) -> dict[str, Any]:
        """Return the payment as the API does."""
        return self._payment(ref).to_json()

    def latest_payments(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest payments as the API does."""
        newest = zip(range(limit), self.payments.newest_first(), strict=False)
        return [payment.to_json() for _, payment in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - the payer is anonymous
        """Pay as the payer; without `capture` the money is only held."""
        payment = self._payment(ref)
        event = lifecycle.pay(payment, self._clock.now())
        if payment.status == "waiting_for_capture":
            self._expire_later(payment, lifecycle.CAPTURE_WITHIN.total_seconds())
        return self._notify_of(payment, event)

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Decline the payment as the payer's bank."""
        payment = self._payment(ref)
        return self._notify_of(payment, lifecycle.decline(payment))

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay, or to capture, run out."""
        payment = self._payment(ref)
        return self._notify_of(payment, lifecycle.expire(payment))

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund in the dashboard, which requires no receipt; None means all that is left."""
        payment = self._payment(ref)
        amount = lifecycle.money(payment.refundable_minor if amount_minor is None else amount_minor, payment.currency)
        try:
            request = requests.parse(requests.CreateRefund, {"payment_id": ref, "amount": amount})
            refund = lifecycle.refund(payment, request, number=self.refunds.next_number, now=self._clock.now())
        except requests.YooKassaError as error:
            raise errors.NotAllowed(error.description) from None
        return self._start_refund(payment, refund)

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Set the outcome of the next refunds."""
        self._refund_plan.plan(outcome, count)

    def has_refund(self, ref: str) -> bool:
        """Tell whether there is such a refund."""
        return self.refunds.get(ref) is not None

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """Decide a pending refund."""
        refund = self._refund(ref)
        return self._decide(self._payment(refund.payment_id), refund, outcome)

    def refund_json(self, ref: str) -> dict[str, Any]:
        """Return the refund as the API does."""
        return self._refund(ref).to_json()

    def plan_receipts(self, outcome: str, count: int) -> None:
        """Set the outcome of the next receipts; canceled means refused by the tax office."""
        self._receipt_plan.plan(outcome, count)

    # --- calls of the API ------------------------------------------------------------------------------

    def create_payment(self, request: requests.CreatePayment) -> lifecycle.Payment:
        """Create a pending payment."""
        payment = lifecycle.create(
            request,
            number=self.payments.next_number,
            shop_id=self._configured.yookassa_shop_id,
            public_url=self._configured.base_url,
            now=self._clock.now(),
        )
        self.payments.add(payment)
        self._expire_later(payment, lifecycle.PAY_WITHIN.total_seconds())
        return payment

    def capture(self, payment: lifecycle.Payment, request: requests.CapturePayment) -> None:
        """Capture held money."""
        self._notify_of(payment, lifecycle.capture(payment, request, self._clock.now()))

    def cancel(self, payment: lifecycle.Payment) -> None:
        """Release held money."""
        self._notify_of(payment, lifecycle.cancel_by_merchant(payment))

    def create_refund(self, payment: lifecycle.Payment, request: requests.CreateRefund) -> lifecycle.Refund:
        """Refund captured money; raises YooKassaError when a required receipt is missing."""
        lifecycle.require_refund_receipt(payment, request)
        refund = lifecycle.refund(payment, request, number=self.refunds.next_number, now=self._clock.now())
        self._start_refund(payment, refund)
        return refund

    # --- shared ----------------------------------------------------------------------------------------

    def _payment(self, ref: str) -> lifecycle.Payment:
        payment = self.payments.get(ref)
        if payment is None:
            raise errors.UnknownPayment(errors.UnknownPayment.__doc__)
        return payment

    def _refund(self, ref: str) -> lifecycle.Refund:
        refund = self.refunds.get(ref)
        if refund is None:
            raise errors.UnknownPayment("There is no such refund")
        return refund

    def _start_refund(self, payment: lifecycle.Payment, refund: lifecycle.Refund) -> Sequence[webhooks.Delivery]:
        self.refunds.add(refund)
        outcome = self._refund_plan.take()
        return [] if outcome == "pending" else self._decide(payment, refund, outcome)

    def _decide(
        self, payment: lifecycle.Payment, refund: lifecycle.Refund, outcome: str
    ) -> Sequence[webhooks.Delivery]:
        event = lifecycle.decide_refund(payment, refund, outcome)
        if event is None:  # there is no notification of a canceled refund
            return []
        self._register_receipt_later(refund)
        return self._notify(event, payment.id, refund.to_json())

    def _expire_later(self, payment: lifecycle.Payment, delay_s: float) -> None:
        status = payment.status

        def expire() -> None:
            if payment.status == status:
                self._notify_of(payment, lifecycle.expire(payment))

        self._clock.call_later(delay_s, expire)

    def _register_receipt_later(self, subject: lifecycle.Payment | lifecycle.Refund) -> None:
        if subject.receipt_registration is None:
            return
        outcome = self._receipt_plan.take()

        def register() -> None:
            subject.receipt_registration = outcome

        self._clock.call_later(lifecycle.RECEIPT_AFTER.total_seconds(), register)

    def _notify_of(self, payment: lifecycle.Payment, event: str) -> Sequence[webhooks.Delivery]:
        if event == "payment.succeeded":
            self._register_receipt_later(payment)
        return self._notify(event, payment.id, payment.to_json())

    def _notify(self, event: str, payment_ref: str, snapshot: dict[str, Any]) -> Sequence[webhooks.Delivery]:
        # A notification has exactly three members: no event id, time, attempt number or signature.
        body = json_response.encode({"type": "notification", "event": event, "object": snapshot})
        return self._webhook_sender.send(
            webhooks.Webhook(
                url=self._configured.yookassa_webhook_url, body=body, is_acknowledged=_IS_OK, payment_ref=payment_ref
            )
        )


# YooKassa repeats a notification until the response has status 200.
_IS_OK: Callable[[int], bool] = (200).__eq__
