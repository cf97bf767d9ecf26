"""The timers of the checkout: orders whose deadline has passed, and the gauge of open orders."""

from prometheus_client import Gauge

from chassis import database, telemetry
from orders.checkout import handlers, store
from orders.checkout.domain import saga

BATCH = 50

IN_STATE = Gauge("kopilka_orders_in_state", "Orders that have not ended, by state.", ["state"])


async def end_overdue(db: database.Database) -> int:
    """Advance up to fifty orders whose deadline has passed; return their number. Several processes share the work.

    An answer that arrives at the same time has either advanced the order before it is locked here, and then it is not
    overdue any more, or waits for the lock and finds the decision made here.
    """
    async with db.transaction() as tx:
        overdue = await store.lock_overdue(tx, limit=BATCH)
        if not overdue:
            return 0
        at = await store.now(tx)
        decisions = [await handlers.advance(tx, order, saga.Timeout(), at) for order in overdue]
    for decision in decisions:
        assert decision is not None  # only open orders have a deadline, and their rules for it decide
        telemetry.log.warning(
            "orders.order.timed_out",
            tenant=decision.order.tenant,
            order_id=str(decision.order.id),
            to_state=decision.order.state,
            reason=decision.reason,
        )
    return len(overdue)


async def measure(db: database.Database) -> int:
    """Set the gauge of the orders that have not ended; an order whose capture stays unanswered remains in it."""
    async with db.transaction() as tx:
        counts = await store.count_open(tx)
    for state in saga.OPEN:
        IN_STATE.labels(state).set(counts.get(state, 0))
    return 0
