"""The commands to capture an authorized payment and to cancel it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import contracts.payments
from chassis import database, errors, inbox, outbox
from payments import captures, store
from payments.domain import accounts, lifecycle
from payments.handlers import commands

Command = TypeVar("Command", contracts.payments.CapturePayment, contracts.payments.CancelPayment)
Refused = type[contracts.payments.CaptureRefused | contracts.payments.CancelRefused]


async def capture_payment(
    registry: accounts.Registry,
    db: database.Database,
    delivery: inbox.Delivery,
    command: contracts.payments.CapturePayment,
    *,
    wake: commands.Wake = lambda: None,
) -> None:
    """Store the request to capture an authorized payment, or publish why it is refused."""
    await _carry_out(
        registry, db, delivery, command, request=request_capture, refused=contracts.payments.CaptureRefused, wake=wake
    )


async def cancel_payment(
    registry: accounts.Registry,
    db: database.Database,
    delivery: inbox.Delivery,
    command: contracts.payments.CancelPayment,
    *,
    wake: commands.Wake = lambda: None,
) -> None:
    """Store the request to cancel an authorized payment, or publish why it is refused."""
    await _carry_out(
        registry, db, delivery, command, request=request_cancel, refused=contracts.payments.CancelRefused, wake=wake
    )


async def request_capture(
    tx: database.Tx, registry: accounts.Registry, command: contracts.payments.CapturePayment
) -> None:
    """Store the request to capture an authorized payment. Raises Refusal."""
    payment = await commands.lock_payment(tx, command)
    capabilities = registry.capabilities(payment.provider, payment.account)
    is_cancel_open = await store.attempts.is_open(tx, payment, "cancel")
    changed = captures.domain.request_capture(payment, command.amount, capabilities, is_cancel_open=is_cancel_open)
    if changed is not None:
        commands.require_receipt_support(command.receipt, capabilities)
        await store.payments.save(tx, changed)
        await store.attempts.add(tx, changed, "capture", receipt=command.receipt)


async def request_cancel(
    tx: database.Tx, registry: accounts.Registry, command: contracts.payments.CancelPayment
) -> None:
    """Store the request to cancel an authorized payment. Raises Refusal.

    A pending payment ends at once where its provider keeps no state of it.
    """
    payment = await commands.lock_payment(tx, command)
    capabilities = registry.capabilities(payment.provider, payment.account)
    if payment.state is lifecycle.State.PENDING and accounts.Capability.FETCH not in capabilities:
        canceled, events = lifecycle.cancel(payment, "canceled_by_merchant", "canceled_by_shop")
        await store.payments.save(tx, canceled)
        await outbox.put(tx, events)
        return
    is_capture_open = await store.attempts.is_open(tx, payment, "capture")
    captures.domain.require_cancelable(payment, capabilities, is_capture_open=is_capture_open)
    if payment.state is lifecycle.State.AUTHORIZED:
        await store.attempts.add(tx, payment, "cancel")


async def _carry_out(
    registry: accounts.Registry,
    db: database.Database,
    delivery: inbox.Delivery,
    command: Command,
    *,
    request: Callable[[database.Tx, accounts.Registry, Command], Awaitable[None]],
    refused: Refused,
    wake: commands.Wake,
) -> None:
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        try:
            await request(tx, registry, command)
        except errors.Refusal as refusal:
            event = refused(
                tenant=command.tenant, payment_id=command.payment_id, code=refusal.code, detail=refusal.detail
            )
            await outbox.put(tx, [event])
        else:
            database.on_commit(tx, wake)
