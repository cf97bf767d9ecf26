"""One account at the imitated Stripe: its objects, how they follow each other, and the events of it all.

All state changes happen without an await in between, so two requests with one key can never both execute.
"""

from sandbox import clock, providers, settings, shelf, webhooks
from sandbox.stripe import events, objects, rules, shapes


class Account:
    """The account's books."""

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self.refund_plan = providers.OutcomePlan()
        self.events = events.Events(configured, virtual_clock, courier)
        self.sessions: shelf.Shelf[objects.Session] = shelf.Shelf()
        self.intents: shelf.Shelf[objects.Intent] = shelf.Shelf()
        self.charges: shelf.Shelf[objects.Charge] = shelf.Shelf()
        self.refunds: shelf.Shelf[objects.Refund] = shelf.Shelf()
        self.disputes: shelf.Shelf[objects.Dispute] = shelf.Shelf()
        self.balance: shelf.Shelf[objects.BalanceTransaction] = shelf.Shelf()

    def forget(self) -> None:
        """Forget all objects, events and plans."""
        shelves = (self.sessions, self.intents, self.charges, self.refunds, self.disputes, self.balance)
        for part in (*shelves, self.events, self.refund_plan):
            part.forget()

    # --- what the shop asks for ----------------------------------------------------------------------

    def create_session(self, asked: shapes.CreateSession) -> objects.Session:
        """Open a Checkout Session; its intent begins with the first attempt to pay."""
        now_s, session_id = self._now_s(), objects.new_id("cs_test")
        expires_at = now_s + shapes.EXPIRES_S_MAX if asked.expires_at is None else asked.expires_at
        # A minute of grace, for clocks that differ.
        if not now_s + shapes.EXPIRES_S_MIN - 60 <= expires_at <= now_s + shapes.EXPIRES_S_MAX + 60:
            raise shapes.Refused("The `expires_at` timestamp must be 30 minutes to 24 hours away.", param="expires_at")
        session = objects.Session(
            id=session_id,
            number=self.sessions.next_number,
            created=now_s,
            expires_at=expires_at,
            asked=asked,
            page_url=f"{self._base_url}/pay/{session_id}",
        )
        self.sessions.add(session)

        def expire() -> None:
            if session.status == "open":
                self.expire_session(session)

        self._clock.after(expires_at - now_s, expire)
        return session

    def expire_session(self, session: objects.Session) -> objects.Session:
        """Close an open session unpaid; raises Refused."""
        if session.status != "open":
            raise shapes.Refused(f"Only Checkout Sessions with a status of open can be expired, not {session.status}.")
        session.status = "expired"
        intent = self.intents.get(session.intent_id or "")
        if intent is not None:
            self._tell(rules.cancel(intent, "automatic", self._now_s()))
        self.events.tell("checkout.session.expired", session.wire(), session.id)
        return session

    def create_intent(self, asked: shapes.CreateIntent) -> objects.Intent:
        """Start a payment intent, and confirm it where asked to; raises Refused for a declined card."""
        intent = self._start(asked.amount, asked.currency, asked, asked.payment_method_types)
        intent.receipt_email, intent.payment_method = asked.receipt_email, asked.payment_method
        if asked.payment_method is not None:
            intent.status = "requires_confirmation"
        if asked.confirm:
            self.confirm(intent, None)
        return intent

    def update(self, intent: objects.Intent, asked: shapes.UpdateIntent) -> objects.Intent:
        """Change what an intent says, and its amount while nobody has paid; raises Refused."""
        if asked.amount is not None:
            rules.change_amount(intent, asked.amount)
        intent.description = asked.description or intent.description
        # An empty value takes its key away.
        intent.metadata = {name: value for name, value in (intent.metadata | asked.metadata).items() if value}
        return intent

    def confirm(self, intent: objects.Intent, payment_method: str | None) -> objects.Intent:
        """Try to pay with a payment method; raises Refused for a declined card."""
        if rules.choose_method(intent, payment_method, page_url=f"{self._base_url}/pay/{intent.id}"):
            self._tell([("payment_intent.requires_action", intent)])
            return intent
        charge = self.charge(intent, is_declined=intent.payment_method in rules.DECLINED)
        if charge.status == "failed":
            error = rules.decline_error(charge)
            raise shapes.Refused(
                error["message"],
                code=error["code"],
                status=402,
                type_="card_error",
                decline_code=error["decline_code"],
                charge=charge.id,
                payment_intent=intent.wire(),
            )
        return intent

    def capture(self, intent: objects.Intent, amount: int | None) -> objects.Intent:
        """Take held money."""
        charge = self.charge_of(intent)
        self._tell(rules.capture(charge, amount), charge)
        self._follow(intent)
        return intent

    def cancel(self, intent: objects.Intent, reason: str | None) -> objects.Intent:
        """Give an intent up."""
        self._tell(rules.cancel(intent, reason, self._now_s()))
        return intent

    def create_refund(self, charge: objects.Charge, asked: shapes.CreateRefund) -> objects.Refund:
        """Return captured money; raises Refused."""
        amount = rules.require_refundable(charge, asked.amount)
        outcome = self.refund_plan.take()
        made = objects.Refund(
            id=objects.new_id("re"),
            number=self.refunds.next_number,
            created=self._now_s(),
            amount=amount,
            charge=charge,
            metadata=dict(asked.metadata),
            reason=asked.reason,
            status="succeeded" if outcome == "succeeded" else "pending",
        )
        self.refunds.add(made)
        made.balance_id = self._book(-amount, 0, made, kind="refund").id
        self._tell(rules.start_refund(made))
        if outcome == "canceled":
            self.decide_refund(made, outcome)
        return made

    def decide_refund(self, made: objects.Refund, outcome: str) -> None:
        """End a pending refund as succeeded, or canceled, which here is called failed; raises NotAllowed."""
        happened = rules.decide_refund(made, is_failed=outcome == "canceled")
        if made.status == "failed":
            self._book(made.amount, 0, made, kind="refund_failure")
        self._tell(happened)

    # --- what payer, bank and time do ----------------------------------------------------------------

    def begin(self, session: objects.Session) -> objects.Intent:
        """Make the intent of a session, for the first attempt to pay."""
        data, types = session.asked.payment_intent_data, session.asked.payment_method_types
        intent = self._start(session.asked.total, session.currency, data, types, session=session)
        intent.receipt_email = session.asked.customer_email
        return intent

    def charge(self, intent: objects.Intent, *, is_declined: bool) -> objects.Charge:
        """Charge an intent's payment method; raises Refused where the intent cannot be paid."""
        charge = rules.charge(intent, number=self.charges.next_number, now_s=self._now_s(), is_declined=is_declined)
        self.charges.add(charge)
        self._tell(rules.settle(charge), charge)
        self._follow(intent)
        if intent.status == "requires_capture":
            self._clock.after(rules.HOLD_S, lambda: self.release(charge))
        return charge

    def settle(self, charge: objects.Charge, *, is_declined: bool) -> None:
        """Let the money of a delayed method arrive, or not; raises Refused."""
        self._tell(rules.decide_delayed(charge, is_declined=is_declined), charge)
        self._follow(charge.intent)

    def release(self, charge: objects.Charge) -> None:
        """Let go of held money that nobody captured in time."""
        if charge.intent.status == "requires_capture":
            canceled = rules.cancel(charge.intent, "automatic", self._now_s())
            self._tell([("charge.expired", charge), *canceled])

    def charge_of(self, intent: objects.Intent) -> objects.Charge:
        """Find an intent's latest charge; raises Refused where it has none."""
        charge = self.charges.get(intent.charge_id or "")
        if charge is None:
            raise shapes.Refused("This PaymentIntent has no charge.", code="payment_intent_unexpected_state")
        return charge

    def open_dispute(self, charge: objects.Charge, amount: int | None) -> objects.Dispute:
        """Withdraw money for the payer's bank, with a fee that never comes back; raises NotAllowed."""
        made = rules.open_dispute(charge, amount, number=self.disputes.next_number, now_s=self._now_s())
        self.disputes.add(made)
        self._book(-made.amount, rules.DISPUTE_FEE, made, kind="dispute")
        self._tell([("charge.dispute.created", made), ("charge.dispute.funds_withdrawn", made)])
        return made

    def close_dispute(self, made: objects.Dispute, outcome: str) -> objects.Dispute:
        """Decide a dispute; a shop that gives it up loses it. Raises NotAllowed."""
        happened = rules.close_dispute(made, outcome)
        if outcome == "won":
            self._book(made.amount, 0, made, kind="dispute_reversal")
        self._tell(happened)
        return made

    # --- behind both ---------------------------------------------------------------------------------

    def _start(
        self,
        amount: int,
        currency: str,
        asked: shapes.CreateIntent | shapes.IntentData,
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
            capture_method=asked.capture_method,
            payment_method_types=types,
            description=asked.description,
            metadata=dict(asked.metadata),
            session_id=session.id if session else None,
        )
        if session is not None:
            session.intent_id = intent.id
        self.intents.add(intent)
        self._tell([("payment_intent.created", intent)])
        return intent

    def _follow(self, intent: objects.Intent) -> None:
        """Let a session follow its intent: complete when the payer has agreed, paid when the money is there."""
        session = self.sessions.get(intent.session_id or "")
        if session is None:
            return
        was_open = session.status == "open"
        if intent.status == "succeeded":
            session.status, session.payment_status = "complete", "paid"
            kind = "completed" if was_open else "async_payment_succeeded"
            is_told = was_open or intent.payment_method_types[0] in shapes.DELAYED
        elif intent.status in {"processing", "requires_capture"}:
            session.status, kind, is_told = "complete", "completed", was_open
        else:
            kind, is_told = "async_payment_failed", not was_open and intent.status == "requires_payment_method"
        if is_told:
            self.events.tell(f"checkout.session.{kind}", session.wire(), session.id)

    def _tell(self, happened: rules.Events, charge: objects.Charge | None = None) -> None:
        if charge is not None and charge.amount_captured and charge.balance_id is None:
            fee = rules.fee(charge.amount_captured)
            charge.balance_id = self._book(charge.amount_captured, fee, charge, kind="charge").id
        for kind, shown in happened:
            self.events.tell(kind, shown.wire(), _about(shown))

    def _book(
        self, amount: int, fee: int, source: objects.Charge | objects.Refund | objects.Dispute, *, kind: str
    ) -> objects.BalanceTransaction:
        is_dispute = isinstance(source, objects.Dispute)
        made = objects.BalanceTransaction(
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
        self.balance.add(made)
        if isinstance(source, objects.Dispute):
            source.balance.append(made)
        return made

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def _about(shown: object) -> str:
    match shown:
        case objects.Intent():
            return shown.session_id or shown.id
        case objects.Charge():
            return _about(shown.intent)
        case objects.Refund() | objects.Dispute():
            return _about(shown.charge)
    raise AssertionError(f"no payment belongs to a {type(shown).__name__}")
