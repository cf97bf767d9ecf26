"""Orders as rows: an order is read as it was written, and its lines and history never change."""

from datetime import datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from chassis import database
from contracts import orders
from contracts.message import Money, TenantId
from contracts.orders import CategoryId, ProductId
from orders.catalog.domain import Product
from orders.checkout import store
from orders.checkout.domain import saga

DEMO = TenantId("demo")
PRODUCTS = {
    ProductId(name): Product(
        tenant=DEMO,
        id=ProductId(name),
        category_id=CategoryId("all"),
        title=name.title(),
        description="",
        price=Money(amount_minor=price_minor, currency="RUB"),
        is_visible=True,
    )
    for name, price_minor in (("tea", 40_000), ("cup", 7))
}


def decision_for(*names: str, at: datetime) -> saga.Decision:
    command = orders.PlaceOrder(
        tenant="demo",
        order_id=uuid4(),
        user_id=uuid4(),
        items=tuple(orders.OrderItem(product_id=name, quantity=2) for name in names),
        payment_method="wallet",
    )
    return saga.place(command, PRODUCTS, at)


async def inserted(db: database.Database, *names: str) -> saga.Order:
    async with db.transaction() as tx:
        at = await store.now(tx)
        decision = decision_for(*names, at=at)
        await store.insert(tx, decision, at)
    return decision.order


async def test_an_order_is_read_as_it_was_written(db: database.Database) -> None:
    order = await inserted(db, "tea", "cup")

    async with db.transaction() as tx:
        assert await store.lock(tx, order.tenant, order.id) == order


async def test_an_order_refused_without_a_price_is_read_as_it_was_written(db: database.Database) -> None:
    order = await inserted(db, "nothing")

    async with db.transaction() as tx:
        assert await store.lock(tx, order.tenant, order.id) == order


async def test_an_order_of_another_tenant_is_not_found(db: database.Database) -> None:
    order = await inserted(db, "tea")

    async with db.transaction() as tx:
        assert await store.lock(tx, TenantId("other"), order.id) is None


async def test_only_unlocked_orders_past_their_deadline_are_overdue(db: database.Database) -> None:
    waiting, late, taken = [await inserted(db, "tea") for _ in range(3)]
    async with db.transaction() as tx:
        await tx.execute(
            "UPDATE orders SET deadline_at = now() - $2::interval WHERE id = ANY($1::uuid[])",
            [late.id, taken.id],
            timedelta(seconds=1),
        )

    async with db.transaction() as other, db.transaction() as tx:
        await store.lock(other, taken.tenant, taken.id)
        overdue = await store.lock_overdue(tx, limit=10)

    assert [order.id for order in overdue] == [late.id]
    assert waiting.deadline_at is not None


@pytest.mark.rule("K5")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE order_line SET unit_price_minor = 1",
        "DELETE FROM order_line",
        "UPDATE order_history SET reason = 'another'",
        "DELETE FROM order_history",
        "TRUNCATE order_history",
        "DELETE FROM orders",
    ],
)
async def test_the_service_cannot_rewrite_what_was_sold_or_what_happened(db: database.Database, statement: str) -> None:
    await inserted(db, "tea")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.transaction() as tx:
            await tx.execute(statement)
