"""Every SQL statement of the checkout. An order changes only under its row lock, and each change is in its history."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg

from chassis import database
from contracts.message import Money, TenantId, UserId
from contracts.orders import OrderId, OrderLine
from orders.checkout.domain import saga

# Waits for a concurrent insert of the same order to end, and returns no row when that one has committed.
_INSERT = """
INSERT INTO orders (tenant, id, user_id, demand, state, version, total_minor, currency, deadline_at, placed_at)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant, id) DO NOTHING RETURNING true
"""
_INSERT_LINES = """
INSERT INTO order_line (tenant, order_id, position, product_id, title, quantity, unit_price_minor)
SELECT $1, $2, position, product_id, title, quantity, unit_price_minor
FROM unnest($3::text[], $4::text[], $5::integer[], $6::bigint[]) WITH ORDINALITY
  AS line(product_id, title, quantity, unit_price_minor, position)
"""
_INSERT_HISTORY = """
INSERT INTO order_history (tenant, order_id, version, from_state, to_state, reason, occurred_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_UPDATE = "UPDATE orders SET state = $3, version = $4, asks = $5, deadline_at = $6 WHERE tenant = $1 AND id = $2"

_COLUMNS = """
tenant, id, user_id, demand::text AS demand, state, version, total_minor, currency, asks, deadline_at, (
  SELECT json_agg(json_build_array(product_id, title, quantity, unit_price_minor) ORDER BY position)::text
  FROM order_line l WHERE l.tenant = o.tenant AND l.order_id = o.id
) AS lines
"""
_LOCK = f"SELECT {_COLUMNS} FROM orders o WHERE tenant = $1 AND id = $2 FOR UPDATE"
# PostgreSQL checks the condition again on a row that changed before it was locked: one no longer due is skipped.
_LOCK_OVERDUE = f"""
SELECT {_COLUMNS} FROM orders o WHERE deadline_at <= clock_timestamp()
ORDER BY deadline_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_OPEN = "SELECT state, count(*) AS count FROM orders WHERE state IN ('holding', 'capturing') GROUP BY state"


async def now(tx: database.Tx) -> datetime:
    """Return the time of the database's clock, by which all deadlines are kept."""
    moment: datetime = await tx.fetchval("SELECT clock_timestamp()")
    return moment


async def insert(tx: database.Tx, decision: saga.Decision, at: datetime) -> bool:
    """Insert a new order with its lines and the first row of its history; return False when it exists already."""
    order = decision.order
    is_new = await tx.fetchval(
        _INSERT,
        order.tenant,
        order.id,
        order.user_id,
        json.dumps(order.quantities),
        order.state,
        order.version,
        order.total.amount_minor if order.total else None,
        order.total.currency if order.total else None,
        order.deadline_at,
        at,
    )
    if not is_new:
        return False
    await tx.execute(
        _INSERT_LINES,
        order.tenant,
        order.id,
        [line.product_id for line in order.lines],
        [line.title for line in order.lines],
        [line.quantity for line in order.lines],
        [line.unit_price.amount_minor for line in order.lines],
    )
    await _add_history(tx, None, decision, at)
    return True


async def save(tx: database.Tx, before: saga.Order, decision: saga.Decision, at: datetime) -> None:
    """Save the decision on a locked order, and add it to the history."""
    order = decision.order
    await tx.execute(
        _UPDATE, order.tenant, order.id, order.state, order.version, order.capture_retries, order.deadline_at
    )
    await _add_history(tx, before.state, decision, at)


async def lock(tx: database.Tx, tenant: TenantId, order_id: OrderId) -> saga.Order | None:
    """Return an order under a row lock, or None when there is no such order."""
    row = await tx.fetchrow(_LOCK, tenant, order_id)
    return _order(row) if row is not None else None


async def lock_overdue(tx: database.Tx, *, limit: int) -> list[saga.Order]:
    """Return the orders whose deadline has passed under row locks, longest overdue first.

    Orders that are locked already are skipped. Reads the index of the deadlines.
    """
    return [_order(row) for row in await tx.fetch(_LOCK_OVERDUE, limit)]


async def count_open(tx: database.Tx) -> Mapping[saga.State, int]:
    """Return the number of orders that have not ended, by state. Reads the index of the open ones."""
    rows = await tx.fetch(_OPEN)
    return {saga.State(row["state"]): row["count"] for row in rows}


async def _add_history(tx: database.Tx, before: saga.State | None, decision: saga.Decision, at: datetime) -> None:
    order = decision.order
    await tx.execute(_INSERT_HISTORY, order.tenant, order.id, order.version, before, order.state, decision.reason, at)


def _order(row: asyncpg.Record) -> saga.Order:
    currency = row["currency"]
    return saga.Order(
        tenant=TenantId(row["tenant"]),
        id=OrderId(row["id"]),
        user_id=UserId(row["user_id"]),
        quantities=json.loads(row["demand"]),
        state=saga.State(row["state"]),
        version=row["version"],
        lines=_lines(json.loads(row["lines"] or "[]"), currency),
        total=Money(amount_minor=row["total_minor"], currency=currency) if currency else None,
        capture_retries=row["asks"],
        deadline_at=row["deadline_at"],
    )


def _lines(rows: Sequence[tuple[str, str, int, int]], currency: str) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(
            product_id=product_id,
            title=title,
            quantity=quantity,
            unit_price=Money(amount_minor=unit_price_minor, currency=currency),
        )
        for product_id, title, quantity, unit_price_minor in rows
    )
