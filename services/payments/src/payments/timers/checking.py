"""Looks at payments that have something open, from time to time and without being told to."""

from collections.abc import Sequence
from functools import partial

from chassis import database, envelope, failpoints, telemetry, worker_pool
from payments import clients
from payments.domain import facts, schedule
from payments.domain.payment import OPEN
from payments.handlers import asks
from payments.handlers.truth import apply_truth
from payments.store import payments as store
from payments.timers.looking import look


def pool(db: database.Database, accounts: clients.Accounts) -> worker_pool.WorkerPool[store.Check]:
    """Give the pool that looks at payments from time to time."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[store.Check]:
        async with db.statement() as tx:
            return await store.lease_checks(tx, limit=limit, busy=busy)

    return worker_pool.WorkerPool(lease, partial(check_due, db, accounts), key=lambda check: check.payment.provider)


async def check_due(db: database.Database, accounts: clients.Accounts, check: store.Check) -> None:
    """Learn the truth about one payment; what stays open for a week past its time is left to a person."""
    known = check.payment
    assert known.account is not None  # what is looked at was answered by an account
    assert known.provider_ref is not None
    provider = accounts.named(known.provider, known.account)
    if kind := _is_over(check):
        await asks.stop_looking(db, known, kind)
    elif provider is None:
        telemetry.log.warning("payments.account_unknown", payment_id=str(known.payment_id), account=known.account)
    elif facts.Capability.FETCH in provider.capabilities:
        await _look_at(db, provider, check)
    elif known.state not in OPEN and not known.reserved_minor:
        await asks.rest(db, known)
    elif known.state in OPEN and known.expires_at and check.leased_at > known.expires_at + schedule.EXPIRY_GRACE:
        await asks.expire(db, known)


async def _look_at(db: database.Database, provider: clients.Provider, check: store.Check) -> None:
    known = check.payment
    try:
        truth = await look(
            provider,
            str(known.provider_ref),
            is_refund_expected=known.state not in OPEN,
            is_dispute_expected=known.disputed_minor > 0,
        )
    except clients.ProviderError as error:
        telemetry.log.warning("payments.fetch_failed", payment_id=str(known.payment_id), error=repr(error))
        return
    failpoints.passed("payments.after_fetch")
    with envelope.caused_by(envelope.Cause(known.correlation_id, None, known.traceparent)):
        seen = await apply_truth(db, provider, truth, accepted_at=check.leased_at)
    if seen is not None and seen.state not in OPEN and not seen.reserved_minor:
        await asks.rest(db, seen)


def _is_over(check: store.Check) -> str | None:
    known = check.payment
    if known.state not in OPEN:
        return "refund_never_settled" if check.checks > schedule.REFUND_CHECKS_MAX else None
    assert known.expires_at is not None  # what its provider knows has an end
    ends_at = max(known.expires_at, known.capture_before or known.expires_at)
    return "never_settled" if check.leased_at > ends_at + schedule.CHECKED_FOR else None
