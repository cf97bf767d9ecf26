"""The saga of an order: its states, and the messages that each transition publishes.

Every pair of a state and an event has its rule in `RULES`. The captured hold is the pivot of the saga: before it an
order may be canceled, after it the goods are owed, whatever state the order was in.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypedDict, TypeVar, assert_never
from uuid import UUID, uuid5

from chassis import errors
from contracts import ledger, orders
from contracts.ledger import HoldId
from contracts.message import Message, Money, TenantId, UserId
from contracts.orders import OrderId, OrderLine, ProductId
from orders.catalog.domain import Product
from orders.checkout.domain import pricing

HOLD_DURATION = timedelta(minutes=15)
ANSWER_TIMEOUT = timedelta(seconds=60)
CAPTURE_RETRIES_MAX = 5  # with doubling waits an hour, long after the hold has expired, which is an answer too

_HOLD_NAMESPACE = UUID("6f2c1d0e-5a34-5b8e-9d43-0d6c7d6b2a11")  # with another one, orders would be held a second time
_REFERENCE = "order:"


class State(StrEnum):
    """The state of an order; the last three are final."""

    HOLDING = "holding"
    CAPTURING = "capturing"
    PAID = "paid"
    REFUSED = "refused"
    CANCELED = "canceled"


OPEN = frozenset({State.HOLDING, State.CAPTURING})


class Contradiction(errors.Unprocessable):
    """An event of the ledger that can't be true of this order; a person must look at it."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order. `version` grows by one with every decision; `total` is None when it was refused without a price.

    `capture_retries` counts the captures that were requested again for want of an answer. Without a `deadline_at` no
    answer is waited for.
    """

    tenant: TenantId
    id: OrderId
    user_id: UserId
    quantities: Mapping[ProductId, int]
    state: State
    version: int
    lines: tuple[OrderLine, ...] = ()
    total: Money | None = None
    capture_retries: int = 0
    deadline_at: datetime | None = None

    @property
    def hold_id(self) -> HoldId:
        """The id of the one hold of this order, derived from the order's own."""
        return HoldId(uuid5(_HOLD_NAMESPACE, str(self.id)))

    @property
    def price(self) -> Money:
        """The total of an order that was not refused without one."""
        assert self.total is not None
        return self.total


@dataclass(frozen=True, slots=True)
class Decision:
    """The order after a transition, the reason, and the messages to publish."""

    order: Order
    reason: str
    messages: tuple[Message, ...] = ()


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
EventT = TypeVar("EventT", bound=OrderEvent)
Rule = Callable[[Order, EventT, datetime], Decision | None]


def place(command: orders.PlaceOrder, products: Mapping[ProductId, Product], at: datetime) -> Decision:
    """Price an order from the catalog alone and request its hold, or refuse it."""
    order = Order(
        tenant=command.tenant,
        id=command.order_id,
        user_id=command.user_id,
        quantities=pricing.quantities_of(command.items),
        state=State.HOLDING,
        version=1,
    )
    try:
        lines = pricing.priced_lines(order.quantities, products)
    except errors.Refusal as refusal:
        refused = replace(order, state=State.REFUSED)
        return Decision(refused, refusal.code, (_order_refused(refused, refusal.code, refusal.detail, at),))
    placed = replace(order, lines=lines, total=pricing.total_of(lines), deadline_at=at + ANSWER_TIMEOUT)
    place_hold = ledger.PlaceHold(
        tenant=placed.tenant,
        hold_id=placed.hold_id,
        user_id=placed.user_id,
        amount=placed.price,
        reference=reference_of(placed.id),
        expires_at=at + HOLD_DURATION,
    )
    order_placed = orders.OrderPlaced(**_common(placed, at), lines=placed.lines, total=placed.price)
    return Decision(placed, "placed", (order_placed, place_hold))


