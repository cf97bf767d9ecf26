"""What others ask of payments: each command is noted once, and answered at once when it can't be carried out."""

from collections.abc import Callable
from dataclasses import replace

from chassis import database, errors, inbox, outbox
from contracts import payments
from payments import clients
from payments.domain import facts, payment, refund
from payments.domain.conflict import Refused
from payments.store import attempts
from payments.store import payments as store
from payments.store import refunds as refund_store

Wake = Callable[[], None]

_UNKNOWN = Refused("unknown_payment", "There is no such payment.")


async def create_payment(
    db: database.Database,
    delivery: inbox.Delivery,
    command: payments.CreatePayment,
    *,
    wake: Wake = lambda: None,
) -> None:
    """Note a payment that is to be created at its provider, and wake who does it."""
    wrapper = delivery.envelope
    asked = payment.requested(command, correlation_id=wrapper.correlation_id, traceparent=wrapper.traceparent)
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        if await store.add(tx, asked):
            await attempts.add(tx, asked, "create", receipt=command.receipt)
        else:
            known = await store.lock(tx, asked.payment_id)
            if known is None or not asked.is_same_request(known):
                raise errors.Unprocessable("another payment has this id")
        database.on_commit(tx, wake)


async def capture_payment(
    accounts: clients.Accounts,
    db: database.Database,
    delivery: inbox.Delivery,
    command: payments.CapturePayment,
    *,
    wake: Wake = lambda: None,
) -> None:
    """Note what is to be taken of a hold, or say why it can't be taken."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        try:
            await begin_capture(tx, accounts, command)
        except Refused as refused:
            said = payments.CaptureRefused(**_about(command, refused))
            await outbox.put(tx, [said])
        else:
            database.on_commit(tx, wake)


async def cancel_payment(
    accounts: clients.Accounts,
    db: database.Database,
    delivery: inbox.Delivery,
    command: payments.CancelPayment,
    *,
    wake: Wake = lambda: None,
) -> None:
    """Note that a hold is to be let go, or say why it can't be; what its provider knows nothing of ends at once."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        try:
            await begin_cancel(tx, accounts, command)
        except Refused as refused:
            said = payments.CancelRefused(**_about(command, refused))
            await outbox.put(tx, [said])
        else:
            database.on_commit(tx, wake)


async def refund_payment(
    accounts: clients.Accounts,
    db: database.Database,
    delivery: inbox.Delivery,
    command: payments.RefundPayment,
    *,
    wake: Wake = lambda: None,
) -> None:
    """Promise what was taken to a new refund, or say why there is nothing to promise."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        try:
            await begin_refund(tx, accounts, command)
        except Refused as refused:
            said = payments.RefundRefused(**_about(command, refused), refund_id=command.refund_id)
            await outbox.put(tx, [said])
        else:
            database.on_commit(tx, wake)


async def begin_capture(tx: database.Tx, accounts: clients.Accounts, command: payments.CapturePayment) -> None:
    """Note what is to be taken of a hold, whichever door it is asked at. Raises Refused."""
    known = await _known(tx, command)
    is_canceled = await attempts.is_open(tx, known, "cancel")
    capabilities = _capabilities(accounts, known)
    asked = payment.ask_capture(known, command.amount, capabilities, is_canceled=is_canceled)
    if asked is not None:
        _require_receipts(command.receipt, capabilities)
        await store.save(tx, asked)
        await attempts.add(tx, asked, "capture", receipt=command.receipt)


async def begin_cancel(tx: database.Tx, accounts: clients.Accounts, command: payments.CancelPayment) -> None:
    """Note that a hold is to be let go, or end what its provider knows nothing of. Raises Refused."""
    known = await _known(tx, command)
    capabilities = _capabilities(accounts, known)
    if known.state is payment.State.PENDING and facts.Capability.FETCH not in capabilities:
        ended, events = payment.cancel(known, "canceled_by_merchant")
        await store.save(tx, ended)
        await outbox.put(tx, events)
        return
    _require_cancelable(known, capabilities, is_captured=await attempts.is_open(tx, known, "capture"))
    if known.state is payment.State.AUTHORIZED:
        await attempts.add(tx, known, "cancel")


async def begin_refund(tx: database.Tx, accounts: clients.Accounts, command: payments.RefundPayment) -> None:
    """Promise what was taken to a new refund, whichever door it is asked at. Raises Refused, Unprocessable."""
    known = await _known(tx, command)
    before = await refund_store.read(tx, command.refund_id)
    if before is not None:
        if not refund.repeats(before, known.payment_id, command):
            raise errors.Unprocessable("another refund has this id")
        return
    capabilities = _capabilities(accounts, known)
    reserved, asked = refund.reserve(known, command, capabilities)
    _require_receipts(command.receipt, capabilities)
    await store.save(tx, reserved)
    await refund_store.save(tx, asked)
    await attempts.add(tx, reserved, "refund", asked.refund_id, command.receipt)


async def give_back_repeat(tx: database.Tx, charged: payment.Payment) -> None:
    """Begin the refund of an invoice that was paid once more by mistake; `charged` is the repetition, locked."""
    whole = refund.Refund(
        refund_id=payments.RefundId(charged.payment_id),
        payment_id=charged.payment_id,
        tenant=charged.tenant,
        amount_minor=charged.left_minor,
        state=refund.State.REQUESTED,
        reason="paid once more",
    )
    reserved = replace(charged, reserved_minor=whole.amount_minor, version=charged.version + 1)
    await store.save(tx, reserved)
    await refund_store.save(tx, whole)
    await attempts.add(tx, reserved, "refund", whole.refund_id)


async def _known(tx: database.Tx, command: payments.PaymentCommand) -> payment.Payment:
    known = await store.lock(tx, command.payment_id)
    # A payment of another tenant is as unknown as one that was never made.
    if known is None or known.tenant != command.tenant:
        raise _UNKNOWN
    return known


def _capabilities(accounts: clients.Accounts, known: payment.Payment) -> frozenset[facts.Capability]:
    provider = accounts.named(known.provider, known.account) if known.account else None
    return provider.capabilities if provider else frozenset()


def _require_cancelable(
    known: payment.Payment, capabilities: frozenset[facts.Capability], *, is_captured: bool
) -> None:
    if known.state is payment.State.CANCELED:
        return
    if known.state is not payment.State.AUTHORIZED:
        raise Refused("not_authorized", "The payment holds no money.")
    if facts.Capability.CANCEL not in capabilities:
        raise Refused("cancel_not_supported", "The provider can't let go of what it holds.")
    if is_captured:
        raise Refused("capture_under_way", "The payment is being captured.")


def _require_receipts(receipt: payments.Receipt | None, capabilities: frozenset[facts.Capability]) -> None:
    if receipt is not None and facts.Capability.RECEIPT not in capabilities:
        raise Refused("receipt_not_supported", "The provider makes no fiscal receipts.")


def _about(command: payments.PaymentCommand, refused: Refused) -> dict[str, object]:
    return {
        "tenant": command.tenant,
        "payment_id": command.payment_id,
        "code": refused.code,
        "detail": refused.detail,
    }
