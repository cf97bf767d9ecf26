"""The message handlers of the wallet: projections of payments and of the ledger.

A projection is idempotent and independent of the order of events. Waiting requests are woken after its commit.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from chassis import batch, database, inbox
from contracts import ledger, payments
from gateway.wallet import domain, store

Publish = Callable[[UUID], None]
"""Wakes the requests that wait for a command."""

PAYMENT_STATUS: Mapping[type[payments.PaymentEvent], domain.payments.Status] = {
    payments.PaymentCreated: "pending",
    payments.PaymentFailed: "failed",
    payments.PaymentAuthorized: "authorized",
    payments.PaymentPaid: "paid",
    payments.PaymentPaidLate: "paid",
    payments.PaymentCanceled: "canceled",
    payments.PaymentRefunded: "refunded",
    payments.RefundReversed: "paid",
}
# A request waits for the provider's page or its refusal, not for the payer.
_ANSWERS = (payments.PaymentCreated, payments.PaymentFailed)


async def project_payments(
    publish: Publish, db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, payments.PaymentEvent]]
) -> None:
    """Project the events of payments."""
    async with db.transaction() as tx:
        claimed = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        fresh = [(delivery, event) for delivery, event in deliveries if delivery.envelope.id in claimed]
        changes = [(event, _status_of(event), delivery.envelope.time) for delivery, event in fresh]
        await store.payments.project(tx, changes)
        for _, event in fresh:
            if isinstance(event, _ANSWERS):
                database.on_commit(tx, partial(publish, event.payment_id))


async def project_ledger(
    publish: Publish,
    db: database.Database,
    deliveries: Sequence[tuple[inbox.Delivery, ledger.TransferPosted | ledger.HoldEvent]],
) -> None:
    """Project transfers and holds to the statements and balances of their owners."""
    async with db.transaction() as tx:
        claimed = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        changes = [
            change
            for delivery, event in deliveries
            if delivery.envelope.id in claimed
            for change in domain.statement.changes_of(event, recorded_at=delivery.envelope.time)
        ]
        await store.statement.project(tx, changes)
        for order_id in filter(None, map(domain.statement.captured_order, changes)):
            database.on_commit(tx, partial(publish, order_id))


def batch_queues(publish: Publish) -> tuple[batch.BatchQueue, ...]:
    """Return the batch queues, which carry every payment and every transfer."""
    movements = (ledger.TransferPosted, ledger.HoldPlaced, ledger.HoldCaptured, ledger.HoldReleased, ledger.HoldExpired)
    return (
        batch.BatchQueue("gateway.payments", tuple(PAYMENT_STATUS), partial(project_payments, publish)),
        batch.BatchQueue("gateway.ledger", movements, partial(project_ledger, publish)),
    )


def _status_of(event: payments.PaymentEvent) -> domain.payments.Status:
    if isinstance(event, payments.PaymentRefunded) and not event.is_full:
        return "partially_refunded"
    if isinstance(event, payments.RefundReversed) and event.refunded is not None:
        return "partially_refunded"
    return PAYMENT_STATUS[type(event)]
