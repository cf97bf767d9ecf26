"""The message door of the checkout: what the gateway asks for and what the ledger answers, one transaction each."""

from datetime import datetime

from chassis import broker, database, errors, inbox, outbox, telemetry
from contracts import ledger, orders
from orders.catalog import store as catalog
from orders.checkout import domain, store


async def place_order(db: database.Database, delivery: inbox.Delivery, command: orders.PlaceOrder) -> None:
    """Place an order at today's prices and ask the ledger for the money. Placing the same order again changes nothing.

    Raises Unprocessable when the order's id was used for another order.
    """
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        at = await store.now(tx)
        wanted = {item.product_id for item in command.items}
        decision = domain.place(command, await catalog.products(tx, command.tenant, wanted), at)
        if not await store.insert(tx, decision, at):
            await _require_same(tx, decision.order)
            return
        await outbox.put(tx, decision.messages)
    _log(decision, None)


async def follow_hold(db: database.Database, delivery: inbox.Delivery, event: domain.HoldEvent) -> None:
    """Move an order by what became of its hold. Holds of other things than orders are passed over.

    Raises Unprocessable when the event cannot be true of any order of ours.
    """
    try:
        order_id = domain.order_in(event.reference)
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
        try:
            decision = await advance(tx, order, event, await store.now(tx))
        except domain.Contradiction as error:
            raise errors.Unprocessable(str(error)) from error
    if decision is not None:
        _log(decision, order)


async def advance(
    tx: database.Tx, order: domain.Order, event: domain.OrderEvent, at: datetime
) -> domain.Decision | None:
    """Decide on a locked order, write the outcome and say it; gives None when nothing follows from the event."""
    decision = domain.decide(order, event, at)
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


async def _require_same(tx: database.Tx, asked: domain.Order) -> None:
    known = await store.lock(tx, asked.tenant, asked.id)
    assert known is not None  # the insert has just met it, and orders are never deleted
    if (known.user_id, known.demand) != (asked.user_id, asked.demand):
        raise errors.Unprocessable(f"order {asked.id} exists already, with other content")


def _log(decision: domain.Decision, before: domain.Order | None) -> None:
    telemetry.log.info(
        "orders.order.moved",
        tenant=decision.order.tenant,
        order_id=str(decision.order.id),
        from_state=before.state if before else None,
        to_state=decision.order.state,
        reason=decision.reason,
    )
