"""Sends requests to providers: create, capture, cancel and refund, each under the idempotency key stored with it.

A request that may have been carried out is repeated under its key while the provider remembers it, and never after.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import payments.captures.timers
import payments.refunds.timers
from chassis import database, envelope, failpoints, telemetry, worker_pool
from payments import clients, store
from payments.domain import accounts, facts, lifecycle, schedule
from payments.timers import faults, lookup, operation, outcomes, settlement

AUTH_PAUSE_S = 60.0  # an operator has to correct the credentials; trying faster would not help
NOT_SERVED_PAUSE_S = 600.0
LOOK_UP_AFTER_TRIES = 5
# The clocks of both sides differ by less.
CLOCK_MARGIN = timedelta(hours=1)


def pool(
    db: database.Database, providers: clients.Providers, lease_s: float
) -> worker_pool.WorkerPool[store.attempts.Attempt]:
    """Give the worker pool that sends requests."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[store.attempts.Attempt]:
        async with db.statement() as tx:
            return await store.attempts.lease(tx, limit=limit, lease_s=lease_s, busy=busy)

    work = partial(send_attempt, db, providers)
    return worker_pool.WorkerPool(lease, work, key=lambda attempt: attempt.payment.provider)


async def send_attempt(db: database.Database, providers: clients.Providers, attempt: store.attempts.Attempt) -> None:
    """Send one request, and store what the provider answers."""
    payment, op = attempt.payment, OPERATIONS[attempt.op]
    provider = _provider_of(providers, payment)
    with envelope.caused_by(envelope.Cause(payment.correlation_id, None, payment.traceparent)):
        if not op.is_needed(attempt):
            await outcomes.close(db, attempt)
        elif provider is None and attempt.op == "create":
            await outcomes.refuse(db, attempt, op, "provider_not_configured", is_definite=False)
        elif provider is None:
            payment_id, account = str(payment.payment_id), payment.account
            telemetry.log.warning("payments.account_unknown", payment_id=payment_id, account=account)
            await outcomes.retry_later(db, attempt, "refused", NOT_SERVED_PAUSE_S)
        elif attempt.op == "create" and (code := _missing_capability(provider.account, attempt)):
            await outcomes.refuse(db, attempt, op, code, is_definite=False)
        elif not schedule.may_send_again(attempt.key_age, provider.key_lifetime):
            await _learn_outcome(db, provider, attempt)
        elif _is_too_late(provider, attempt):
            await outcomes.refuse(db, attempt, op, "provider_unavailable", is_definite=False)
        else:
            await _send(db, provider, attempt)


async def _send(db: database.Database, provider: clients.Provider, attempt: store.attempts.Attempt) -> None:
    try:
        observation = await OPERATIONS[attempt.op].send(provider, attempt)
    except clients.Rejected as error:
        _log_refusal(provider.account, attempt, error)
        await faults.report(db, provider.account, error, op=attempt.op)
        await _on_refusal(db, provider, attempt, error.code)
    except clients.NotFound:
        await _on_refusal(db, provider, attempt, "not_found")
    except clients.RateLimited as error:
        await outcomes.retry_later(db, attempt, "refused", error.retry_after_s)
    except clients.AuthFailed as error:
        await faults.report(db, provider.account, error, op=attempt.op)
        if attempt.op == "create" and not attempt.is_uncertain:
            # Nothing was made, and the payer is waiting: a repetition has to wait for an operator.
            await outcomes.refuse(db, attempt, OPERATIONS[attempt.op], "credentials_refused")
        else:
            await outcomes.retry_later(db, attempt, "refused", AUTH_PAUSE_S)
    except clients.ProviderError as error:
        await _on_unknown_outcome(db, provider, attempt, error)
    else:
        failpoints.passed("payments.after_ask")
        await _settle(db, provider, attempt, observation)


async def _on_refusal(
    db: database.Database, provider: clients.Provider, attempt: store.attempts.Attempt, code: str
) -> None:
    """Accept a refusal together with what was done instead, which may be why the provider refused.

    Where an earlier try may have done what this one is refused for, that is the outcome.
    """
    op, observation = OPERATIONS[attempt.op], None
    if attempt.op != "create" and provider.account.can(accounts.Capability.FETCH):
        try:
            observation = await _fetch(provider, attempt)
        except clients.ProviderError as error:
            _warn(attempt, error)
            if attempt.is_uncertain or attempt.tries < LOOK_UP_AFTER_TRIES:
                outcome: store.attempts.Outcome = "unknown" if attempt.is_uncertain else "refused"
                await outcomes.retry_later(db, attempt, outcome, schedule.attempt_pause_s(attempt.tries))
                return
        else:
            if attempt.is_uncertain and op.is_done(attempt, observation):
                await _settle(db, provider, attempt, observation)
                return
    if observation is None:
        await outcomes.refuse(db, attempt, op, code)
    else:
        await outcomes.refuse_and_settle(db, attempt, op, code, account=provider.account, observation=observation)


async def _learn_outcome(db: database.Database, provider: clients.Provider, attempt: store.attempts.Attempt) -> None:
    """Look up a request whose key is too old to be sent again; what can't be found is left to a person."""
    try:
        observation = await _find_done(provider, attempt)
    except clients.ProviderError as error:
        _warn(attempt, error)
        await outcomes.retry_later(db, attempt, "unknown", schedule.FETCH_PAUSE_S_MAX)
        return
    if observation is not None:
        await _settle(db, provider, attempt, observation)
    else:
        await outcomes.give_up(db, attempt)


