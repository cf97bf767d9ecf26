"""The command to create a payment, and what every other command about a payment checks first."""

from collections.abc import Callable

import contracts.payments
from chassis import database, errors, inbox
from payments import store
from payments.domain import accounts, lifecycle, refusals

Wake = Callable[[], None]


async def create_payment(
    db: database.Database,
    delivery: inbox.Delivery,
    command: contracts.payments.CreatePayment,
    *,
    wake: Wake = lambda: None,
) -> None:
    """Store a payment and the request to create it at its provider, and wake the timer that sends requests."""
    wrapper = delivery.envelope
    payment = lifecycle.requested(command, correlation_id=wrapper.correlation_id, traceparent=wrapper.traceparent)
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        if await store.payments.add(tx, payment):
            await store.attempts.add(tx, payment, "create", receipt=command.receipt or command.receipt_contact)
        else:
            stored = await store.payments.lock(tx, payment.payment_id)
            if stored is None or not payment.is_same_request(stored):
                raise errors.Unprocessable("another payment has this id")
        database.on_commit(tx, wake)


async def lock_payment(tx: database.Tx, command: contracts.payments.PaymentCommand) -> lifecycle.Payment:
    """Lock the payment that a command is about. Raises UnknownPayment, for a payment of another tenant as well."""
    payment = await store.payments.lock(tx, command.payment_id)
    if payment is None or payment.tenant != command.tenant:
        raise refusals.UnknownPayment
    return payment


def require_receipt_support(
    receipt: contracts.payments.Receipt | None, capabilities: frozenset[accounts.Capability]
) -> None:
    """Raise ReceiptNotSupported for a receipt that the account can't make."""
    if receipt is not None and accounts.Capability.RECEIPT not in capabilities:
        raise refusals.ReceiptNotSupported
