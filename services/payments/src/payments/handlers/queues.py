"""The queues of payments, and the handler of each message."""

from collections.abc import Callable
from functools import partial, update_wrapper

import contracts.ledger
import contracts.payments
import payments.captures.handlers
import payments.reconciliation.handlers
import payments.refunds.handlers
from chassis import batch, broker
from payments.domain import accounts
from payments.handlers import commands

BATCH_QUEUES = (
    batch.BatchQueue(
        "payments.ledger", (contracts.ledger.TransferPosted,), payments.reconciliation.handlers.follow_clearing
    ),
)

_NO_ACCOUNTS = accounts.Registry()


def command_queues(
    wake: Callable[[], None] = lambda: None, registry: accounts.Registry = _NO_ACCOUNTS
) -> tuple[broker.Queue, ...]:
    """Give the queues of this service; `wake` is called when a request to a provider was stored."""
    create = update_wrapper(partial(commands.create_payment, wake=wake), commands.create_payment)
    capture = update_wrapper(
        partial(payments.captures.handlers.capture_payment, registry, wake=wake),
        payments.captures.handlers.capture_payment,
    )
    cancel = update_wrapper(
        partial(payments.captures.handlers.cancel_payment, registry, wake=wake),
        payments.captures.handlers.cancel_payment,
    )
    refund = update_wrapper(
        partial(payments.refunds.handlers.refund_payment, registry, wake=wake),
        payments.refunds.handlers.refund_payment,
    )
    return (
        broker.Queue(
            "payments.commands",
            {
                contracts.payments.CreatePayment: create,
                contracts.payments.CapturePayment: capture,
                contracts.payments.CancelPayment: cancel,
                contracts.payments.RefundPayment: refund,
            },
        ),
    )
