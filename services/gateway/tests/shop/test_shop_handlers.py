"""Projections of orders and the catalog end the same, in whatever order and number events come."""

import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis import database, envelope
from contracts import message, orders
from gateway.shop import store

TENANT = message.TenantId("demo")


@pytest.fixture
def user_id() -> str:
    return str(uuid4())


async def order_of(db: database.Database, order_id: str, user_id: str) -> Any:
    async with db.transaction() as tx:
        return await store.orders.get(tx, TENANT, UUID(order_id), owner=message.UserId(UUID(user_id)))


async def test_an_order_ends_the_same_in_every_order_of_its_events(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    for last, status in ((orders.OrderPaid, "paid"), (orders.OrderCanceled, "canceled")):
        for order in itertools.permutations((orders.OrderPlaced, last)):
            order_id = str(uuid4())
            await services.publish(*(build.order(kind, order_id, user_id) for kind in (*order, *order)))

            shown = await order_of(db, order_id, user_id)
            assert shown.status == status
            assert [line.title for line in shown.items] == ["A mug"]


async def test_an_older_version_of_the_catalog_changes_nothing(
    db: database.Database, services: Any, build: Any
) -> None:
    await services.publish(build.product("mug", version=2, title="New"), build.product("mug", version=1, title="Old"))
    for version, title in ((2, "New"), (1, "Old")):
        await services.publish(
            orders.CategoryListed(tenant="demo", category_id="kitchen", title=title, version=version)
        )

    async with db.transaction() as tx:
        product = await store.catalog.product(tx, TENANT, "mug")
        categories = await store.catalog.categories(tx, TENANT, after=store.catalog.START, limit=10)

    assert product is not None
    assert product.title == "New"
    assert [category.title for category in categories] == ["New"]


async def test_a_message_that_was_handled_before_is_skipped(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    order_id = str(uuid4())
    products = (build.product("mug", title="First"), build.product("mug", title="Second", version=2))
    categories = [orders.CategoryListed(tenant="demo", category_id="c", title=f"T{n}", version=n) for n in (1, 2)]
    first = (build.order(orders.OrderPlaced, order_id, user_id), products[0], categories[0])
    second = (build.order(orders.OrderPaid, order_id, user_id), products[1], categories[1])

    for before, after in zip(first, second, strict=True):
        event_id = envelope.uuid7()
        await services.publish(before, event_id=event_id)
        await services.publish(after, event_id=event_id)

    assert (await order_of(db, order_id, user_id)).status == "placed"
    async with db.transaction() as tx:
        product = await store.catalog.product(tx, TENANT, "mug")
        listed = await store.catalog.categories(tx, TENANT, after=store.catalog.START, limit=10)
    assert product is not None
    assert (product.title, listed[0].title) == ("First", "T1")
