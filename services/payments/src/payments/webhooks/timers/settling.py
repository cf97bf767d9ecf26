"""Settles stored webhooks: fetches the payment that a webhook names, or takes the fact that a verified one carries."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby

from prometheus_client import Counter

from chassis import database, envelope, failpoints, telemetry, worker_pool
from payments import clients, store, webhooks
from payments.domain import accounts, facts, schedule
from payments.timers import faults, lookup, settlement
from payments.webhooks.store.webhooks import Webhook

FOREIGN = Counter(
    "kopilka_webhooks_foreign_total",
    "Webhooks about payments that other programs made with the same account.",
    ["provider", "account"],
)

_STATES: Mapping[settlement.Result, webhooks.store.webhooks.State] = {
    "mismatch": "conflict",
    "changed": "applied",
    "unchanged": "ignored",
}


def pool(db: database.Database, providers: clients.Providers, lease_s: float) -> worker_pool.WorkerPool[list[Webhook]]:
    """Give the worker pool that settles webhooks; those about one payment are settled by one look."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[list[Webhook]]:
        async with db.statement() as tx:
            leased = await webhooks.store.webhooks.lease(tx, limit=limit, lease_s=lease_s, busy=busy)
        return [list(group) for _, group in groupby(sorted(leased, key=_payment_of), key=_payment_of)]

    work = partial(settle_webhooks, db, providers)
    return worker_pool.WorkerPool(lease, work, key=lambda received: received[0].provider)


async def settle_webhooks(db: database.Database, providers: clients.Providers, received: list[Webhook]) -> None:
    """Look up the one payment that these webhooks are about, and settle it and them."""
    first = min(received, key=lambda webhook: webhook.received_at)
    provider = providers.named(first.provider, first.account)
    if provider is None:
        await _park_unknown(db, received)
        return
    current = envelope.current_cause()
    with envelope.caused_by(envelope.Cause(current.correlation_id, None, first.traceparent)):
        try:
            observation = await _look_up(db, provider, received)
        except clients.NotFound:
            await _park_unknown(db, received)
            return
        except clients.Foreign:
            await _leave_alone(db, received)
            return
        except clients.ProviderError as error:
            telemetry.log.warning("payments.fetch_failed", provider=first.provider, error=repr(error))
            is_lasting = max(webhook.age for webhook in received) > schedule.UNREADABLE_AFTER
            await faults.report(
                db, provider.account, error, op="fetch", provider_ref=first.provider_ref, is_lasting=is_lasting
            )
            await _park_unfetched(db, received)
            return
        failpoints.passed("payments.after_fetch")
        payment = await settlement.apply_observation(
            db, provider.account, observation, accepted_at=first.received_at, also=partial(_close, received)
        )
        if payment is None and observation.fact is not None and observation.fact.payment_id is None:
            await _leave_alone(db, received)
        elif payment is None:
            await _park_unknown(db, received)


async def forget_webhooks(db: database.Database) -> int:
    """Delete settled webhooks that no repetition can follow any more; gives their number."""
    async with db.statement() as tx:
        return await webhooks.store.webhooks.forget(tx)


async def _look_up(db: database.Database, provider: clients.Provider, received: Sequence[Webhook]) -> facts.Observation:
    ref = received[0].provider_ref
    if not provider.account.can(accounts.Capability.FETCH):
        # The webhook's proof of its sender is all there is. A variant, another content under a known key, is ignored.
        movements = [each.movement for each in received if each.movement is not None and not each.is_variant]
        paid = next((movement for movement in movements if isinstance(movement, facts.Fact)), None)
        refunds = [movement for movement in movements if isinstance(movement, facts.RefundFact)]
        return facts.Observation(ref, paid, refunds)
    has_refund = any(webhook.has_open_refund or "refund" in webhook.event for webhook in received)
    has_dispute = any(webhook.has_open_dispute or "dispute" in webhook.event for webhook in received)
    fact = await provider.fetch(ref)
    if fact.provider_ref != ref:
        # The lease looked for refunds and disputes by the webhook's own id of the payment, and found none.
        async with db.statement() as tx:
            refunding, disputed = await store.payments.under_way(tx, provider.account, fact.provider_ref)
        has_refund, has_dispute = has_refund or refunding, has_dispute or disputed
    return await lookup.fetch_related(provider, fact, is_refund_expected=has_refund, is_dispute_expected=has_dispute)


async def _leave_alone(db: database.Database, received: Sequence[Webhook]) -> None:
    """Settle webhooks about what another program did with the same account: nothing in it names a payment of ours."""
    FOREIGN.labels(received[0].provider, received[0].account).inc(len(received))
    async with db.statement() as tx:
        await webhooks.store.webhooks.settle(tx, received, "ignored")


async def _park_unfetched(db: database.Database, received: Sequence[Webhook]) -> None:
    """Let webhooks wait whose payment could not be fetched; after some days they become findings."""
    async with db.transaction() as tx:
        stale = [webhook for webhook in received if webhook.age > webhooks.domain.schedule.WEBHOOK_LIFETIME]
        await _give_up(tx, stale, "webhook_never_fetched")
        if fresh := [webhook for webhook in received if webhook not in stale]:
            pause_s = webhooks.domain.schedule.fetch_pause_s(max(webhook.attempts for webhook in fresh))
            await webhooks.store.webhooks.park(tx, fresh, pause_s=pause_s, is_miss=False)


async def _park_unknown(db: database.Database, received: Sequence[Webhook]) -> None:
    """Let webhooks wait that are about no payment of ours; after some looks they become findings."""
    async with db.transaction() as tx:
        for webhook in received:
            pause_s = webhooks.domain.schedule.unknown_payment_pause_s(webhook.misses + 1)
            if pause_s is None:
                await _give_up(tx, [webhook], "orphan_webhook")
            else:
                await webhooks.store.webhooks.park(tx, [webhook], pause_s=pause_s, is_miss=True)


async def _give_up(tx: database.Tx, received: Sequence[Webhook], kind: str) -> None:
    await webhooks.store.webhooks.settle(tx, received, "orphan")
    for webhook in received:
        await store.findings.open_finding(
            tx,
            tenant=webhook.tenant,
            kind=kind,
            details={"provider_ref": webhook.provider_ref},
            webhook_id=webhook.webhook_id,
            provider=webhook.provider,
            account=webhook.account,
        )


async def _close(received: Sequence[Webhook], tx: database.Tx, settled: settlement.Settled) -> None:
    """Record the outcome of webhooks; a variant, another content under a known key, is always a conflict."""
    variants = [webhook for webhook in received if webhook.is_variant]
    await webhooks.store.webhooks.settle(
        tx, [webhook for webhook in received if not webhook.is_variant], _STATES[settled.result]
    )
    await webhooks.store.webhooks.settle(tx, variants, "conflict")
    for variant in variants:
        details, webhook_id = {"provider_ref": variant.provider_ref}, variant.webhook_id
        await store.findings.open_for(
            tx, settled.payment, "webhook_variant", details, account=settled.account, webhook_id=webhook_id
        )


def _payment_of(webhook: Webhook) -> tuple[str, str, str]:
    return webhook.provider, webhook.account, webhook.provider_ref
