"""Deadlines and the gauge on a real database."""

import asyncio
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from chassis import database
from chassis.testing import delivery_of, outbox_messages
from contracts import orders
from contracts.message import TenantId
from orders.catalog import operations
from orders.checkout import handlers, timers
from orders.checkout.domain import saga


async def place_orders(db: database.Database, count: int) -> None:
    await operations.write(db, *operations.read(TenantId("demo"), operations.DEMO))
    for _ in range(count):
        command = orders.PlaceOrder(
            tenant="demo",
            order_id=uuid4(),
            user_id=uuid4(),
            items=(orders.OrderItem(product_id="honey", quantity=1),),
            payment_method="wallet",
        )
        await handlers.place_order(db, delivery_of(command, "orders.commands"), command)


async def execute(db: database.Database, statement: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(statement)


async def kinds(db: database.Database) -> list[str]:
    return [kind for kind, _ in await outbox_messages(db)]


async def test_an_order_within_its_deadline_does_not_change(db: database.Database) -> None:
    await place_orders(db, 1)

    assert await timers.end_overdue(db) == 0

    assert "orders.order.canceled.v1" not in await kinds(db)


@pytest.mark.rule("O4")
async def test_two_processes_advance_each_overdue_order_once(
    db: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "BATCH", 3)
    await place_orders(db, 8)
    await execute(db, "UPDATE orders SET deadline_at = now() - interval '1 s'")

    ended = 0
    while done := sum(await asyncio.gather(timers.end_overdue(db), timers.end_overdue(db))):
        ended += done

    assert ended == 8
    assert (await kinds(db)).count("orders.order.canceled.v1") == 8
    assert (await kinds(db)).count("ledger.hold.release.v1") == 8


async def test_an_unanswered_capture_stays_in_the_gauge_after_the_last_retry(db: database.Database) -> None:
    await place_orders(db, 2)
    await execute(
        db,
        f"UPDATE orders SET state = 'capturing', asks = {saga.CAPTURE_RETRIES_MAX},"
        " deadline_at = now() - interval '1 s' WHERE id = (SELECT id FROM orders LIMIT 1)",
    )

    await timers.end_overdue(db)
    await timers.measure(db)

    assert REGISTRY.get_sample_value("kopilka_orders_in_state", {"state": "capturing"}) == 1
    assert REGISTRY.get_sample_value("kopilka_orders_in_state", {"state": "holding"}) == 1
    assert await timers.end_overdue(db) == 0
