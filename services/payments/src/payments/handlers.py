"""The message door of payments, and the one place where a fetched fact changes a payment.

No provider is called here: what needs a call is stored and left to the timers.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial, update_wrapper

from chassis import broker, database, envelope, inbox, ladder, outbox, telemetry
from contracts import payments
from payments import domain, store


async def create_payment(
    db: database.Database,
    delivery: inbox.Delivery,
    command: payments.CreatePayment,
    *,
    wake: Callable[[], None] = lambda: None,
) -> None:
    """Note a payment that is to be created at its provider, and wake who does it."""
    wrapper = delivery.envelope
    payment = domain.requested(command, correlation_id=wrapper.correlation_id, traceparent=wrapper.traceparent)
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        if not await store.add_payment(tx, payment):
            known = await store.lock_payment(tx, payment.payment_id)
            if known is None or not payment.is_same_request(known):
                raise ladder.Hopeless("another payment has this id")
        database.on_commit(tx, wake)


def queues(wake: Callable[[], None] = lambda: None) -> tuple[broker.Queue, ...]:
    """Give the queues of this service; `wake` is called when a payment waits for its creation."""
    handler = update_wrapper(partial(create_payment, wake=wake), create_payment)
    return (broker.Queue("payments.commands", {payments.CreatePayment: handler}),)


async def apply_provider_fact(
    db: database.Database,
    account: domain.Account,
    fact: domain.Fact,
    *,
    accepted_at: datetime,
    webhooks: Sequence[store.Webhook] = (),
    is_creation: bool = False,
) -> bool:
    """Let a fetched fact settle its payment and the hints that led to it; False when no payment of ours is meant.

    A fact that does not match what we asked for becomes a finding and changes nothing.
    """
    async with db.transaction() as tx:
        payment = await store.lock_payment_of(tx, account, fact)
        if payment is None:
            return False
        try:
            moved, events = domain.apply(payment, fact, account, accepted_at=accepted_at)
        except domain.Conflict as conflict:
            await _keep_conflict(tx, payment, fact, conflict)
            await store.settle_webhooks(tx, webhooks, "conflict")
            moved, events = payment, ()
            if is_creation:
                await store.rest_payment(tx, payment, None)
        else:
            if moved is not payment:
                await store.save_payment(tx, moved)
            await _settle(tx, webhooks, payment, "ignored" if moved is payment else "applied")
        if is_creation:
            await store.close_creation(tx, payment.payment_id, "ok")
        await _say(tx, payment, events)
    if moved is not payment:
        telemetry.log.info("payments.apply_provider_fact.done", payment_id=str(payment.payment_id), state=moved.state)
    return True


async def fail_payment(db: database.Database, creation: store.Creation, code: str, outcome: store.Outcome) -> None:
    """Give up a payment that the provider will not create, and say so."""
    async with db.transaction() as tx:
        payment = await store.lock_payment(tx, creation.payment.payment_id)
        assert payment is not None  # payments are never deleted
        failed, events = domain.fail(payment, code)
        if failed is not payment:
            await store.save_payment(tx, failed)
        await store.close_creation(tx, payment.payment_id, outcome)
        if creation.is_uncertain:
            # An earlier try may have been carried out all the same: should money come, it will be credited.
            await _find(tx, payment, "failed_after_unknown", {"code": code})
        await _say(tx, payment, events)
    telemetry.log.info("payments.fail_payment.done", payment_id=str(payment.payment_id), code=code)


async def postpone_creation(
    db: database.Database, creation: store.Creation, outcome: store.Outcome, rest_s: float
) -> None:
    """Try again later, with the same idempotence key."""
    async with db.transaction() as tx:
        await store.close_creation(tx, creation.payment.payment_id, outcome)
        await store.rest_payment(tx, creation.payment, rest_s)


async def stop_looking(db: database.Database, payment: domain.Payment, kind: str) -> None:
    """Leave a payment to a person: it is not looked at again, unless its provider tells us to."""
    async with db.transaction() as tx:
        await store.rest_payment(tx, payment, None)
        await _find(tx, payment, kind, {"state": payment.state})


async def postpone_webhooks(db: database.Database, webhooks: Sequence[store.Webhook]) -> None:
    """Let hints wait whose payment could not be fetched; those that waited for days become findings."""
    async with db.transaction() as tx:
        stale = [webhook for webhook in webhooks if webhook.age > domain.HINT_LIFETIME]
        await _orphan(tx, stale, "webhook_never_fetched")
        if fresh := [webhook for webhook in webhooks if webhook not in stale]:
            rest_s = domain.fetch_rest_s(max(webhook.attempts for webhook in fresh))
            await store.park_webhooks(tx, fresh, rest_s=rest_s, is_miss=False)


async def park_unknown(db: database.Database, webhooks: Sequence[store.Webhook]) -> None:
    """Let hints wait that belong to no payment of ours; after some looks they become findings."""
    async with db.transaction() as tx:
        for webhook in webhooks:
            rest_s = domain.unknown_ref_rest_s(webhook.misses + 1)
            if rest_s is None:
                await _orphan(tx, [webhook], "orphan_webhook")
            else:
                await store.park_webhooks(tx, [webhook], rest_s=rest_s, is_miss=True)


async def _settle(
    tx: database.Tx, webhooks: Sequence[store.Webhook], payment: domain.Payment, state: store.WebhookState
) -> None:
    variants = [webhook for webhook in webhooks if webhook.is_variant]
    await store.settle_webhooks(tx, [webhook for webhook in webhooks if not webhook.is_variant], state)
    await store.settle_webhooks(tx, variants, "conflict")
    for webhook in variants:
        await store.open_finding(
            tx,
            tenant=payment.tenant,
            kind="webhook_variant",
            details={"provider_ref": webhook.provider_ref},
            payment_id=payment.payment_id,
            webhook_id=webhook.webhook_id,
        )


async def _orphan(tx: database.Tx, webhooks: Sequence[store.Webhook], kind: str) -> None:
    await store.settle_webhooks(tx, webhooks, "orphan")
    for webhook in webhooks:
        await store.open_finding(
            tx,
            tenant=webhook.tenant,
            kind=kind,
            details={"provider_ref": webhook.provider_ref},
            webhook_id=webhook.webhook_id,
        )
        telemetry.log.warning("payments.finding", kind=kind, webhook_id=webhook.webhook_id)


async def _keep_conflict(
    tx: database.Tx, payment: domain.Payment, fact: domain.Fact, conflict: domain.Conflict
) -> None:
    details = {**conflict.details, "provider_ref": fact.provider_ref, "state": fact.state}
    await _find(tx, payment, conflict.kind, details)


async def _find(tx: database.Tx, payment: domain.Payment, kind: str, details: dict[str, object]) -> None:
    if await store.open_finding(tx, tenant=payment.tenant, kind=kind, details=details, payment_id=payment.payment_id):
        telemetry.log.warning("payments.finding", kind=kind, payment_id=str(payment.payment_id))


async def _say(tx: database.Tx, payment: domain.Payment, events: Sequence[payments.PaymentEvent]) -> None:
    """Say events as part of the payment's own journey, which began long before the work at hand."""
    here = envelope.current_cause()
    cause = envelope.Cause(payment.correlation_id, here.causation_id, here.traceparent or payment.traceparent)
    await outbox.put(tx, events, causes=[cause] * len(events))
