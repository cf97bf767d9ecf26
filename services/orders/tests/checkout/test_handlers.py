"""The checkout on a real database, message by message; the test sends the events of the ledger."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis import call_stacks, database, errors
from chassis.testing import delivery_of, outbox_messages
from contracts import ledger, orders
from contracts.message import Money, TenantId
from orders.catalog import operations
from orders.checkout import handlers, timers
from orders.checkout.domain import saga

USER = UUID("00000000-0000-7000-8000-00000000000a")
DEMO = TenantId("demo")
AT = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Shop:
    """Calls the service's handlers, and reads what they stored and published."""

    db: database.Database

    async def place(self, command: orders.PlaceOrder) -> None:
        await handlers.place_order(self.db, delivery_of(command, "orders.commands"), command)

    async def handle(self, event: Any, *, event_id: UUID | None = None) -> None:
        await handlers.follow_hold(self.db, delivery_of(event, "orders.ledger", event_id=event_id), event)

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        async with self.db.transaction() as tx:
            return list(await tx.fetch(statement, *values))

    async def messages(self) -> list[str]:
        return [kind.removesuffix(".v1") for kind, _ in await outbox_messages(self.db) if ".listed" not in kind]

    async def states(self) -> list[str]:
        return [row["to_state"] for row in await self.fetch("SELECT to_state FROM order_history ORDER BY version")]

    async def state(self) -> str:
        [row] = await self.fetch("SELECT state FROM orders")
        return str(row["state"])

    async def pass_the_deadline(self) -> None:
        await self.fetch("UPDATE orders SET deadline_at = now() - interval '1 s' WHERE deadline_at IS NOT NULL")


@pytest.fixture
async def shop(db: database.Database) -> Shop:
    await operations.write(db, *operations.read(DEMO, operations.DEMO))
    return Shop(db)


def order_of(*items: tuple[str, int], order_id: UUID | None = None, user_id: UUID = USER) -> orders.PlaceOrder:
    return orders.PlaceOrder(
        tenant="demo",
        order_id=order_id or uuid4(),
        user_id=user_id,
        items=tuple(orders.OrderItem(product_id=name, quantity=quantity) for name, quantity in items),
        payment_method="wallet",
    )


def answer_to(command: orders.PlaceOrder, kind: Any, *, amount_minor: int = 40_000) -> Any:
    about = {
        "tenant": command.tenant,
        "hold_id": saga.place(command, {}, AT).order.hold_id,
        "reference": saga.reference_of(command.order_id),
    }
    if issubclass(kind, ledger.HoldRefusal):
        return kind(**about, code="insufficient_funds", detail="Not enough money.")
    account = ledger.AccountState(code="wallet", owner=USER, asset="RUB", balance_minor=1, held_minor=0, version=7)
    amount = Money(amount_minor=amount_minor, currency="RUB")
    return kind(**about, amount=amount, occurred_at=AT, account=account, expires_at=AT, transfer_id=uuid4())


TEA = ("ivan-chai", 1)


async def test_an_order_becomes_paid_when_its_hold_is_placed_and_captured(shop: Shop) -> None:
    order = order_of(TEA)

    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))
    await shop.handle(answer_to(order, ledger.HoldCaptured))

    assert await shop.messages() == [
        "orders.order.placed",
        "ledger.hold.place",
        "ledger.hold.capture",
        "orders.order.paid",
    ]
    assert await shop.states() == ["holding", "capturing", "paid"]


@pytest.mark.rule("K5")
async def test_the_price_at_placement_stays_when_the_product_changes_later(shop: Shop) -> None:
    order = order_of(("ivan-chai", 2))
    await shop.place(order)
    categories, products = operations.read(DEMO, operations.DEMO)
    nearly_free = Money(amount_minor=1, currency="RUB")
    changed = [replace(product, title="Renamed", price=nearly_free, is_visible=False) for product in products]
    await operations.write(shop.db, categories, changed)

    await shop.handle(answer_to(order, ledger.HoldPlaced, amount_minor=80_000))
    await shop.handle(answer_to(order, ledger.HoldCaptured, amount_minor=80_000))

    [paid] = [body for kind, body in await outbox_messages(shop.db) if kind == "orders.order.paid.v1"]
    assert paid["total"] == {"amount_minor": 80_000, "currency": "RUB"}
    assert paid["lines"] == [
        {
            "product_id": "ivan-chai",
            "title": "Ivan chai, 100 g",
            "quantity": 2,
            "unit_price": {"amount_minor": 40_000, "currency": "RUB"},
        }
    ]


