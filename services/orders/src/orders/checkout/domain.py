"""The life of an order: what it costs, which state follows which, and what is said about it.

Every pair of a state and an event has its rule in `RULES`. The captured hold is the pivot: before it an order may be
given up, after it the goods are owed, whatever was believed before.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from contracts import ledger, orders
from contracts.ledger import HoldId
from contracts.message import AMOUNT_MINOR_MAX, Message, Money, TenantId, UserId
from contracts.orders import OrderId, OrderItem, OrderLine, ProductId
from orders.catalog import domain as catalog

HOLD_LASTS = timedelta(minutes=15)
ANSWER_WITHIN = timedelta(seconds=60)
ASKS_MAX = 5  # with doubling waits an hour, long past the end of the hold, which itself answers the question
QUANTITY_MAX = 1_000  # what one line can tell

_HOLDS = UUID("6f2c1d0e-5a34-5b8e-9d43-0d6c7d6b2a11")  # the name space of hold ids; a new one would hold twice
_REFERENCE = "order:"


class State(StrEnum):
    """Where an order is; the last three are the ends."""

    HOLDING = "holding"
    CAPTURING = "capturing"
    PAID = "paid"
    REFUSED = "refused"
    CANCELED = "canceled"


OPEN = frozenset({State.HOLDING, State.CAPTURING})


class Contradiction(Exception):  # noqa: N818 - what it is: two answers that cannot both be true
    """The ledger said something that cannot be true of this order; a person must look."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order. `version` grows by one with every decision; `total` is None when it was refused unpriced.

    `asks` counts the requests to capture that went unanswered; without a `deadline_at` nothing is waited for.
    """

    tenant: TenantId
    id: OrderId
    user_id: UserId
    demand: Mapping[ProductId, int]
    state: State
    version: int
    lines: tuple[OrderLine, ...] = ()
    total: Money | None = None
    asks: int = 0
    deadline_at: datetime | None = None

    @property
    def hold_id(self) -> HoldId:
        """The one hold of this order, the same however often it is asked for."""
        return HoldId(uuid5(_HOLDS, str(self.id)))

    @property
    def price(self) -> Money:
        """The total of an order that got as far as having one."""
        assert self.total is not None
        return self.total


@dataclass(frozen=True, slots=True)
class Decision:
    """The order as it is from now on, why, and what is said about it."""

    order: Order
    reason: str
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order cannot be: a stable code, and words for the buyer."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Timeout:
    """The order's deadline has passed without the answer it waited for."""


HoldEvent = (
    ledger.HoldPlaced
    | ledger.HoldRefused
    | ledger.HoldCaptured
    | ledger.CaptureRefused
    | ledger.HoldReleased
    | ledger.HoldExpired
)
OrderEvent = HoldEvent | Timeout


def place(command: orders.PlaceOrder, products: Mapping[ProductId, catalog.Product], at: datetime) -> Decision:
    """Price an order from the catalog alone and ask for the money, or refuse it."""
    order = Order(
        tenant=command.tenant,
        id=command.order_id,
        user_id=command.user_id,
        demand=demand_of(command.items),
        state=State.HOLDING,
        version=1,
    )
    quoted = quote(order.demand, products)
    if isinstance(quoted, Refusal):
        refused = replace(order, state=State.REFUSED)
        return Decision(refused, quoted.code, (_refused(refused, quoted, at),))
    placed = replace(order, lines=quoted, total=total_of(quoted), deadline_at=at + ANSWER_WITHIN)
    return Decision(
        placed,
        "placed",
        (
            orders.OrderPlaced(**_about(placed, at), lines=placed.lines, total=placed.price),
            ledger.PlaceHold(
                tenant=placed.tenant,
                hold_id=placed.hold_id,
                user_id=placed.user_id,
                amount=placed.price,
                reference=reference_of(placed.id),
                expires_at=at + HOLD_LASTS,
            ),
        ),
    )


def decide(order: Order, event: OrderEvent, at: datetime) -> Decision | None:
    """Give what follows from an event at a moment; None when it comes late or twice and changes nothing.

    Raises Contradiction when the event cannot be true of this order.
    """
    return RULES[order.state, type(event)](order, event, at)


def demand_of(items: Iterable[OrderItem]) -> dict[ProductId, int]:
    """Sum the quantities per product; two lines of one product are one demand."""
    demand: Counter[ProductId] = Counter()
    for item in items:
        demand[item.product_id] += item.quantity
    return dict(demand)


