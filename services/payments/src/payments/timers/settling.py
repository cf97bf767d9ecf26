"""Settles webhooks: fetches the truth that a hint points at, or takes the movement that a signed one carries."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from chassis import database, envelope, failpoints, telemetry, worker_pool
from payments import clients
from payments.domain import facts
from payments.handlers import hints as waiting
from payments.handlers.truth import Truth, apply_truth
from payments.store import payments as store
from payments.store import webhooks
from payments.timers.looking import look_behind


def pool(
    db: database.Database, accounts: clients.Accounts, lease_s: float
) -> worker_pool.WorkerPool[list[webhooks.Webhook]]:
    """Give the pool that settles webhooks; those about one payment are settled by one look."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[list[webhooks.Webhook]]:
        async with db.statement() as tx:
            leased = await webhooks.lease(tx, limit=limit, lease_s=lease_s, busy=busy)
        return [list(group) for _, group in groupby(sorted(leased, key=_looked_at), key=_looked_at)]

    return worker_pool.WorkerPool(lease, partial(settle_webhooks, db, accounts), key=lambda hints: hints[0].provider)


async def settle_webhooks(db: database.Database, accounts: clients.Accounts, hints: list[webhooks.Webhook]) -> None:
    """Learn the truth about the one payment that these hints are about, and let it settle payment and hints."""
    first = min(hints, key=lambda hint: hint.received_at)
    provider = accounts.named(first.provider, first.account)
    if provider is None:
        await waiting.park_unknown(db, hints)
        return
    here = envelope.current_cause()
    with envelope.caused_by(envelope.Cause(here.correlation_id, None, first.traceparent)):
        try:
            truth = await _learn(db, provider, hints)
        except clients.NotFound:
            await waiting.park_unknown(db, hints)
            return
        except clients.ProviderError as error:
            telemetry.log.warning("payments.fetch_failed", provider=first.provider, error=repr(error))
            await waiting.postpone(db, hints)
            return
        failpoints.passed("payments.after_fetch")
        if await apply_truth(db, provider, truth, accepted_at=first.received_at, hints=hints) is None:
            await waiting.park_unknown(db, hints)


async def _learn(db: database.Database, provider: clients.Provider, hints: Sequence[webhooks.Webhook]) -> Truth:
    ref = hints[0].provider_ref
    if facts.Capability.FETCH not in provider.capabilities:
        # The signature is all there is to believe; another body under a known key is believed least of all.
        told = [hint.movement for hint in hints if hint.movement is not None and not hint.is_variant]
        paid = next((movement for movement in told if isinstance(movement, facts.Fact)), None)
        return Truth(ref, paid, [movement for movement in told if isinstance(movement, facts.RefundFact)])
    has_refund = any(hint.has_open_refund or "refund" in hint.event for hint in hints)
    has_dispute = any(hint.has_open_dispute or "dispute" in hint.event for hint in hints)
    fact = await provider.fetch(ref)
    if fact.provider_ref != ref:
        # The hint's own name of the payment told nothing of what is under way with it.
        async with db.statement() as tx:
            refunding, disputed = await store.under_way(tx, provider.account, fact.provider_ref)
        has_refund, has_dispute = has_refund or refunding, has_dispute or disputed
    return await look_behind(provider, fact, is_refund_expected=has_refund, is_dispute_expected=has_dispute)


def _looked_at(hint: webhooks.Webhook) -> tuple[str, str, str]:
    return hint.provider, hint.account, hint.provider_ref
