"""The command to refund a payment, and the refund of an invoice that was paid twice."""

from dataclasses import replace

import contracts.payments
from chassis import database, errors, inbox, outbox
from payments import refunds, store
from payments.domain import accounts, lifecycle
from payments.handlers import commands


async def refund_payment(
    registry: accounts.Registry,
    db: database.Database,
    delivery: inbox.Delivery,
    command: contracts.payments.RefundPayment,
    *,
    wake: commands.Wake = lambda: None,
) -> None:
    """Reserve money of a payment for a new refund and store the request for it, or publish why it is refused."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        try:
            await request_refund(tx, registry, command)
        except errors.Refusal as refusal:
            event = contracts.payments.RefundRefused(
                tenant=command.tenant,
                payment_id=command.payment_id,
                refund_id=command.refund_id,
                code=refusal.code,
                detail=refusal.detail,
            )
            await outbox.put(tx, [event])
        else:
            database.on_commit(tx, wake)


async def request_refund(
    tx: database.Tx, registry: accounts.Registry, command: contracts.payments.RefundPayment
) -> None:
    """Reserve money of a payment for a new refund and store the request for it. Raises Refusal, Unprocessable."""
    payment = await commands.lock_payment(tx, command)
    stored = await refunds.store.read(tx, command.refund_id)
    if stored is not None:
        if not refunds.domain.is_same_request(stored, payment.payment_id, command):
            raise errors.Unprocessable("another refund has this id")
        return
    capabilities = registry.capabilities(payment.provider, payment.account)
    reserved, refund = refunds.domain.reserve(payment, command, capabilities)
    commands.require_receipt_support(command.receipt, capabilities)
    await store.payments.save(tx, reserved)
    await refunds.store.save(tx, refund)
    await store.attempts.add(tx, reserved, "refund", refund.refund_id, command.receipt)
    await outbox.put(tx, [refunds.domain.requested(reserved, refund)])


async def refund_repeated_charge(tx: database.Tx, payment: lifecycle.Payment) -> None:
    """Request the refund of an invoice that was paid once more by mistake; `payment` is the repetition, locked."""
    refund = refunds.domain.Refund(
        refund_id=contracts.payments.RefundId(payment.payment_id),
        payment_id=payment.payment_id,
        tenant=payment.tenant,
        amount_minor=payment.left_minor,
        state=refunds.domain.State.REQUESTED,
        reason="paid once more",
    )
    reserved = replace(payment, reserved_minor=refund.amount_minor, version=payment.version + 1)
    await store.payments.save(tx, reserved)
    await refunds.store.save(tx, refund)
    await store.attempts.add(tx, reserved, "refund", refund.refund_id)
    await outbox.put(tx, [refunds.domain.requested(reserved, refund)])