def quote(
    demand: Mapping[ProductId, int], products: Mapping[ProductId, catalog.Product]
) -> tuple[OrderLine, ...] | Refusal:
    """Give the lines with today's prices, or why these products cannot be sold together."""
    for product_id, quantity in demand.items():
        product = products.get(product_id)
        if product is None or not product.is_visible:
            return Refusal("product_unavailable", f"Product {product_id!r:.80} is not for sale.")
        if quantity > QUANTITY_MAX:
            return Refusal("quantity_too_large", f"At most {QUANTITY_MAX} pieces of one product fit into an order.")
    lines = tuple(
        OrderLine(
            product_id=product_id,
            title=products[product_id].title,
            quantity=quantity,
            unit_price=products[product_id].price,
        )
        for product_id, quantity in demand.items()
    )
    if len({line.unit_price.currency for line in lines}) > 1:
        return Refusal("mixed_currencies", "Products with prices in different currencies need an order each.")
    if _sum_of(lines) > AMOUNT_MINOR_MAX:
        return Refusal("total_too_large", "The total of this order is larger than any amount we can hold.")
    return lines


def total_of(lines: tuple[OrderLine, ...]) -> Money:
    """Sum lines of one currency."""
    return Money(amount_minor=_sum_of(lines), currency=lines[0].unit_price.currency)


def reference_of(order_id: OrderId) -> str:
    """Give the words by which other services' records name an order."""
    return f"{_REFERENCE}{order_id}"


def order_in(reference: str) -> OrderId | None:
    """Give the order that a reference names, or None when it names something else than an order.

    Raises ValueError when it names an order by something that is no id.
    """
    kind, _, order_id = reference.partition(":")
    return OrderId(UUID(order_id)) if f"{kind}:" == _REFERENCE else None


def _sum_of(lines: Iterable[OrderLine]) -> int:
    return sum(line.unit_price.amount_minor * line.quantity for line in lines)


# --- the rules -------------------------------------------------------------------------------------------


def _capture(order: Order, event: ledger.HoldPlaced, at: datetime) -> Decision:
    """The money is set aside: take it."""
    _require_price(order, event.amount)
    capturing = _next(order, State.CAPTURING, deadline_at=at + ANSWER_WITHIN)
    return Decision(capturing, "hold_placed", (_capture_command(order),))


def _refuse(order: Order, event: ledger.HoldRefused, at: datetime) -> Decision:
    """The money is not there: nothing was held."""
    refused = _next(order, State.REFUSED)
    return Decision(refused, event.code, (_refused(refused, Refusal(event.code, event.detail), at),))


def _pay(order: Order, event: ledger.HoldCaptured, at: datetime) -> Decision:
    """The money is taken. Even an order that was given up is owed from here on."""
    _require_price(order, event.amount)
    paid = _next(order, State.PAID)
    reason = "hold_captured_late" if order.state is State.CANCELED else "hold_captured"
    return Decision(paid, reason, (orders.OrderPaid(**_about(paid, at), lines=paid.lines, total=paid.price),))


def _give_up(order: Order, event: OrderEvent, at: datetime) -> Decision:
    """The money will not come: give back what may be held."""
    code, detail = _reason_of(event)
    canceled = _next(order, State.CANCELED)
    said = orders.OrderCanceled(**_about(canceled, at), code=code, detail=detail)
    return Decision(canceled, code, (_release_command(order), said))


def _release_again(order: Order, _event: ledger.HoldPlaced, _at: datetime) -> Decision:
    """The hold was placed after the order had been given up: nobody needs it."""
    return Decision(_next(order, order.state), "hold_placed_late", (_release_command(order),))


def _ask_again(order: Order, _event: Timeout, at: datetime) -> Decision:
    """A capture that was asked for may have happened, so it is never given up, only asked about.

    The ledger captures a hold once and answers every request with that one outcome.
    """
    asks = order.asks + 1
    if asks > ASKS_MAX:
        return Decision(_next(order, State.CAPTURING, asks=order.asks), "capture_unanswered")
    asked = _next(order, State.CAPTURING, asks=asks, deadline_at=at + ANSWER_WITHIN * 2**asks)
    return Decision(asked, "capture_asked_again", (_capture_command(order),))