@pytest.mark.rule("C1")
@pytest.mark.parametrize("product_id", ["travel-flask", "nothing", "'; DROP TABLE product; --"])
async def test_a_hidden_or_unknown_product_cannot_be_bought(shop: Shop, product_id: str) -> None:
    await shop.place(order_of(TEA, (product_id, 1)))

    [refused] = [body for kind, body in await outbox_messages(shop.db) if kind.startswith("orders.order.")]
    assert refused["code"] == "product_unavailable"
    assert await shop.messages() == ["orders.order.refused"]


async def test_a_product_of_another_tenant_cannot_be_bought(shop: Shop) -> None:
    await shop.place(order_of(TEA).model_copy(update={"tenant": "other"}))

    assert await shop.messages() == ["orders.order.refused"]


@pytest.mark.rule("O1")
async def test_parallel_copies_of_one_command_place_one_order(shop: Shop) -> None:
    order = order_of(TEA)

    await asyncio.gather(*(shop.place(order) for _ in range(20)))

    assert await shop.messages() == ["orders.order.placed", "ledger.hold.place"]
    assert await shop.states() == ["holding"]


async def test_the_same_order_placed_again_later_publishes_nothing(shop: Shop) -> None:
    order = order_of(TEA, ("sencha", 1))
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldRefused))

    await shop.place(order.model_copy(update={"items": tuple(reversed(order.items))}))

    assert await shop.messages() == ["orders.order.placed", "ledger.hold.place", "orders.order.refused"]


@pytest.mark.parametrize(
    "change", [{"user_id": uuid4()}, {"items": (orders.OrderItem(product_id="sencha", quantity=1),)}]
)
async def test_an_order_id_used_again_for_another_order_is_unprocessable(shop: Shop, change: dict[str, Any]) -> None:
    order = order_of(TEA)
    await shop.place(order)

    with pytest.raises(errors.Unprocessable):
        await shop.place(order.model_copy(update=change))

    assert await shop.messages() == ["orders.order.placed", "ledger.hold.place"]


async def test_a_refused_hold_refuses_the_order_with_the_ledgers_code(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)

    await shop.handle(answer_to(order, ledger.HoldRefused))

    [refused] = [body for kind, body in await outbox_messages(shop.db) if kind == "orders.order.refused.v1"]
    assert refused["code"] == "insufficient_funds"
    assert await shop.states() == ["holding", "refused"]


@pytest.mark.parametrize("kind", [ledger.CaptureRefused, ledger.HoldExpired, ledger.HoldReleased])
async def test_an_order_whose_hold_ends_uncaptured_is_canceled(shop: Shop, kind: type) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))

    await shop.handle(answer_to(order, kind))

    assert (await shop.messages())[-2:] == ["ledger.hold.release", "orders.order.canceled"]
    assert await shop.states() == ["holding", "capturing", "canceled"]


@pytest.mark.rule("O1")
async def test_one_event_delivered_three_times_at_once_has_one_effect(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    event, event_id = answer_to(order, ledger.HoldPlaced), uuid4()

    await asyncio.gather(*(shop.handle(event, event_id=event_id) for _ in range(3)))

    assert (await shop.messages()).count("ledger.hold.capture") == 1
    assert await shop.states() == ["holding", "capturing"]


@pytest.mark.rule("O1")
async def test_parallel_equal_events_under_different_ids_advance_the_order_once(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))

    await asyncio.gather(*(shop.handle(answer_to(order, ledger.HoldCaptured)) for _ in range(8)))

    assert (await shop.messages()).count("orders.order.paid") == 1
    assert await shop.states() == ["holding", "capturing", "paid"]


@pytest.mark.parametrize("kind", [ledger.HoldPlaced, ledger.HoldCaptured, ledger.CaptureRefused])
async def test_events_repeated_after_the_order_is_paid_change_nothing(shop: Shop, kind: type) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))
    await shop.handle(answer_to(order, ledger.HoldCaptured))
    before = await shop.messages()

    await shop.handle(answer_to(order, kind))

    assert await shop.messages() == before
    assert await shop.states() == ["holding", "capturing", "paid"]


