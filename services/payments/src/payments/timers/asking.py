"""Asks providers to create, capture, cancel and refund, each request always under the key that it was kept with.

What may have been carried out is repeated under the same key while the provider remembers it, and never after that.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from chassis import database, envelope, failpoints, telemetry, worker_pool
from contracts import payments
from payments import clients
from payments.domain import facts, payment, refund, schedule
from payments.handlers import asks
from payments.handlers.truth import Truth, apply_truth
from payments.store import attempts
from payments.timers.looking import find_created, look

AUTH_REST_S = 60.0  # an operator has to mend the credentials; asking faster would not help
UNSERVED_REST_S = 600.0
LOOK_AFTER_TRIES = 5
# The clocks of both sides differ by less.
CLOCK_MARGIN = timedelta(hours=1)


def pool(db: database.Database, accounts: clients.Accounts, lease_s: float) -> worker_pool.WorkerPool[attempts.Ask]:
    """Give the pool that asks providers to do something."""

    async def lease(limit: int, busy: Sequence[str]) -> Sequence[attempts.Ask]:
        async with db.statement() as tx:
            return await attempts.lease(tx, limit=limit, lease_s=lease_s, busy=busy)

    return worker_pool.WorkerPool(lease, partial(ask_provider, db, accounts), key=lambda ask: ask.payment.provider)


async def ask_provider(db: database.Database, accounts: clients.Accounts, ask: attempts.Ask) -> None:
    """Ask for one thing, and keep what the provider answers."""
    known = ask.payment
    provider = _provider_of(accounts, known)
    with envelope.caused_by(envelope.Cause(known.correlation_id, None, known.traceparent)):
        if not _is_needed(ask):
            await asks.close(db, ask)
        elif provider is None and ask.op == "create":
            await asks.refuse(db, ask, "provider_not_configured", is_definite=False)
        elif provider is None:
            telemetry.log.warning("payments.account_unknown", payment_id=str(known.payment_id), account=known.account)
            await asks.postpone(db, ask, "refused", UNSERVED_REST_S)
        elif ask.op == "create" and (code := _lacks(provider, ask)):
            await asks.refuse(db, ask, code, is_definite=False)
        elif not schedule.may_send_again(ask.key_age, provider.key_lifetime):
            await _find_out(db, provider, ask)
        elif _is_too_late(provider, ask):
            await asks.refuse(db, ask, "provider_unavailable", is_definite=False)
        else:
            await _send(db, provider, ask)


async def _send(db: database.Database, provider: clients.Provider, ask: attempts.Ask) -> None:
    try:
        truth = await _CALLS[ask.op](provider, ask)
    except clients.Rejected as error:
        await _take_refusal(db, provider, ask, error.code)
    except clients.NotFound:
        await _take_refusal(db, provider, ask, "not_found")
    except clients.RateLimited as error:
        await asks.postpone(db, ask, "refused", error.retry_after_s)
    except clients.AuthFailed:
        telemetry.log.error("payments.credentials_refused", provider=provider.account.provider)
        await asks.postpone(db, ask, "refused", AUTH_REST_S)
    except clients.ProviderError as error:
        await _take_silence(db, provider, ask, error)
    else:
        failpoints.passed("payments.after_ask")
        await _keep(db, provider, ask, truth)


async def _take_refusal(db: database.Database, provider: clients.Provider, ask: attempts.Ask, code: str) -> None:
    """Believe a refusal, unless an earlier try may have done what this one is refused for."""
    if ask.is_uncertain and ask.op != "create" and facts.Capability.FETCH in provider.capabilities:
        try:
            truth = await _done(provider, ask)
        except clients.ProviderError as error:
            _warn(ask, error)
            await asks.postpone(db, ask, "unknown", schedule.ask_rest_s(ask.tries))
            return
        if truth is not None:
            await _keep(db, provider, ask, truth)
            return
    await asks.refuse(db, ask, code)


async def _find_out(db: database.Database, provider: clients.Provider, ask: attempts.Ask) -> None:
    """Learn what became of a request whose key is too old to be sent again; what can't be learned is a person's."""
    try:
        truth = await _done(provider, ask)
    except clients.ProviderError as error:
        _warn(ask, error)
        await asks.postpone(db, ask, "unknown", schedule.FETCH_REST_S_MAX)
        return
    if truth is not None:
        await _keep(db, provider, ask, truth)
    else:
        await asks.give_up(db, ask)


async def _take_silence(
    db: database.Database, provider: clients.Provider, ask: attempts.Ask, error: clients.ProviderError
) -> None:
    """Ask again later, and look elsewhere too: some providers answer a key that met a failure with it for ever."""
    _warn(ask, error)
    if ask.tries % LOOK_AFTER_TRIES == 0:
        try:
            truth = await _done(provider, ask)
        except clients.ProviderError as silence:
            _warn(ask, silence)
        else:
            if truth is not None:
                await _keep(db, provider, ask, truth)
                return
    await asks.postpone(db, ask, "unknown", schedule.ask_rest_s(ask.tries))


async def _done(provider: clients.Provider, ask: attempts.Ask) -> Truth | None:
    """Learn without the key whether the thing is done: from the payment, or for a new one from the provider's list."""
    if ask.op != "create":
        if facts.Capability.FETCH not in provider.capabilities:
            return None
        truth = await look(provider, _ref(ask), is_refund_expected=ask.op == "refund")
        return truth if _is_done(ask, truth) else None
    if facts.Capability.LIST not in provider.capabilities:
        return None
    now = datetime.now(UTC)
    since, until = now - ask.key_age - CLOCK_MARGIN, now + CLOCK_MARGIN
    return await find_created(provider, ask.payment.payment_id, since, until)


