"""The one place where what a provider told changes payments, refunds and disputes, and where that is said.

A fact that does not match what we asked for becomes a finding and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis import database, envelope, outbox, telemetry
from contracts import payments
from payments import clients
from payments.domain import dispute, facts, payment, refund
from payments.domain.conflict import Conflict
from payments.handlers.commands import give_back_repeat
from payments.store import attempts, findings, webhooks
from payments.store import payments as store
from payments.store import refunds as refund_store


@dataclass(frozen=True, slots=True)
class Truth:
    """Everything that was learned about one payment at one look."""

    provider_ref: str
    fact: facts.Fact | None = None
    refunds: Sequence[facts.RefundFact] = ()
    disputes: Sequence[facts.DisputeFact] = ()


async def apply_truth(
    db: database.Database,
    provider: clients.Provider,
    truth: Truth,
    *,
    accepted_at: datetime,
    hints: Sequence[webhooks.Webhook] = (),
    attempt: str | None = None,
) -> payment.Payment | None:
    """Let what was learned settle its payment and the hints that led to it; None when no payment of ours is meant.

    `attempt` is the key of the request whose answer this is.
    """
    async with db.transaction() as tx:
        change = await _begin(tx, provider, truth)
        if change is None:
            return None
        before = change.current
        if truth.fact is not None:
            await change.follow(tx, change.renamed(truth.fact), accepted_at)
        for told in truth.refunds:
            await change.follow_refund(tx, told, accepted_at)
        for disputed in truth.disputes:
            await change.follow_dispute(tx, disputed)
        if change.current is not before:
            await store.save(tx, change.current)
        await change.settle_hints(tx, hints, is_news=change.current is not before or change.is_news)
        if attempt is not None:
            await attempts.close(tx, attempt, "ok")
        await say(tx, change.current, change.events)
        if change.is_repeat_of is not None and change.events:
            await _meet_repeat(tx, change, truth)
    if change.current is not before:
        telemetry.log.info(
            "payments.apply_truth.done", payment_id=str(change.current.payment_id), state=change.current.state
        )
    return change.current


@dataclass(slots=True)
class _Change:
    """What one look changes: the payment as it becomes, what is said of it, and what is in the way."""

    provider: clients.Provider
    current: payment.Payment
    is_repeat_of: payment.Payment | None = None
    events: list[payments.PaymentEvent] = field(default_factory=list)
    has_conflict: bool = False
    is_news: bool = False

    @property
    def is_charge(self) -> bool:
        """Whether facts are named after charges: so where a provider can't be asked about a payment by its name."""
        return facts.Capability.FETCH not in self.provider.capabilities

    def renamed(self, fact: facts.Fact) -> facts.Fact:
        """Let a fact name the payment that repeats the one in its metadata."""
        return fact if self.is_repeat_of is None else replace(fact, payment_id=self.current.payment_id)

    async def follow(self, tx: database.Tx, fact: facts.Fact, accepted_at: datetime) -> None:
        """Let a fact move the payment."""
        try:
            self.current, events = payment.apply(
                self.current, fact, self.provider.account, accepted_at=accepted_at, is_charge=self.is_charge
            )
        except Conflict as conflict:
            await self._keep(tx, conflict, fact.provider_ref, fact.state)
        else:
            self.events += events

    async def follow_refund(self, tx: database.Tx, fact: facts.RefundFact, seen_at: datetime) -> None:
        """Let a fact settle a refund; one that we did not ask for was made in the cabinet."""
        try:
            known = self._meant(await refund_store.of_payment(tx, self.current.payment_id), fact)
            if known is None:
                if fact.state != "succeeded":
                    return
                self.current, known = refund.made_elsewhere(self.current, self.provider.account, fact)
                await self._find(tx, "refund_in_cabinet", {"amount_minor": fact.amount.amount_minor}, fact.refund_ref)
            self.current, after, events = refund.apply(self.current, known, fact, seen_at=seen_at)
        except Conflict as conflict:
            await self._keep(tx, conflict, fact.refund_ref, fact.state)
        else:
            if after is not known:
                await refund_store.save(tx, after)
                self.is_news = True
            self.events += events

    async def follow_dispute(self, tx: database.Tx, fact: facts.DisputeFact) -> None:
        """Let a fact open or decide a dispute."""
        known = await refund_store.dispute(tx, self.current, fact.dispute_ref)
        try:
            self.current, after, events = dispute.apply(self.current, known, fact)
        except Conflict as conflict:
            await self._keep(tx, conflict, fact.dispute_ref, fact.state)
        else:
            if after != known:
                await refund_store.save_dispute(tx, after)
                self.is_news = True
            self.events += events

    async def settle_hints(self, tx: database.Tx, hints: Sequence[webhooks.Webhook], *, is_news: bool) -> None:
        """Note what became of the hints; another body under a known key is never believed."""
        state: webhooks.State = "conflict" if self.has_conflict else "applied" if is_news else "ignored"
        variants = [hint for hint in hints if hint.is_variant]
        await webhooks.settle(tx, [hint for hint in hints if not hint.is_variant], state)
        await webhooks.settle(tx, variants, "conflict")
        for hint in variants:
            await self._find(tx, "webhook_variant", {"provider_ref": hint.provider_ref}, webhook_id=hint.webhook_id)

    def _meant(self, known: Sequence[refund.Refund], fact: facts.RefundFact) -> refund.Refund | None:
        for one in known:
            if one.refund_id == fact.refund_id or one.refund_ref == fact.refund_ref:
                return one
        if facts.Capability.PARTIAL_REFUND in self.provider.capabilities:
            return None
        # Only one whole refund can be made, so one under way is this one, though the provider keeps no name of ours.
        return next((one for one in known if one.state in refund.OPEN), None)

    async def _keep(self, tx: database.Tx, conflict: Conflict, ref: str, state: str) -> None:
        self.has_conflict = True
        await self._find(tx, conflict.kind, {**conflict.details, "provider_ref": ref, "state": state}, ref)

    async def _find(
        self,
        tx: database.Tx,
        kind: str,
        details: dict[str, object],
        about: str | None = None,
        webhook_id: int | None = None,
    ) -> None:
        await findings.open_finding(
            tx,
            tenant=self.current.tenant,
            kind=kind,
            details=details,
            payment_id=self.current.payment_id,
            webhook_id=webhook_id,
            about=about,
            provider=self.provider.account.provider,
            account=self.provider.account.name,
        )