def decide(order: Order, event: OrderEvent, at: datetime) -> Decision | None:  # noqa: PLR0911 - one for each event
    """Return the decision that follows from an event; None when it is late or repeated and changes nothing.

    Raises Contradiction when the event can't be true of this order.
    """
    match event:
        case ledger.HoldPlaced():
            return _HOLD_PLACED[order.state](order, event, at)
        case ledger.HoldRefused():
            return _HOLD_REFUSED[order.state](order, event, at)
        case ledger.HoldCaptured():
            return _HOLD_CAPTURED[order.state](order, event, at)
        case ledger.CaptureRefused():
            return _CAPTURE_REFUSED[order.state](order, event, at)
        case ledger.HoldReleased():
            return _HOLD_RELEASED[order.state](order, event, at)
        case ledger.HoldExpired():
            return _HOLD_EXPIRED[order.state](order, event, at)
        case Timeout():
            return _TIMEOUT[order.state](order, event, at)
        case _:
            assert_never(event)


def reference_of(order_id: OrderId) -> str:
    """Return the reference that the ledger's records of an order carry."""
    return f"{_REFERENCE}{order_id}"


def order_of(reference: str) -> OrderId | None:
    """Return the order that a reference names, or None when it names something else.

    Raises ValueError when it names an order by a malformed id.
    """
    kind, _, order_id = reference.partition(":")
    return OrderId(UUID(order_id)) if f"{kind}:" == _REFERENCE else None


# --- the rules -------------------------------------------------------------------------------------------


def _capture(order: Order, event: ledger.HoldPlaced, at: datetime) -> Decision:
    """The money is held: capture it."""
    _require_price(order, event.amount)
    capturing = _next(order, State.CAPTURING, deadline_at=at + ANSWER_TIMEOUT)
    return Decision(capturing, "hold_placed", (_capture_command(order),))


def _refuse(order: Order, event: ledger.HoldRefused, at: datetime) -> Decision:
    """Nothing was held: the order ends."""
    refused = _next(order, State.REFUSED)
    return Decision(refused, event.code, (_order_refused(refused, event.code, event.detail, at),))


def _pay(order: Order, event: ledger.HoldCaptured, at: datetime) -> Decision:
    """The money was captured. Even a canceled order is paid by that."""
    _require_price(order, event.amount)
    paid = _next(order, State.PAID)
    reason = "hold_captured_late" if order.state is State.CANCELED else "hold_captured"
    return Decision(paid, reason, (orders.OrderPaid(**_common(paid, at), lines=paid.lines, total=paid.price),))


def _cancel(
    order: Order, event: ledger.CaptureRefused | ledger.HoldReleased | ledger.HoldExpired | Timeout, at: datetime
) -> Decision:
    """The money will not come: release what may be held."""
    code, detail = _reason_of(event)
    canceled = _next(order, State.CANCELED)
    order_canceled = orders.OrderCanceled(**_common(canceled, at), code=code, detail=detail)
    return Decision(canceled, code, (_release_command(order), order_canceled))


def _release(order: Order, _event: ledger.HoldPlaced, _at: datetime) -> Decision:
    """The hold was placed after the order was canceled: release it."""
    return Decision(_next(order, order.state), "hold_placed_late", (_release_command(order),))


def _repeat_capture(order: Order, _event: Timeout, at: datetime) -> Decision:
    """The capture may have happened, so the order is not canceled: request it again, a bounded number of times.

    The ledger captures a hold once and answers every request with that one outcome.
    """
    retries = order.capture_retries + 1
    if retries > CAPTURE_RETRIES_MAX:
        waiting = _next(order, State.CAPTURING, capture_retries=order.capture_retries)
        return Decision(waiting, "capture_unanswered")
    repeated = _next(order, State.CAPTURING, capture_retries=retries, deadline_at=at + ANSWER_TIMEOUT * 2**retries)
    return Decision(repeated, "capture_asked_again", (_capture_command(order),))


def _ignore(_order: Order, _event: OrderEvent, _at: datetime) -> None:
    """The event is late or repeated and changes nothing."""


def _contradict(order: Order, event: OrderEvent, _at: datetime) -> None:
    """No command of ours leads to this event."""
    raise Contradiction(f"order {order.id} is {order.state}, and yet {type(event).__name__} came")