async def test_a_hold_placed_after_the_order_was_canceled_is_released(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.pass_the_deadline()
    await timers.end_overdue(shop.db)

    await shop.handle(answer_to(order, ledger.HoldPlaced))

    assert (await shop.messages())[2:] == ["ledger.hold.release", "orders.order.canceled", "ledger.hold.release"]
    assert await shop.state() == "canceled"


async def test_money_captured_after_the_order_was_canceled_pays_it(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))
    await shop.handle(answer_to(order, ledger.CaptureRefused))

    await shop.handle(answer_to(order, ledger.HoldCaptured))

    published = [
        (kind, body["version"]) for kind, body in await outbox_messages(shop.db) if kind.startswith("orders.order.")
    ]
    assert published == [("orders.order.placed.v1", 1), ("orders.order.canceled.v1", 3), ("orders.order.paid.v1", 4)]
    assert await shop.state() == "paid"


@pytest.mark.parametrize("_attempt", range(5))
async def test_a_late_timeout_and_an_answer_at_once_have_exactly_one_outcome(shop: Shop, _attempt: int) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.pass_the_deadline()

    await asyncio.gather(
        timers.end_overdue(shop.db),
        shop.handle(answer_to(order, ledger.HoldPlaced)),
        timers.end_overdue(shop.db),
    )

    outcome = (await shop.messages())[2:]
    assert (await shop.state(), outcome) in [
        ("capturing", ["ledger.hold.capture"]),
        ("canceled", ["ledger.hold.release", "orders.order.canceled", "ledger.hold.release"]),
    ]


async def test_holds_that_belong_to_no_order_are_ignored(shop: Shop) -> None:
    event = answer_to(order_of(TEA), ledger.HoldPlaced).model_copy(update={"reference": "job:42"})

    await shop.handle(event)

    assert await shop.messages() == []


@pytest.mark.parametrize("reference", ["order:42", "order:5f0c2d1e-8a4b-4c3d-9e6f-7a8b9c0d1e2f"])
async def test_a_hold_of_an_unknown_order_is_unprocessable(shop: Shop, reference: str) -> None:
    event = answer_to(order_of(TEA), ledger.HoldPlaced).model_copy(update={"reference": reference})

    with pytest.raises(errors.Unprocessable):
        await shop.handle(event)


async def test_another_hold_with_the_orders_reference_is_unprocessable(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)

    with pytest.raises(errors.Unprocessable):
        await shop.handle(answer_to(order, ledger.HoldCaptured).model_copy(update={"hold_id": uuid4()}))

    assert await shop.state() == "holding"


async def test_an_event_that_cannot_be_true_is_unprocessable_and_changes_nothing(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))
    await shop.handle(answer_to(order, ledger.HoldCaptured))

    with pytest.raises(errors.Unprocessable):
        await shop.handle(answer_to(order, ledger.HoldExpired))

    assert await shop.states() == ["holding", "capturing", "paid"]


@pytest.mark.rule("O1")
async def test_the_history_of_an_order_has_every_version_up_to_its_state(shop: Shop) -> None:
    order = order_of(TEA)
    await shop.place(order)
    await shop.handle(answer_to(order, ledger.HoldPlaced))
    await shop.pass_the_deadline()
    await timers.end_overdue(shop.db)
    await shop.handle(answer_to(order, ledger.HoldCaptured))

    rows = await shop.fetch("SELECT version, from_state, to_state, reason FROM order_history ORDER BY version")

    assert [tuple(row) for row in rows] == [
        (1, None, "holding", "placed"),
        (2, "holding", "capturing", "hold_placed"),
        (3, "capturing", "capturing", "capture_asked_again"),
        (4, "capturing", "paid", "hold_captured"),
    ]
    assert await shop.state() == rows[-1]["to_state"]


async def test_a_message_reaches_each_of_its_statements_in_few_calls(shop: Shop) -> None:
    order = order_of(TEA)

    with call_stacks.recorded() as stacks:
        await shop.place(order)
        await shop.handle(answer_to(order, ledger.HoldPlaced))

    assert len(stacks[0]) <= 3, stacks[0]
    assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX, stacks