async def _on_unknown_outcome(
    db: database.Database, provider: clients.Provider, attempt: store.attempts.Attempt, error: clients.ProviderError
) -> None:
    """Try again later, and at times look it up: some providers repeat a failure for as long as they keep the key."""
    _warn(attempt, error)
    is_lasting = attempt.age > schedule.UNREADABLE_AFTER
    await faults.report(db, provider.account, error, op=attempt.op, payment=attempt.payment, is_lasting=is_lasting)
    if attempt.tries % LOOK_UP_AFTER_TRIES == 0:
        try:
            observation = await _find_done(provider, attempt)
        except clients.ProviderError as failure:
            _warn(attempt, failure)
        else:
            if observation is not None:
                await _settle(db, provider, attempt, observation)
                return
    await outcomes.retry_later(db, attempt, "unknown", schedule.attempt_pause_s(attempt.tries))


async def _find_done(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation | None:
    """Look up without the key whether a request was done: in the payment, or for a new one in the provider's list."""
    if attempt.op != "create":
        if not provider.account.can(accounts.Capability.FETCH):
            return None
        observation = await _fetch(provider, attempt)
        return observation if OPERATIONS[attempt.op].is_done(attempt, observation) else None
    if not provider.account.can(accounts.Capability.LIST):
        return None
    now = datetime.now(UTC)
    since, until = now - attempt.key_age - CLOCK_MARGIN, now + CLOCK_MARGIN
    return await lookup.find_in_report(provider, attempt.payment.payment_id, since, until)


async def _fetch(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation:
    """Fetch the payment that a request is about, and its refunds where it is to be refunded. Needs FETCH."""
    ref = operation.provider_ref(attempt)
    return await lookup.fetch(provider, ref, is_refund_expected=attempt.op == "refund")


async def _settle(
    db: database.Database,
    provider: clients.Provider,
    attempt: store.attempts.Attempt,
    observation: facts.Observation,
) -> None:
    created = observation.fact if attempt.op == "create" else None
    close = partial(outcomes.close_created, created) if created else outcomes.close_settled
    payment = await settlement.apply_observation(
        db,
        provider.account,
        observation,
        accepted_at=created.created_at if created else datetime.now(UTC),
        also=partial(close, attempt),
    )
    if payment is None:
        # The answer is about no payment of ours, so nobody knows whose money that is.
        await outcomes.give_up(db, attempt)


def _log_refusal(account: accounts.Account, attempt: store.attempts.Attempt, error: clients.Rejected) -> None:
    telemetry.log.warning(
        "payments.refused",
        payment_id=str(attempt.payment.payment_id),
        op=attempt.op,
        provider=account.provider,
        account=account.name,
        code=error.code,
        **error.words,
    )


def _warn(attempt: store.attempts.Attempt, error: clients.ProviderError) -> None:
    payment_id = str(attempt.payment.payment_id)
    telemetry.log.warning("payments.outcome_unknown", payment_id=payment_id, op=attempt.op, error=repr(error))


async def _create(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation:
    payment, account = attempt.payment, provider.account
    title = payment.description or account.title
    given = attempt.receipt or attempt.receipt_contact
    order = facts.Order(
        payment_id=payment.payment_id,
        tenant=payment.tenant,
        amount=payment.amount,
        return_url=payment.return_url,
        description=title,
        is_held=payment.is_held,
        payer=payment.payer,
        receipt=operation.receipt_of(account, payment, payment.amount.amount_minor, given),
    )
    fact = await provider.create(order, key=attempt.key)
    return facts.Observation(fact.provider_ref, fact)


def _is_not_created(attempt: store.attempts.Attempt) -> bool:
    return attempt.payment.state is lifecycle.State.CREATED


def _is_created(_: store.attempts.Attempt, observation: facts.Observation) -> bool:
    return observation.fact is not None


OPERATIONS: Mapping[store.attempts.Op, operation.Operation] = {
    "create": operation.Operation(_create, outcomes.refuse_creation, _is_not_created, _is_created),
    "capture": payments.captures.timers.CAPTURE,
    "cancel": payments.captures.timers.CANCEL,
    "refund": payments.refunds.timers.REFUND,
}


def _is_too_late(provider: clients.Provider, attempt: store.attempts.Attempt) -> bool:
    """Tell whether nobody waits any more for a creation that did nothing, or whose repetition is harmless."""
    is_harmless = not attempt.is_uncertain or provider.key_lifetime is None
    return attempt.op == "create" and is_harmless and attempt.age > provider.account.payment_ttl


def _missing_capability(account: accounts.Account, attempt: store.attempts.Attempt) -> str | None:
    if attempt.payment.is_held and not account.can(accounts.Capability.CAPTURE):
        return "hold_not_supported"
    if attempt.receipt is not None and not account.can(accounts.Capability.RECEIPT):
        return "receipt_not_supported"
    return None


def _provider_of(providers: clients.Providers, payment: lifecycle.Payment) -> clients.Provider | None:
    if payment.account is None:
        return providers.of_tenant(payment.provider, payment.tenant)
    provider = providers.named(payment.provider, payment.account)
    # A command may name any account; another tenant's is as unknown as none.
    return provider if provider is not None and provider.account.tenant == payment.tenant else None
