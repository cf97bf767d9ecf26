"""Polls providers for payments that have something open, without waiting for a webhook."""

from collections.abc import Sequence
from functools import partial

from chassis import database, envelope, failpoints, telemetry, worker_pool
from payments import clients, store, webhooks
from payments.domain import accounts, lifecycle
from payments.timers import events, faults, lookup, settlement


def pool(
    db: database.Database, providers: clients.Providers
) -> worker_pool.WorkerPool[webhooks.store.due_payments.DuePayment]:
    """Give the worker pool that polls payments."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[webhooks.store.due_payments.DuePayment]:
        async with db.statement() as tx:
            return await webhooks.store.due_payments.lease_due(tx, limit=limit, busy=busy)

    return worker_pool.WorkerPool(lease, partial(poll, db, providers), key=lambda due: due.payment.provider)


async def poll(
    db: database.Database, providers: clients.Providers, due: webhooks.store.due_payments.DuePayment
) -> None:
    """Look up one payment; what stays open for a week past its time is left to a person."""
    payment = due.payment
    assert payment.account is not None  # only what an account has answered is polled
    assert payment.provider_ref is not None
    provider = providers.named(payment.provider, payment.account)
    if kind := _is_over(due):
        await _stop(db, payment, kind)
    elif provider is None:
        payment_id, account = str(payment.payment_id), payment.account
        telemetry.log.warning("payments.account_unknown", payment_id=payment_id, account=account)
    elif provider.account.can(accounts.Capability.FETCH):
        await _look_up(db, provider, due)
    elif payment.state not in lifecycle.OPEN and not payment.reserved_minor:
        await _stop(db, payment)
    elif (
        payment.state in lifecycle.OPEN
        and payment.expires_at
        and due.leased_at > payment.expires_at + webhooks.domain.schedule.EXPIRY_GRACE
    ):
        await _expire(db, payment)


async def _look_up(
    db: database.Database, provider: clients.Provider, due: webhooks.store.due_payments.DuePayment
) -> None:
    payment = due.payment
    try:
        observation = await lookup.fetch(
            provider,
            str(payment.provider_ref),
            is_refund_expected=payment.state not in lifecycle.OPEN,
            is_dispute_expected=payment.disputed_minor > 0,
        )
    except clients.ProviderError as error:
        telemetry.log.warning("payments.fetch_failed", payment_id=str(payment.payment_id), error=repr(error))
        await faults.report(db, provider.account, error, op="fetch", payment=payment, is_lasting=due.polls > 1)
        return
    failpoints.passed("payments.after_fetch")
    with envelope.caused_by(envelope.Cause(payment.correlation_id, None, payment.traceparent)):
        settled = await settlement.apply_observation(db, provider.account, observation, accepted_at=due.leased_at)
    if settled is not None and settled.state not in lifecycle.OPEN and not settled.reserved_minor:
        await _stop(db, settled)


def _is_over(due: webhooks.store.due_payments.DuePayment) -> str | None:
    payment = due.payment
    if payment.state not in lifecycle.OPEN:
        return "refund_never_settled" if due.polls > webhooks.domain.schedule.REFUND_POLLS_MAX else None
    assert payment.expires_at is not None  # what its provider knows has an end
    ends_at = max(payment.expires_at, payment.capture_before or payment.expires_at)
    return "never_settled" if due.leased_at > ends_at + webhooks.domain.schedule.POLLED_FOR else None


async def _stop(db: database.Database, payment: lifecycle.Payment, finding: str | None = None) -> None:
    """Stop polling a payment, unless its state has changed; with a finding it is left to a person."""
    async with db.transaction() as tx:
        await webhooks.store.due_payments.pause(tx, payment, None)
        if finding:
            await store.findings.open_for(tx, payment, finding, {"state": payment.state})


async def _expire(db: database.Database, payment: lifecycle.Payment) -> None:
    """Cancel a payment whose time is over at a provider that keeps no state of it."""
    async with db.transaction() as tx:
        locked = await store.payments.lock(tx, payment.payment_id)
        assert locked is not None  # payments are never deleted
        canceled, published = lifecycle.cancel(locked, "expired", "expired")
        if canceled is not locked:
            await store.payments.save(tx, canceled)
            await events.put(tx, canceled, published)
