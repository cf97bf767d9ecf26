"""The message door of payments, and the places where what a provider told changes something of ours.

No provider is called here: what needs a call is stored and left to the timers.
"""

from collections.abc import Callable
from functools import partial, update_wrapper

from chassis import batch, broker
from contracts import ledger, payments
from payments import clients
from payments.handlers import balances, commands

BATCH_QUEUES = (batch.BatchQueue("payments.ledger", (ledger.TransferPosted,), balances.follow_clearing),)

_NOBODY = clients.Accounts(())


def queues(wake: Callable[[], None] = lambda: None, accounts: clients.Accounts = _NOBODY) -> tuple[broker.Queue, ...]:
    """Give the queues of this service; `wake` is called when something is to be asked of a provider."""
    create = update_wrapper(partial(commands.create_payment, wake=wake), commands.create_payment)
    capture = update_wrapper(partial(commands.capture_payment, accounts, wake=wake), commands.capture_payment)
    cancel = update_wrapper(partial(commands.cancel_payment, accounts, wake=wake), commands.cancel_payment)
    refund = update_wrapper(partial(commands.refund_payment, accounts, wake=wake), commands.refund_payment)
    return (
        broker.Queue(
            "payments.commands",
            {
                payments.CreatePayment: create,
                payments.CapturePayment: capture,
                payments.CancelPayment: cancel,
                payments.RefundPayment: refund,
            },
        ),
    )