def _ignore(_order: Order, _event: OrderEvent, _at: datetime) -> None:
    """It comes late or twice and says nothing new."""


def _contradict(order: Order, event: OrderEvent, _at: datetime) -> None:
    """Nothing that we asked for leads here."""
    raise Contradiction(f"order {order.id} is {order.state}, and yet {type(event).__name__} came")


Rule = Callable[[Order, Any, datetime], Decision | None]

RULES: Mapping[tuple[State, type], Rule] = {
    (State.HOLDING, ledger.HoldPlaced): _capture,
    (State.HOLDING, ledger.HoldRefused): _refuse,
    (State.HOLDING, ledger.HoldCaptured): _pay,
    (State.HOLDING, ledger.CaptureRefused): _contradict,
    (State.HOLDING, ledger.HoldReleased): _give_up,
    (State.HOLDING, ledger.HoldExpired): _give_up,
    (State.HOLDING, Timeout): _give_up,
    (State.CAPTURING, ledger.HoldPlaced): _ignore,
    (State.CAPTURING, ledger.HoldRefused): _contradict,
    (State.CAPTURING, ledger.HoldCaptured): _pay,
    (State.CAPTURING, ledger.CaptureRefused): _give_up,
    (State.CAPTURING, ledger.HoldReleased): _give_up,
    (State.CAPTURING, ledger.HoldExpired): _give_up,
    (State.CAPTURING, Timeout): _ask_again,
    (State.PAID, ledger.HoldPlaced): _ignore,
    (State.PAID, ledger.HoldRefused): _contradict,
    (State.PAID, ledger.HoldCaptured): _ignore,
    (State.PAID, ledger.CaptureRefused): _ignore,  # the answer to a second request: the hold is used up
    (State.PAID, ledger.HoldReleased): _contradict,
    (State.PAID, ledger.HoldExpired): _contradict,
    (State.PAID, Timeout): _ignore,
    (State.REFUSED, ledger.HoldPlaced): _contradict,
    (State.REFUSED, ledger.HoldRefused): _ignore,
    (State.REFUSED, ledger.HoldCaptured): _contradict,
    (State.REFUSED, ledger.CaptureRefused): _contradict,
    (State.REFUSED, ledger.HoldReleased): _contradict,
    (State.REFUSED, ledger.HoldExpired): _contradict,
    (State.REFUSED, Timeout): _ignore,
    (State.CANCELED, ledger.HoldPlaced): _release_again,
    (State.CANCELED, ledger.HoldRefused): _ignore,
    (State.CANCELED, ledger.HoldCaptured): _pay,
    (State.CANCELED, ledger.CaptureRefused): _ignore,
    (State.CANCELED, ledger.HoldReleased): _ignore,
    (State.CANCELED, ledger.HoldExpired): _ignore,
    (State.CANCELED, Timeout): _ignore,
}


def _next(order: Order, state: State, *, asks: int = 0, deadline_at: datetime | None = None) -> Order:
    return replace(order, state=state, version=order.version + 1, asks=asks, deadline_at=deadline_at)


def _require_price(order: Order, amount: Money) -> None:
    if amount != order.total:
        raise Contradiction(f"order {order.id} costs {order.total}, and yet the ledger says {amount}")


def _reason_of(event: OrderEvent) -> tuple[str, str]:
    match event:
        case ledger.CaptureRefused():
            return event.code, event.detail
        case ledger.HoldExpired():
            return "hold_expired", "The money was not taken in time."
        case ledger.HoldReleased():
            return "hold_released", "The money was given back before it was taken."
        case _:
            return "timeout", "The wallet did not answer in time."


def _about(order: Order, at: datetime) -> dict[str, Any]:
    """Give what every event of an order carries."""
    return {
        "tenant": order.tenant,
        "order_id": order.id,
        "user_id": order.user_id,
        "version": order.version,
        "occurred_at": at,
    }


def _refused(order: Order, refusal: Refusal, at: datetime) -> orders.OrderRefused:
    return orders.OrderRefused(**_about(order, at), code=refusal.code, detail=refusal.detail)


def _capture_command(order: Order) -> ledger.CaptureHold:
    return ledger.CaptureHold(tenant=order.tenant, hold_id=order.hold_id, amount_minor=order.price.amount_minor)


def _release_command(order: Order) -> ledger.ReleaseHold:
    return ledger.ReleaseHold(tenant=order.tenant, hold_id=order.hold_id)
