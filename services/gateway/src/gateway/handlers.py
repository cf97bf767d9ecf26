"""The message door: what other services said becomes what the gateway's clients read.

Every projection is harmless when repeated or reordered, and whoever waits is woken only after its commit.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from chassis import batch, broker, database, inbox
from contracts import ledger, orders, payments
from gateway.domain import statement, views
from gateway.store import catalog, wallet
from gateway.store import orders as order_store
from gateway.store import payments as payment_store

Publish = Callable[[UUID], None]

PAYMENT_STATUS: Mapping[type[payments.PaymentEvent], views.PaymentStatus] = {
    payments.PaymentCreated: "pending",
    payments.PaymentFailed: "failed",
    payments.PaymentAuthorized: "authorized",
    payments.PaymentPaid: "paid",
    payments.PaymentPaidLate: "paid",
    payments.PaymentCanceled: "canceled",
    payments.PaymentRefunded: "refunded",
}
ORDER_STATUS: Mapping[type[orders.OrderEvent], views.OrderStatus] = {
    orders.OrderPlaced: "placed",
    orders.OrderPaid: "paid",
    orders.OrderRefused: "refused",
    orders.OrderCanceled: "canceled",
}
# A request waits for the provider's page or its refusal, not for the payer.
_ANSWERS_PAYMENT = (payments.PaymentCreated, payments.PaymentFailed)
_ANSWERS_ORDER = (orders.OrderPaid, orders.OrderRefused, orders.OrderCanceled)


async def project_payments(
    publish: Publish, db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, payments.PaymentEvent]]
) -> None:
    """Show payments as they are now."""
    async with db.transaction() as tx:
        claimed = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        fresh = [(delivery, event) for delivery, event in deliveries if delivery.envelope.id in claimed]
        changes = [(event, _status_of(event), delivery.envelope.time) for delivery, event in fresh]
        await payment_store.project(tx, changes)
        for _, event in fresh:
            if isinstance(event, _ANSWERS_PAYMENT):
                database.on_commit(tx, partial(publish, event.payment_id))


async def project_order(
    publish: Publish, db: database.Database, delivery: inbox.Delivery, event: orders.OrderEvent
) -> None:
    """Show an order as it is now."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await order_store.project(tx, event, ORDER_STATUS[type(event)])
        if isinstance(event, _ANSWERS_ORDER):
            database.on_commit(tx, partial(publish, event.order_id))


async def project_category(db: database.Database, delivery: inbox.Delivery, event: orders.CategoryListed) -> None:
    """Show a category as it is now."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await catalog.list_category(tx, event)


async def project_product(db: database.Database, delivery: inbox.Delivery, event: orders.ProductListed) -> None:
    """Show a product as it is now, or no longer."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await catalog.list_product(tx, event)


async def project_ledger(
    publish: Publish,
    db: database.Database,
    deliveries: Sequence[tuple[inbox.Delivery, ledger.TransferPosted | ledger.HoldEvent]],
) -> None:
    """Add many movements to the statements and balances of their owners."""
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        changes = [
            change
            for delivery, event in deliveries
            if delivery.envelope.id in fresh
            for change in statement.changes_of(event, recorded_at=delivery.envelope.time)
        ]
        await wallet.project(tx, changes)
        for order_id in filter(None, map(statement.captured_order, changes)):
            database.on_commit(tx, partial(publish, order_id))


def _status_of(event: payments.PaymentEvent) -> views.PaymentStatus:
    if isinstance(event, payments.PaymentRefunded) and not event.is_full:
        return "partially_refunded"
    return PAYMENT_STATUS[type(event)]


def queues(publish: Publish) -> tuple[broker.Queue, ...]:
    """Return the queues and the handler of each message; `publish` wakes the requests that wait for a command."""
    return (
        broker.Queue(
            "gateway.orders",
            {
                **dict.fromkeys(ORDER_STATUS, partial(project_order, publish)),
                orders.CategoryListed: project_category,
                orders.ProductListed: project_product,
            },
        ),
    )


def batch_queues(publish: Publish) -> tuple[batch.BatchQueue, ...]:
    """Return the batch queues, which carry every payment and every transfer."""
    movements = (ledger.TransferPosted, ledger.HoldPlaced, ledger.HoldCaptured, ledger.HoldReleased, ledger.HoldExpired)
    return (
        batch.BatchQueue("gateway.payments", tuple(PAYMENT_STATUS), partial(project_payments, publish)),
        batch.BatchQueue("gateway.ledger", movements, partial(project_ledger, publish)),
    )