async def say(tx: database.Tx, about: payment.Payment, events: Sequence[payments.PaymentEvent]) -> None:
    """Say events as part of the payment's own journey, which began long before the work at hand."""
    here = envelope.current_cause()
    cause = envelope.Cause(about.correlation_id, here.causation_id, here.traceparent or about.traceparent)
    await outbox.put(tx, events, causes=[cause] * len(events))


async def _begin(tx: database.Tx, provider: clients.Provider, truth: Truth) -> _Change | None:
    fact = truth.fact
    found = await store.lock_of(tx, provider.account, truth.provider_ref, fact.payment_id if fact else None)
    if found is None:
        return None
    change = _Change(provider, found)
    if fact is not None and change.is_charge and _repeats(found, fact):
        # The invoice was paid once more: this charge is a payment of its own, the same however often it is told.
        repeat = payment.charged_again(found, provider.account, fact)
        await store.add(tx, repeat)
        locked = await store.lock(tx, repeat.payment_id)
        assert locked is not None  # it was added, now or before
        change.is_repeat_of, change.current = found, locked
    return change


def _repeats(found: payment.Payment, fact: facts.Fact) -> bool:
    return fact.state == "paid" and found.state in payment.SETTLED and fact.provider_ref != found.provider_ref


async def _meet_repeat(tx: database.Tx, change: _Change, truth: Truth) -> None:
    """Give back what was paid once more by mistake, where the account does so; a renewal was meant."""
    assert truth.fact is not None  # only a charge repeats an invoice
    if not truth.fact.is_recurring and change.provider.account.gives_back_repeats:
        await give_back_repeat(tx, change.current)
