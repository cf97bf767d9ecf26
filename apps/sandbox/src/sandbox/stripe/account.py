"""One Stripe account: its objects, the actions on them and their events.

State changes contain no await, so two requests with one key cannot both be executed.
"""

from sandbox import bounded_store, clock, providers, settings, webhooks
from sandbox.stripe import events, lifecycle, objects, requests


class Account:
    """The objects of the account."""

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
    ) -> None:
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self.refund_plan = providers.PlannedOutcomes()
        self.events = events.Events(configured, virtual_clock, webhook_sender)
        self.sessions: bounded_store.BoundedStore[objects.Session] = bounded_store.BoundedStore()
        self.intents: bounded_store.BoundedStore[objects.Intent] = bounded_store.BoundedStore()
        self.charges: bounded_store.BoundedStore[objects.Charge] = bounded_store.BoundedStore()
        self.refunds: bounded_store.BoundedStore[objects.Refund] = bounded_store.BoundedStore()
        self.disputes: bounded_store.BoundedStore[objects.Dispute] = bounded_store.BoundedStore()
        self.balance: bounded_store.BoundedStore[objects.BalanceTransaction] = bounded_store.BoundedStore()

    def reset(self) -> None:
        """Remove all objects, events and plans."""
        stores = (self.sessions, self.intents, self.charges, self.refunds, self.disputes, self.balance)
        for part in (*stores, self.events, self.refund_plan):
            part.reset()

    # --- calls of the API ------------------------------------------------------------------------------

    def create_session(self, request: requests.CreateSession) -> objects.Session:
        """Create a Checkout Session; its intent is created at the first attempt to pay."""
        now_s, session_id = self._now_s(), objects.new_id("cs_test")
        expires_at = now_s + requests.EXPIRES_S_MAX if request.expires_at is None else request.expires_at
        # A tolerance of one minute for clocks that differ.
        if not now_s + requests.EXPIRES_S_MIN - 60 <= expires_at <= now_s + requests.EXPIRES_S_MAX + 60:
            raise requests.StripeError(
                "The `expires_at` timestamp must be 30 minutes to 24 hours away.", param="expires_at"
            )
        session = objects.Session(
            id=session_id,
            number=self.sessions.next_number,
            created=now_s,
            expires_at=expires_at,
            request=request,
            page_url=f"{self._base_url}/pay/{session_id}",
        )
        self.sessions.add(session)

        def expire() -> None:
            if session.status == "open":
                self.expire_session(session)

        self._clock.call_later(expires_at - now_s, expire)
        return session

    def expire_session(self, session: objects.Session) -> objects.Session:
        """Expire an open session; raises StripeError."""
        if session.status != "open":
            raise requests.StripeError(
                f"Only Checkout Sessions with a status of open can be expired, not {session.status}."
            )
        session.status = "expired"
        intent = self.intents.get(session.intent_id or "")
        if intent is not None:
            self._emit(lifecycle.cancel(intent, "automatic", self._now_s()))
        self.events.emit("checkout.session.expired", session.to_json(), session.id)
        return session

    def create_intent(self, request: requests.CreateIntent) -> objects.Intent:
        """Create a payment intent, and confirm it if requested; raises StripeError for a declined card."""
        intent = self._start(request.amount, request.currency, request, request.payment_method_types)
        intent.receipt_email, intent.payment_method = request.receipt_email, request.payment_method
        if request.payment_method is not None:
            intent.status = "requires_confirmation"
        if request.confirm:
            self.confirm(intent, None)
        return intent

    def update(self, intent: objects.Intent, request: requests.UpdateIntent) -> objects.Intent:
        """Update description and metadata, and the amount while it is unpaid; raises StripeError."""
        if request.amount is not None:
            lifecycle.change_amount(intent, request.amount)
        intent.description = request.description or intent.description
        # An empty value removes its key.
        intent.metadata = {name: value for name, value in (intent.metadata | request.metadata).items() if value}
        return intent

    def confirm(self, intent: objects.Intent, payment_method: str | None) -> objects.Intent:
        """Confirm with a payment method; raises StripeError for a declined card."""
        if lifecycle.choose_method(intent, payment_method, page_url=f"{self._base_url}/pay/{intent.id}"):
            self._emit([("payment_intent.requires_action", intent)])
            return intent
        charge = self.charge(intent, is_declined=intent.payment_method in lifecycle.DECLINED)
        if charge.status == "failed":
            error = lifecycle.decline_error(charge)
            raise requests.StripeError(
                error["message"],
                code=error["code"],
                status=402,
                type_="card_error",
                decline_code=error["decline_code"],
                charge=charge.id,
                payment_intent=intent.to_json(),
            )
        return intent

    def capture(self, intent: objects.Intent, amount: int | None) -> objects.Intent:
        """Capture held money."""
        charge = self.charge_of(intent)
        self._emit(lifecycle.capture(charge, amount), charge)
        self._sync_session(intent)
        return intent

    def cancel(self, intent: objects.Intent, reason: str | None) -> objects.Intent:
        """Cancel an intent."""
        self._emit(lifecycle.cancel(intent, reason, self._now_s()))
        return intent

    def create_refund(self, charge: objects.Charge, request: requests.CreateRefund) -> objects.Refund:
        """Refund captured money; raises StripeError."""
        amount = lifecycle.require_refundable(charge, request.amount)
        outcome = self.refund_plan.take()
        refund = objects.Refund(
            id=objects.new_id("re"),
            number=self.refunds.next_number,
            created=self._now_s(),
            amount=amount,
            charge=charge,
            metadata=dict(request.metadata),
            reason=request.reason,
            status="succeeded" if outcome == "succeeded" else "pending",
        )
        self.refunds.add(refund)
        refund.balance_id = self._add_balance_transaction(-amount, 0, refund, kind="refund").id
        self._emit(lifecycle.start_refund(refund))
        if outcome == "canceled":
            self.decide_refund(refund, outcome)
        return refund

    def decide_refund(self, refund: objects.Refund, outcome: str) -> None:
        """Decide a refund: succeeded, or canceled, which Stripe calls failed, later as well. Raises NotAllowed."""
        new_events = lifecycle.decide_refund(refund, is_failed=outcome == "canceled")
        if refund.status == "failed":
            self._add_balance_transaction(refund.amount, 0, refund, kind="refund_failure")
        self._emit(new_events)

    # --- actions of payer, bank and time ---------------------------------------------------------------

    def start_intent(self, session: objects.Session) -> objects.Intent:
        """Create the intent of a session, at the first attempt to pay."""
        data, types = session.request.payment_intent_data, session.request.payment_method_types
        intent = self._start(session.request.total, session.currency, data, types, session=session)
        intent.receipt_email = session.request.customer_email
        return intent

    def charge(self, intent: objects.Intent, *, is_declined: bool) -> objects.Charge:
        """Charge the payment method of an intent; raises StripeError if the intent cannot be paid."""
        charge = lifecycle.charge(intent, number=self.charges.next_number, now_s=self._now_s(), is_declined=is_declined)
        self.charges.add(charge)
        self._emit(lifecycle.apply_charge(charge), charge)
        self._sync_session(intent)
        if intent.status == "requires_capture":
            self._clock.call_later(lifecycle.HOLD_S, lambda: self.release(charge))
        return charge

    def settle_delayed(self, charge: objects.Charge, *, is_declined: bool) -> None:
        """Complete or decline the charge of a delayed payment method; raises StripeError."""
        self._emit(lifecycle.decide_delayed(charge, is_declined=is_declined), charge)
        self._sync_session(charge.intent)

    def release(self, charge: objects.Charge) -> None:
        """Release held money that was not captured in time."""
        if charge.intent.status == "requires_capture":
            canceled = lifecycle.cancel(charge.intent, "automatic", self._now_s())
            self._emit([("charge.expired", charge), *canceled])

    def charge_of(self, intent: objects.Intent) -> objects.Charge:
        """Return the latest charge of an intent; raises StripeError if it has none."""
        charge = self.charges.get(intent.charge_id or "")
        if charge is None:
            raise requests.StripeError("This PaymentIntent has no charge.", code="payment_intent_unexpected_state")
        return charge

    def open_dispute(self, charge: objects.Charge, amount: int | None) -> objects.Dispute:
        """Open a dispute: withdraw its amount and a fee that is not returned. Raises NotAllowed."""
        dispute = lifecycle.open_dispute(charge, amount, number=self.disputes.next_number, now_s=self._now_s())
        self.disputes.add(dispute)
        self._add_balance_transaction(-dispute.amount, lifecycle.DISPUTE_FEE, dispute, kind="dispute")
        self._emit([("charge.dispute.created", dispute), ("charge.dispute.funds_withdrawn", dispute)])
        return dispute

    def close_dispute(self, dispute: objects.Dispute, outcome: str) -> objects.Dispute:
        """Decide a dispute: won or lost. Raises NotAllowed."""
        new_events = lifecycle.close_dispute(dispute, outcome)
        if outcome == "won":
            self._add_balance_transaction(dispute.amount, 0, dispute, kind="dispute_reversal")
        self._emit(new_events)
        return dispute

    # --- shared ----------------------------------------------------------------------------------------

    def _start(
        self,
        amount: int,
        currency: str,
        data: requests.CreateIntent | requests.IntentData,
        types: list[str],
        *,
        session: objects.Session | None = None,
    ) -> objects.Intent:
        intent = objects.Intent(
            id=objects.new_id("pi"),
            number=self.intents.next_number,
            created=self._now_s(),
            amount=amount,
            currency=currency,
            capture_method=data.capture_method,
            payment_method_types=types,
            description=data.description,
            metadata=dict(data.metadata),
            session_id=session.id if session else None,
        )
        if session is not None:
            session.intent_id = intent.id
        self.intents.add(intent)
        self._emit([("payment_intent.created", intent)])
        return intent

    def _sync_session(self, intent: objects.Intent) -> None:
        """Update a session after its intent: complete when the payer has confirmed, paid when the money has arrived."""
        session = self.sessions.get(intent.session_id or "")
        if session is None:
            return
        was_open = session.status == "open"
        if intent.status == "succeeded":
            session.status, session.payment_status = "complete", "paid"
            kind = "completed" if was_open else "async_payment_succeeded"
            is_emitted = was_open or intent.payment_method_types[0] in requests.DELAYED
        elif intent.status in {"processing", "requires_capture"}:
            session.status, kind, is_emitted = "complete", "completed", was_open
        else:
            kind, is_emitted = "async_payment_failed", not was_open and intent.status == "requires_payment_method"
        if is_emitted:
            self.events.emit(f"checkout.session.{kind}", session.to_json(), session.id)

    def _emit(self, new_events: lifecycle.NewEvents, charge: objects.Charge | None = None) -> None:
        if charge is not None and charge.amount_captured and charge.balance_id is None:
            fee = lifecycle.fee(charge.amount_captured)
            charge.balance_id = self._add_balance_transaction(charge.amount_captured, fee, charge, kind="charge").id
        for kind, api_object in new_events:
            self.events.emit(kind, api_object.to_json(), _payment_ref_of(api_object))

    def _add_balance_transaction(
        self, amount: int, fee: int, source: objects.Charge | objects.Refund | objects.Dispute, *, kind: str
    ) -> objects.BalanceTransaction:
        is_dispute = isinstance(source, objects.Dispute)
        transaction = objects.BalanceTransaction(
            id=objects.new_id("txn"),
            number=self.balance.next_number,
            created=self._now_s(),
            amount=amount,
            fee=fee,
            currency=source.currency if isinstance(source, objects.Charge) else source.charge.currency,
            type="adjustment" if is_dispute else kind,
            reporting_category=kind,
            source=source.id,
        )
        self.balance.add(transaction)
        if isinstance(source, objects.Dispute):
            source.balance.append(transaction)
        return transaction

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def _payment_ref_of(api_object: object) -> str:
    match api_object:
        case objects.Intent():
            return api_object.session_id or api_object.id
        case objects.Charge():
            return _payment_ref_of(api_object.intent)
        case objects.Refund() | objects.Dispute():
            return _payment_ref_of(api_object.charge)
    raise AssertionError(f"no payment belongs to a {type(api_object).__name__}")
