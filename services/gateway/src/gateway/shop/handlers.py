"""The message handlers of the shop: projections of orders and of the catalog.

A projection is idempotent and independent of the order of events. Waiting requests are woken after its commit.
"""

from collections.abc import Callable, Mapping
from functools import partial
from uuid import UUID

from chassis import broker, database, inbox
from contracts import orders
from gateway.shop import domain, store

Publish = Callable[[UUID], None]
"""Wakes the requests that wait for a command."""

ORDER_STATUS: Mapping[type[orders.OrderEvent], domain.orders.Status] = {
    orders.OrderPlaced: "placed",
    orders.OrderPaid: "paid",
    orders.OrderRefused: "refused",
    orders.OrderCanceled: "canceled",
}
_ANSWERS = (orders.OrderPaid, orders.OrderRefused, orders.OrderCanceled)


async def project_order(
    publish: Publish, db: database.Database, delivery: inbox.Delivery, event: orders.OrderEvent
) -> None:
    """Project an event of an order."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await store.orders.project(tx, event, ORDER_STATUS[type(event)])
        if isinstance(event, _ANSWERS):
            database.on_commit(tx, partial(publish, event.order_id))


async def project_category(db: database.Database, delivery: inbox.Delivery, event: orders.CategoryListed) -> None:
    """Project a category as it is now."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.catalog.project_category(tx, event)


async def project_product(db: database.Database, delivery: inbox.Delivery, event: orders.ProductListed) -> None:
    """Project a product as it is now, visible or hidden."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.catalog.project_product(tx, event)


def queues(publish: Publish) -> tuple[broker.Queue, ...]:
    """Return the queues and the handler of each message."""
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
