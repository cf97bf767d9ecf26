"""Sends refunds to the provider, and settles them by what the provider tells."""

from collections.abc import Sequence
from datetime import UTC, datetime

from chassis import database
from payments import clients, refunds, store
from payments.domain import accounts, facts, lifecycle
from payments.timers import events, operation


async def settle(
    tx: database.Tx,
    payment: lifecycle.Payment,
    *,
    account: accounts.Account,
    fact: facts.RefundFact,
    seen_at: datetime,
) -> tuple[lifecycle.Payment, lifecycle.Events, bool]:
    """Apply a fact to its refund and save the refund; a refund that we did not request is adopted.

    Gives the payment after it, the events to publish, and whether anything changed. Raises FactMismatchError.
    """
    refund = _find(await refunds.store.of_payment(tx, payment.payment_id), account, fact)
    if refund is None:
        if fact.state != "succeeded":
            return payment, (), False
        payment, refund = refunds.domain.adopt(payment, account, fact)
        details = {"amount_minor": fact.amount.amount_minor}
        await store.findings.open_for(
            tx, payment, "refund_in_dashboard", details, account=account, about=fact.refund_ref
        )
    changed, settled, published = refunds.domain.apply(payment, refund, fact, seen_at=seen_at)
    if settled is refund:
        return changed, published, False
    await refunds.store.save(tx, settled)
    if settled.state is refunds.domain.State.FAILED:
        kind, ref = "refund_failed_later", fact.refund_ref
        failure: dict[str, object] = {
            **fact.amount.model_dump(mode="json"),
            "reason": fact.reason,
            "refund_id": str(settled.refund_id),
        }
        await store.findings.open_for(tx, payment, kind, failure, account=account, about=ref)
    return changed, published, True


def _find(
    stored: Sequence[refunds.domain.Refund], account: accounts.Account, fact: facts.RefundFact
) -> refunds.domain.Refund | None:
    for refund in stored:
        if refund.refund_id == fact.refund_id or refund.refund_ref == fact.refund_ref:
            return refund
    if account.can(accounts.Capability.PARTIAL_REFUND):
        return None
    # Only one whole refund is possible, so the open one is meant, though the provider keeps no id of ours.
    return next((refund for refund in stored if refund.state in refunds.domain.OPEN), None)


async def _refund(provider: clients.Provider, attempt: store.attempts.Attempt) -> facts.Observation:
    assert attempt.refund is not None  # an attempt to refund has one
    payment, amount_minor = attempt.payment, attempt.refund.amount_minor
    receipt = attempt.receipt
    if receipt is None and amount_minor != payment.captured_minor:
        # The payer's address is not kept, so the receipt of a part goes to the shop's own; of the whole it is repeated.
        receipt = operation.receipt_of(provider.account, payment, amount_minor, None)
    order = facts.RefundOrder(
        refund_id=attempt.refund.refund_id,
        provider_ref=operation.provider_ref(attempt),
        amount=payment.money(amount_minor),
        captured_minor=payment.captured_minor,
        reason=attempt.refund.reason,
        payer=payment.paid_by,
        receipt=receipt,
    )
    return facts.Observation(order.provider_ref, refunds=[await provider.refund(order, key=attempt.key)])


async def _refuse(tx: database.Tx, payment: lifecycle.Payment, attempt: store.attempts.Attempt, code: str) -> None:
    assert attempt.refund is not None  # an attempt to refund has one
    refund = await refunds.store.read(tx, attempt.refund.refund_id)
    assert refund is not None  # refunds are never deleted
    released, canceled, published = refunds.domain.cancel(payment, refund, code, seen_at=datetime.now(UTC))
    if released is not payment:
        await refunds.store.save(tx, canceled)
        await store.payments.save(tx, released)
        await events.put(tx, released, published)


def _is_needed(attempt: store.attempts.Attempt) -> bool:
    return attempt.refund is not None and attempt.refund.state is refunds.domain.State.REQUESTED


def _is_done(attempt: store.attempts.Attempt, observation: facts.Observation) -> bool:
    refund_id = attempt.refund.refund_id if attempt.refund else None
    return any(refund.refund_id == refund_id for refund in observation.refunds)


REFUND = operation.Operation(_refund, _refuse, _is_needed, _is_done)