async def _keep(db: database.Database, provider: clients.Provider, ask: attempts.Ask, truth: Truth) -> None:
    accepted_at = truth.fact.created_at if truth.fact and ask.op == "create" else datetime.now(UTC)
    if await apply_truth(db, provider, truth, accepted_at=accepted_at, attempt=ask.key) is None:
        # The answer is about no payment of ours, so nobody knows whose money that is.
        await asks.give_up(db, ask)


def _warn(ask: attempts.Ask, error: clients.ProviderError) -> None:
    payment_id = str(ask.payment.payment_id)
    telemetry.log.warning("payments.outcome_unknown", payment_id=payment_id, op=ask.op, error=repr(error))


async def _create(provider: clients.Provider, ask: attempts.Ask) -> Truth:
    known = ask.payment
    order = facts.Order(
        payment_id=known.payment_id,
        tenant=known.tenant,
        amount=known.amount,
        return_url=known.return_url,
        description=known.description or f"Payment {known.payment_id}",
        is_held=known.is_held,
        payer=known.payer,
        receipt=_receipt(ask.receipt),
    )
    fact = await provider.create(order, key=ask.key)
    return Truth(fact.provider_ref, fact)


async def _capture(provider: clients.Provider, ask: attempts.Ask) -> Truth:
    asked_minor = ask.payment.capture_asked_minor or ask.payment.amount.amount_minor
    amount, receipt = ask.payment.money(asked_minor), _receipt(ask.receipt)
    fact = await provider.capture(_ref(ask), amount, key=ask.key, receipt=receipt)
    return Truth(fact.provider_ref, fact)


async def _cancel(provider: clients.Provider, ask: attempts.Ask) -> Truth:
    fact = await provider.cancel(_ref(ask), key=ask.key)
    return Truth(fact.provider_ref, fact)


async def _refund(provider: clients.Provider, ask: attempts.Ask) -> Truth:
    assert ask.refund is not None  # an ask for a refund has one
    order = facts.RefundOrder(
        refund_id=ask.refund.refund_id,
        provider_ref=_ref(ask),
        amount=ask.payment.money(ask.refund.amount_minor),
        captured_minor=ask.payment.captured_minor,
        reason=ask.refund.reason,
        payer=ask.payment.paid_by,
        receipt=_receipt(ask.receipt),
    )
    return Truth(order.provider_ref, refunds=[await provider.refund(order, key=ask.key)])


_CALLS: dict[attempts.Op, Callable[[clients.Provider, attempts.Ask], Awaitable[Truth]]] = {
    "create": _create,
    "capture": _capture,
    "cancel": _cancel,
    "refund": _refund,
}


def _is_needed(ask: attempts.Ask) -> bool:
    """Tell whether the thing is still to be done; a webhook may have told meanwhile that it is."""
    if ask.refund is not None:
        return ask.refund.state is refund.State.REQUESTED
    return ask.payment.state is (payment.State.CREATED if ask.op == "create" else payment.State.AUTHORIZED)


def _is_done(ask: attempts.Ask, truth: Truth) -> bool:
    if ask.refund is not None:
        return any(told.refund_id == ask.refund.refund_id for told in truth.refunds)
    done = {"capture": payment.State.PAID, "cancel": payment.State.CANCELED}
    return truth.fact is not None and truth.fact.state == done[ask.op]


def _is_too_late(provider: clients.Provider, ask: attempts.Ask) -> bool:
    """Tell whether nobody waits any more for a creation that did nothing, or whose repetition does no harm."""
    is_harmless = not ask.is_uncertain or provider.key_lifetime is None
    return ask.op == "create" and is_harmless and ask.age > provider.account.payment_ttl


def _lacks(provider: clients.Provider, ask: attempts.Ask) -> str | None:
    if ask.payment.is_held and facts.Capability.CAPTURE not in provider.capabilities:
        return "hold_not_supported"
    if ask.receipt is not None and facts.Capability.RECEIPT not in provider.capabilities:
        return "receipt_not_supported"
    return None


def _provider_of(accounts: clients.Accounts, known: payment.Payment) -> clients.Provider | None:
    if known.account is None:
        return accounts.of_tenant(known.provider, known.tenant)
    named = accounts.named(known.provider, known.account)
    # A command may name any account; another tenant's is as unknown as none.
    return named if named is not None and named.account.tenant == known.tenant else None


def _ref(ask: attempts.Ask) -> str:
    assert ask.payment.provider_ref is not None  # only what its provider knows is captured, canceled or refunded
    return ask.payment.provider_ref


def _receipt(receipt: payments.Receipt | None) -> facts.Receipt | None:
    if receipt is None:
        return None
    items = tuple(
        facts.Item(
            description=item.description,
            quantity_milli=item.quantity_milli,
            price=item.price,
            vat_code=item.vat_code,
            subject=item.subject,
            mode=item.mode,
        )
        for item in receipt.items
    )
    return facts.Receipt(items=items, email=receipt.email, phone=receipt.phone)
