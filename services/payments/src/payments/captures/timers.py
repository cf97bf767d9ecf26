"""Sends captures and cancellations to the provider."""

import contracts.payments
from chassis import database, outbox
from payments import captures, clients, store
from payments.domain import accounts, facts, lifecycle
from payments.timers import operation

_DETAIL = "The provider refused."


async def capture_unasked_hold(tx: database.Tx, payment: lifecycle.Payment, account: accounts.Account) -> None:
    """Request the capture of money that was to be taken at once; the provider only holds it, and would let it go."""
    if payment.state is not lifecycle.State.AUTHORIZED or payment.is_held:
        return
    if account.can(accounts.Capability.CAPTURE):
        await store.attempts.add(tx, payment, "capture")
    details = {"capture_before": str(payment.capture_before)}
    await store.findings.open_for(tx, payment, "authorized_unasked", details, account=account)


async def _capture(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation:
    payment = attempt.payment
    amount = payment.money(payment.capture_asked_minor or payment.amount.amount_minor)
    ref = operation.provider_ref(attempt)
    receipt = attempt.receipt
    if receipt is None and amount != payment.amount:
        # As with a refund: the receipt of a part goes to the shop's own address, that of the whole is there already.
        receipt = operation.receipt_of(provider.account, payment, amount.amount_minor, None)
    fact = await provider.capture(ref, amount, key=attempt.key, receipt=receipt)
    return facts.Observation(fact.provider_ref, fact)


async def _cancel(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation:
    fact = await provider.cancel(operation.provider_ref(attempt), key=attempt.key)
    return facts.Observation(fact.provider_ref, fact)


async def _refuse_capture(tx: database.Tx, payment: lifecycle.Payment, _: store.attempts.Attempt, code: str) -> None:
    if payment.state is not lifecycle.State.AUTHORIZED:
        return
    await store.payments.save(tx, captures.domain.withdraw_request(payment))
    await _put_refused(tx, contracts.payments.CaptureRefused, payment, code)
    if not payment.is_held:
        # Nobody requested this capture, so nobody waits for its answer; the money goes back at that time.
        details = {"code": code, "capture_before": str(payment.capture_before)}
        await store.findings.open_for(tx, payment, "capture_refused", details)


async def _refuse_cancel(tx: database.Tx, payment: lifecycle.Payment, _: store.attempts.Attempt, code: str) -> None:
    if payment.state is lifecycle.State.AUTHORIZED:
        await _put_refused(tx, contracts.payments.CancelRefused, payment, code)


async def _put_refused(
    tx: database.Tx,
    refused: type[contracts.payments.CaptureRefused | contracts.payments.CancelRefused],
    payment: lifecycle.Payment,
    code: str,
) -> None:
    event = refused(tenant=payment.tenant, payment_id=payment.payment_id, code=code[:64], detail=_DETAIL)
    await outbox.put(tx, [event])


def _is_needed(attempt: store.attempts.Attempt) -> bool:
    return attempt.payment.state is lifecycle.State.AUTHORIZED


def _is_captured(_: store.attempts.Attempt, observation: facts.Observation) -> bool:
    return observation.fact is not None and observation.fact.state == "paid"


def _is_canceled(_: store.attempts.Attempt, observation: facts.Observation) -> bool:
    return observation.fact is not None and observation.fact.state == "canceled"


CAPTURE = operation.Operation(_capture, _refuse_capture, _is_needed, _is_captured)
CANCEL = operation.Operation(_cancel, _refuse_cancel, _is_needed, _is_canceled)
