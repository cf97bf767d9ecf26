"""The message handlers of the checkout: commands of the gateway and events of the ledger, one transaction each."""

from datetime import datetime

from chassis import broker, database, errors, inbox, outbox, telemetry
from contracts import ledger, orders
from orders.catalog.store import find_products
from orders.checkout import store
from orders.checkout.domain import saga


async def place_order(db: database.Database, delivery: inbox.Delivery, command: orders.PlaceOrder) -> None:
    """Place an order at the catalog's prices and request its hold. Placing the same order again changes nothing.

    Raises Unprocessable when the order's id was used for another order.
    """
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        at = await store.now(tx)
        products = await find_products(tx, command.tenant, {item.product_id for item in command.items})
        decision = saga.place(command, products, at)
        if not await store.insert(tx, decision, at):
            await _require_same(tx, decision.order)
            return
        await outbox.put(tx, decision.messages)
    _log(decision, None)


async def follow_hold(db: database.Database, delivery: inbox.Delivery, event: saga.HoldEvent) -> None:
    """Advance the order of a hold. Events of holds that belong to no order are ignored.

    Raises Unprocessable when the event can't be true of any order.
    """
    try:
        order_id = saga.order_of(event.reference)
    except ValueError as error:
        raise errors.Unprocessable(f"no order id in reference {event.reference!r:.100}") from error
    if order_id is None:
        return
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        order = await store.lock(tx, event.tenant, order_id)
        if order is None or order.hold_id != event.hold_id:
            raise errors.Unprocessable(f"hold {event.hold_id} is no hold of order {order_id}")
        decision = await advance(tx, order, event, await store.now(tx))
    if decision is not None:
        _log(decision, order)


async def advance(tx: database.Tx, order: saga.Order, event: saga.OrderEvent, at: datetime) -> saga.Decision | None:
    """Decide on a locked order, save the decision and publish its messages. None when nothing follows from an event."""
    decision = saga.decide(order, event, at)
    if decision is not None:
        await store.save(tx, order, decision, at)
        await outbox.put(tx, decision.messages)
    return decision


QUEUES = (
    broker.Queue("orders.commands", {orders.PlaceOrder: place_order}),
    broker.Queue(
        "orders.ledger",
        {
            ledger.HoldPlaced: follow_hold,
            ledger.HoldRefused: follow_hold,
            ledger.HoldCaptured: follow_hold,
            ledger.CaptureRefused: follow_hold,
            ledger.HoldReleased: follow_hold,
            ledger.HoldExpired: follow_hold,
        },
    ),
)


async def _require_same(tx: database.Tx, order: saga.Order) -> None:
    stored = await store.lock(tx, order.tenant, order.id)
    assert stored is not None  # its insert has met a conflict, and orders are never deleted
    if (stored.user_id, stored.quantities) != (order.user_id, order.quantities):
        raise errors.Unprocessable(f"order {order.id} exists already, with other content")


def _log(decision: saga.Decision, before: saga.Order | None) -> None:
    telemetry.log.info(
        "orders.order.moved",
        tenant=decision.order.tenant,
        order_id=str(decision.order.id),
        from_state=before.state if before else None,
        to_state=decision.order.state,
        reason=decision.reason,
    )
