"""The saga as tables: every state with every event, and every refusal of an order without a price."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product as pairs
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest

from contracts import ledger, orders
from contracts.message import AMOUNT_MINOR_MAX, Money, TenantId
from contracts.orders import CategoryId, ProductId
from orders.catalog.domain import Product
from orders.checkout.domain import saga
from orders.checkout.domain.saga import State

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
USER = UUID("00000000-0000-7000-8000-00000000000a")
EVENTS = get_args(saga.OrderEvent)
TEA = ProductId("tea")
DEMO = TenantId("demo")


def rub(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="RUB")


def product(product_id: str = TEA, price: Money | None = None, *, is_visible: bool = True) -> Product:
    return Product(
        tenant=DEMO,
        id=ProductId(product_id),
        category_id=CategoryId("drinks"),
        title=product_id.title(),
        description="",
        price=price or rub(40_000),
        is_visible=is_visible,
    )


def command_for(*items: tuple[str, int]) -> orders.PlaceOrder:
    return orders.PlaceOrder(
        tenant="demo",
        order_id=uuid4(),
        user_id=USER,
        items=tuple(orders.OrderItem(product_id=name, quantity=quantity) for name, quantity in items),
        payment_method="wallet",
    )


def placed(*items: tuple[str, int], **products: Product) -> saga.Decision:
    shop = {TEA: product(), **{ProductId(name): product for name, product in products.items()}}
    return saga.place(command_for(*items), shop, AT)


def order_in(state: State, **changes: Any) -> saga.Order:
    order = placed((TEA, 2)).order
    deadline_at = AT if state in saga.OPEN else None
    return replace(order, **{"state": state, "version": 3, "deadline_at": deadline_at, **changes})


def event_of(kind: Any, order: saga.Order) -> Any:
    if kind is saga.Timeout:
        return kind()
    about = {"tenant": order.tenant, "hold_id": order.hold_id, "reference": saga.reference_of(order.id)}
    if issubclass(kind, ledger.HoldRefusal):
        return kind(**about, code="insufficient_funds", detail="Not enough money.")
    account = ledger.AccountState(
        code="wallet", owner=USER, asset="RUB", balance_minor=100_000, held_minor=0, version=7
    )
    more = {"expires_at": AT, "transfer_id": uuid4()}
    return kind(**about, amount=order.price, occurred_at=AT, account=account, **more)


# --- placing ---------------------------------------------------------------------------------------------


@pytest.mark.rule("K5")
def test_a_placed_order_has_the_prices_of_the_catalog_and_requests_its_hold() -> None:
    decision = placed((TEA, 2), ("cup", 1), cup=product("cup", rub(5)))

    order_placed, place_hold = decision.messages
    assert isinstance(order_placed, orders.OrderPlaced)
    assert [(line.product_id, line.quantity, line.unit_price) for line in order_placed.lines] == [
        (TEA, 2, rub(40_000)),
        ("cup", 1, rub(5)),
    ]
    assert order_placed.total == rub(80_005)
    assert place_hold == ledger.PlaceHold(
        tenant="demo",
        hold_id=decision.order.hold_id,
        user_id=USER,
        amount=rub(80_005),
        reference=f"order:{decision.order.id}",
        expires_at=AT + timedelta(minutes=15),
    )
    assert decision.order.state is State.HOLDING
    assert decision.order.deadline_at == AT + timedelta(seconds=60)


def test_the_hold_of_an_order_is_always_the_same_and_never_anothers() -> None:
    order, other = placed((TEA, 1)).order, placed((TEA, 1)).order

    again = replace(order, version=9)

    assert again.hold_id == order.hold_id != other.hold_id


def test_two_items_of_one_product_are_added_up() -> None:
    decision = placed((TEA, 2), ("cup", 1), (TEA, 3), cup=product("cup"))

    assert decision.order.quantities == {TEA: 5, "cup": 1}
    assert [line.quantity for line in decision.order.lines] == [5, 1]


@pytest.mark.parametrize(
    ("items", "products", "code"),
    [
        pytest.param([("nothing", 1)], {}, "product_unavailable", id="unknown"),
        pytest.param(
            [("secret", 1)], {"secret": product("secret", is_visible=False)}, "product_unavailable", id="hidden"
        ),
        pytest.param(
            [(TEA, 1), ("cup", 1)],
            {"cup": product("cup", Money(amount_minor=1, currency="USD"))},
            "mixed_currencies",
            id="currencies",
        ),
        pytest.param([("gold", 2)], {"gold": product("gold", rub(AMOUNT_MINOR_MAX))}, "total_too_large", id="overflow"),
        pytest.param([(TEA, 1_000), (TEA, 1)], {}, "quantity_too_large", id="grouped quantity"),
    ],
)
def test_an_order_that_cannot_be_sold_is_refused_and_holds_nothing(
    items: list[tuple[str, int]], products: dict[str, Product], code: str
) -> None:
    decision = placed(*items, **products)

    [refused] = decision.messages
    assert isinstance(refused, orders.OrderRefused)
    assert (refused.code, refused.version) == (code, 1)
    assert decision.order.state is State.REFUSED
    assert (decision.order.lines, decision.order.total, decision.order.deadline_at) == ((), None, None)


def test_the_largest_total_that_the_ledger_can_hold_is_accepted() -> None:
    decision = placed(("gold", 1), gold=product("gold", rub(AMOUNT_MINOR_MAX)))

    assert decision.order.total == rub(AMOUNT_MINOR_MAX)


# --- every state with every event ------------------------------------------------------------------------

IGNORED, IMPOSSIBLE = None, saga.Contradiction
Outcome = tuple[State, list[str]] | type[saga.Contradiction] | None

EXPECTED: dict[State, dict[type, Outcome]] = {
    State.HOLDING: {
        ledger.HoldPlaced: (State.CAPTURING, ["CaptureHold"]),
        ledger.HoldRefused: (State.REFUSED, ["OrderRefused"]),
        ledger.HoldCaptured: (State.PAID, ["OrderPaid"]),
        ledger.CaptureRefused: IMPOSSIBLE,
        ledger.HoldReleased: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
        ledger.HoldExpired: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
        saga.Timeout: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
    },
    State.CAPTURING: {
        ledger.HoldPlaced: IGNORED,
        ledger.HoldRefused: IMPOSSIBLE,
        ledger.HoldCaptured: (State.PAID, ["OrderPaid"]),
        ledger.CaptureRefused: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
        ledger.HoldReleased: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
        ledger.HoldExpired: (State.CANCELED, ["ReleaseHold", "OrderCanceled"]),
        saga.Timeout: (State.CAPTURING, ["CaptureHold"]),
    },
    State.PAID: {
        ledger.HoldPlaced: IGNORED,
        ledger.HoldRefused: IMPOSSIBLE,
        ledger.HoldCaptured: IGNORED,
        ledger.CaptureRefused: IGNORED,
        ledger.HoldReleased: IMPOSSIBLE,
        ledger.HoldExpired: IMPOSSIBLE,
        saga.Timeout: IGNORED,
    },
    State.REFUSED: {
        ledger.HoldPlaced: IMPOSSIBLE,
        ledger.HoldRefused: IGNORED,
        ledger.HoldCaptured: IMPOSSIBLE,
        ledger.CaptureRefused: IMPOSSIBLE,
        ledger.HoldReleased: IMPOSSIBLE,
        ledger.HoldExpired: IMPOSSIBLE,
        saga.Timeout: IGNORED,
    },
    State.CANCELED: {
        ledger.HoldPlaced: (State.CANCELED, ["ReleaseHold"]),
        ledger.HoldRefused: IGNORED,
        ledger.HoldCaptured: (State.PAID, ["OrderPaid"]),
        ledger.CaptureRefused: IGNORED,
        ledger.HoldReleased: IGNORED,
        ledger.HoldExpired: IGNORED,
        saga.Timeout: IGNORED,
    },
}


def test_every_state_has_a_rule_for_every_event() -> None:
    rules = {(state, kind) for kind, states in saga.RULES.items() for state in states}

    assert rules == set(pairs(State, EVENTS))


def outcome_of(order: saga.Order, event: Any) -> Outcome:
    try:
        decision = saga.decide(order, event, AT)
    except saga.Contradiction:
        return saga.Contradiction
    if decision is None:
        return None
    return decision.order.state, [type(message).__name__ for message in decision.messages]


@pytest.mark.rule("O1")
@pytest.mark.parametrize(
    ("state", "kind"), list(pairs(State, EVENTS)), ids=lambda part: part if isinstance(part, str) else part.__name__
)
def test_each_event_leads_from_each_state_to_that_of_the_table(state: State, kind: type) -> None:
    order = order_in(state)

    assert outcome_of(order, event_of(kind, order)) == EXPECTED[state][kind]


@pytest.mark.parametrize(("state", "kind"), list(pairs(State, EVENTS)))
def test_every_decision_has_a_new_version_and_only_open_orders_a_deadline(state: State, kind: type) -> None:
    order = order_in(state)

    try:
        decision = saga.decide(order, event_of(kind, order), AT)
    except saga.Contradiction:
        return

    if decision is not None:
        after = decision.order
        assert after.version == order.version + 1
        assert (after.deadline_at is not None) == (after.state in saga.OPEN)
        versions = {message.version for message in decision.messages if isinstance(message, orders.OrderEvent)}
        assert versions <= {after.version}


# --- the messages ----------------------------------------------------------------------------------------


def test_a_placed_hold_is_captured_whole() -> None:
    order = order_in(State.HOLDING)

    decision = saga.decide(order, event_of(ledger.HoldPlaced, order), AT)

    assert decision is not None
    assert decision.messages == (ledger.CaptureHold(tenant="demo", hold_id=order.hold_id, amount_minor=80_000),)


def test_a_refusal_carries_the_ledgers_code_to_the_buyer() -> None:
    order = order_in(State.HOLDING)

    decision = saga.decide(order, event_of(ledger.HoldRefused, order), AT)

    assert decision is not None
    [refused] = decision.messages
    assert isinstance(refused, orders.OrderRefused)
    assert (refused.code, refused.detail) == ("insufficient_funds", "Not enough money.")


@pytest.mark.parametrize("kind", [ledger.HoldPlaced, ledger.HoldCaptured])
def test_an_amount_that_is_not_the_orders_is_a_contradiction(kind: type) -> None:
    order = order_in(State.HOLDING)
    event = event_of(kind, order).model_copy(update={"amount": rub(1)})

    with pytest.raises(saga.Contradiction):
        saga.decide(order, event, AT)


@pytest.mark.rule("O4")
def test_an_order_without_a_hold_in_time_is_canceled_and_releases_what_may_be_held() -> None:
    order = order_in(State.HOLDING)

    decision = saga.decide(order, saga.Timeout(), AT)

    assert decision is not None
    release, canceled = decision.messages
    assert release == ledger.ReleaseHold(tenant="demo", hold_id=order.hold_id)
    assert isinstance(canceled, orders.OrderCanceled)
    assert canceled.code == "timeout"


@pytest.mark.rule("O4")
def test_an_unanswered_capture_is_repeated_with_doubling_waits_and_never_canceled() -> None:
    order, waits, commands = order_in(State.CAPTURING), [], 0

    while order.deadline_at is not None:
        decision = saga.decide(order, saga.Timeout(), AT)
        assert decision is not None
        order = decision.order
        commands += len(decision.messages)
        waits.append(order.deadline_at and (order.deadline_at - AT).total_seconds())

    assert waits == [120, 240, 480, 960, 1_920, None]
    assert commands == saga.CAPTURE_RETRIES_MAX
    assert order.state is State.CAPTURING


def test_a_capture_answered_after_the_last_retry_pays_the_order() -> None:
    order = order_in(State.CAPTURING, deadline_at=None, capture_retries=saga.CAPTURE_RETRIES_MAX)

    decision = saga.decide(order, event_of(ledger.HoldCaptured, order), AT)

    assert decision is not None
    assert decision.order.state is State.PAID


def test_a_reference_names_an_order_or_something_else() -> None:
    order = order_in(State.PAID)

    assert saga.order_of(saga.reference_of(order.id)) == order.id
    assert saga.order_of("job:42") is None
    with pytest.raises(ValueError, match="UUID"):
        saga.order_of("order:42")
