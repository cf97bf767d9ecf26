"""The one place where what a provider told changes a payment with its refunds and disputes, in one transaction.

A fact that does not match what was requested becomes a finding and changes nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal, NamedTuple

import contracts.payments
import payments.captures.timers
import payments.disputes.timers
import payments.refunds.handlers
import payments.refunds.timers
from chassis import database, telemetry
from payments import store
from payments.domain import accounts, facts, lifecycle, refusals
from payments.timers import events

_Settled = tuple[lifecycle.Payment, lifecycle.Events, bool]
Result = Literal["mismatch", "changed", "unchanged"]


class Settled(NamedTuple):
    """What an observation did. `payment` is the payment after it."""

    account: accounts.Account
    payment: lifecycle.Payment
    result: Result


Also = Callable[[database.Tx, Settled], Awaitable[None]]
"""Does what belongs into the same transaction."""


async def apply_observation(
    db: database.Database,
    account: accounts.Account,
    observation: facts.Observation,
    *,
    accepted_at: datetime,
    first: Callable[[database.Tx], Awaitable[None]] | None = None,
    also: Also | None = None,
) -> lifecycle.Payment | None:
    """Settle a payment by an observation; `also` then closes what led to it, in the same transaction.

    What `first` does comes before, in the same transaction too; it may change the payment.

    Gives the payment after it; None when the observation is about no payment of ours.
    """
    async with db.transaction() as tx:
        if first is not None:
            await first(tx)
        change = await _begin(tx, account, observation)
        if change is None:
            return None
        before = change.payment
        if observation.fact is not None:
            await change.apply_fact(tx, observation.fact, accepted_at)
        # What a canceled refund had reserved may be what another one has returned.
        for refund in sorted(observation.refunds, key=lambda refund: refund.state != "canceled"):
            settle = partial(payments.refunds.timers.settle, account=account, fact=refund, seen_at=accepted_at)
            await change.apply(tx, settle, refund.refund_ref, refund.state)
        for dispute in observation.disputes:
            settle = partial(payments.disputes.timers.settle, account=account, fact=dispute)
            await change.apply(tx, settle, dispute.dispute_ref, dispute.state)
        if change.payment is not before:
            await store.payments.save(tx, change.payment)
            await payments.captures.timers.capture_unasked_hold(tx, change.payment, account)
        if also is not None:
            await also(tx, Settled(account, change.payment, change.result(before)))
        await events.put(tx, change.payment, change.events)
        if change.is_repeat and change.events:
            await _refund_repeat(tx, change, observation)
    if change.payment is not before:
        payment_id, state = str(change.payment.payment_id), change.payment.state
        telemetry.log.info("payments.apply_observation.done", payment_id=payment_id, state=state)
    return change.payment


@dataclass(slots=True)
class _Change:
    """What one observation changes: the payment as it becomes, and the events to publish.

    `is_changed` tells that a refund or a dispute has changed, `is_mismatch` that a fact did not match.
    """

    account: accounts.Account
    payment: lifecycle.Payment
    is_repeat: bool = False
    events: list[contracts.payments.PaymentEvent] = field(default_factory=list)
    is_mismatch: bool = False
    is_changed: bool = False

    async def apply_fact(self, tx: database.Tx, fact: facts.Fact, accepted_at: datetime) -> None:
        """Apply a fact to the payment."""
        if self.is_repeat:
            # The metadata of a repeated charge names the payment that it repeats.
            fact = replace(fact, payment_id=self.payment.payment_id)
        try:
            self.payment, published = lifecycle.apply(
                self.payment, fact, self.account, accepted_at=accepted_at, is_charge=_has_charges(self.account)
            )
        except refusals.FactMismatchError as mismatch:
            await self._keep(tx, mismatch, fact.provider_ref, fact.state)
        else:
            self.events += published
            if published and lifecycle.is_unnamed(self.payment, fact):
                details = {"provider_ref": fact.provider_ref, "state": fact.state}
                await store.findings.open_for(tx, self.payment, "metadata_missing", details, account=self.account)

    async def apply(
        self,
        tx: database.Tx,
        settle: Callable[[database.Tx, lifecycle.Payment], Awaitable[_Settled]],
        ref: str,
        state: str,
    ) -> None:
        """Take over what the settling of a refund or a dispute changes."""
        try:
            self.payment, published, is_changed = await settle(tx, self.payment)
        except refusals.FactMismatchError as mismatch:
            await self._keep(tx, mismatch, ref, state)
        else:
            self.events += published
            self.is_changed = self.is_changed or is_changed

    def result(self, before: lifecycle.Payment) -> Result:
        """Tell what the observation did; `before` is the payment before it."""
        if self.is_mismatch:
            return "mismatch"
        return "changed" if self.is_changed or self.payment is not before else "unchanged"

    async def _keep(self, tx: database.Tx, mismatch: refusals.FactMismatchError, ref: str, state: str) -> None:
        self.is_mismatch = True
        details = {**mismatch.details, "provider_ref": ref, "state": state}
        await store.findings.open_for(tx, self.payment, mismatch.kind, details, account=self.account, about=ref)


async def _begin(tx: database.Tx, account: accounts.Account, observation: facts.Observation) -> _Change | None:
    fact = observation.fact
    payment = await store.payments.lock_of(tx, account, observation.provider_ref, fact.payment_id if fact else None)
    if payment is None:
        return None
    if fact is None or not _has_charges(account) or not _is_repeat(payment, fact):
        return _Change(account, payment)
    # The invoice was paid once more: the charge is a payment of its own, and the same one however often it comes.
    repeat = lifecycle.charged_again(payment, account, fact)
    await store.payments.add(tx, repeat)
    locked = await store.payments.lock(tx, repeat.payment_id)
    assert locked is not None  # it was added, now or before
    return _Change(account, locked, is_repeat=True)


def _has_charges(account: accounts.Account) -> bool:
    """Tell whether facts have the ids of charges: so it is where a payment can't be fetched by its own id."""
    return not account.can(accounts.Capability.FETCH)


def _is_repeat(payment: lifecycle.Payment, fact: facts.Fact) -> bool:
    return fact.state == "paid" and payment.state in lifecycle.SETTLED and fact.provider_ref != payment.provider_ref


async def _refund_repeat(tx: database.Tx, change: _Change, observation: facts.Observation) -> None:
    """Refund what was paid once more by mistake, where the account does so; a renewal was meant."""
    assert observation.fact is not None  # only a charge repeats an invoice
    if not observation.fact.is_recurring and change.account.gives_back_repeats:
        await payments.refunds.handlers.refund_repeated_charge(tx, change.payment)