_HOLD_PLACED: Mapping[State, Rule[ledger.HoldPlaced]] = {
    State.HOLDING: _capture,
    State.CAPTURING: _ignore,
    State.PAID: _ignore,
    State.REFUSED: _contradict,
    State.CANCELED: _release,
}
_HOLD_REFUSED: Mapping[State, Rule[ledger.HoldRefused]] = {
    State.HOLDING: _refuse,
    State.CAPTURING: _contradict,
    State.PAID: _contradict,
    State.REFUSED: _ignore,
    State.CANCELED: _ignore,
}
_HOLD_CAPTURED: Mapping[State, Rule[ledger.HoldCaptured]] = {
    State.HOLDING: _pay,
    State.CAPTURING: _pay,
    State.PAID: _ignore,
    State.REFUSED: _contradict,
    State.CANCELED: _pay,
}
_CAPTURE_REFUSED: Mapping[State, Rule[ledger.CaptureRefused]] = {
    State.HOLDING: _contradict,
    State.CAPTURING: _cancel,
    State.PAID: _ignore,  # the answer to a repeated capture: the hold is used up
    State.REFUSED: _contradict,
    State.CANCELED: _ignore,
}
_HOLD_RELEASED: Mapping[State, Rule[ledger.HoldReleased]] = {
    State.HOLDING: _cancel,
    State.CAPTURING: _cancel,
    State.PAID: _contradict,
    State.REFUSED: _contradict,
    State.CANCELED: _ignore,
}
_HOLD_EXPIRED: Mapping[State, Rule[ledger.HoldExpired]] = {
    State.HOLDING: _cancel,
    State.CAPTURING: _cancel,
    State.PAID: _contradict,
    State.REFUSED: _contradict,
    State.CANCELED: _ignore,
}
_TIMEOUT: Mapping[State, Rule[Timeout]] = {
    State.HOLDING: _cancel,
    State.CAPTURING: _repeat_capture,
    State.PAID: _ignore,
    State.REFUSED: _ignore,
    State.CANCELED: _ignore,
}
RULES: Mapping[type[OrderEvent], Collection[State]] = {
    ledger.HoldPlaced: _HOLD_PLACED,
    ledger.HoldRefused: _HOLD_REFUSED,
    ledger.HoldCaptured: _HOLD_CAPTURED,
    ledger.CaptureRefused: _CAPTURE_REFUSED,
    ledger.HoldReleased: _HOLD_RELEASED,
    ledger.HoldExpired: _HOLD_EXPIRED,
    Timeout: _TIMEOUT,
}
"""The states for which each event has a rule: all of them."""


class _Common(TypedDict):
    tenant: TenantId
    order_id: OrderId
    user_id: UserId
    version: int
    occurred_at: datetime


def _common(order: Order, at: datetime) -> _Common:
    return {
        "tenant": order.tenant,
        "order_id": order.id,
        "user_id": order.user_id,
        "version": order.version,
        "occurred_at": at,
    }


def _next(order: Order, state: State, *, capture_retries: int = 0, deadline_at: datetime | None = None) -> Order:
    return replace(
        order, state=state, version=order.version + 1, capture_retries=capture_retries, deadline_at=deadline_at
    )


def _require_price(order: Order, amount: Money) -> None:
    if amount != order.total:
        raise Contradiction(f"order {order.id} costs {order.total}, and yet the ledger says {amount}")


def _reason_of(
    event: ledger.CaptureRefused | ledger.HoldReleased | ledger.HoldExpired | Timeout,
) -> tuple[str, str]:
    match event:
        case ledger.CaptureRefused():
            return event.code, event.detail
        case ledger.HoldExpired():
            return "hold_expired", "The money was not taken in time."
        case ledger.HoldReleased():
            return "hold_released", "The money was given back before it was taken."
        case Timeout():
            return "timeout", "The wallet did not answer in time."
        case _:
            assert_never(event)


def _order_refused(order: Order, code: str, detail: str, at: datetime) -> orders.OrderRefused:
    return orders.OrderRefused(**_common(order, at), code=code, detail=detail)


def _capture_command(order: Order) -> ledger.CaptureHold:
    return ledger.CaptureHold(tenant=order.tenant, hold_id=order.hold_id, amount_minor=order.price.amount_minor)


def _release_command(order: Order) -> ledger.ReleaseHold:
    return ledger.ReleaseHold(tenant=order.tenant, hold_id=order.hold_id)
