"""The orders as their owners see them: version 0 is what was accepted, later versions come from events."""

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis import database
from contracts import message, orders
from gateway.domain import statement, views

_ACCEPT = """
INSERT INTO orders (tenant, id, user_id, version, status, created_at) VALUES ($1, $2, $3, 0, 'accepted', now())
"""
# What only some events know is kept whatever comes before or after it; the status follows the highest version.
_PROJECT = """
INSERT INTO orders AS known (tenant, id, user_id, version, status, items, total_minor, currency, refusal_code,
  refusal_detail, created_at)
VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11)
ON CONFLICT (tenant, id) DO UPDATE SET
  version = greatest(known.version, excluded.version),
  status = CASE WHEN known.version < excluded.version THEN excluded.status ELSE known.status END,
  items = coalesce(known.items, excluded.items),
  total_minor = coalesce(known.total_minor, excluded.total_minor),
  currency = coalesce(known.currency, excluded.currency),
  refusal_code = coalesce(known.refusal_code, excluded.refusal_code),
  refusal_detail = coalesce(known.refusal_detail, excluded.refusal_detail),
  created_at = least(known.created_at, excluded.created_at)
WHERE known.version < excluded.version OR known.items IS NULL
"""
_COLUMNS = "id, status, items, total_minor, currency, refusal_code, refusal_detail, created_at"
_GET = f"SELECT {_COLUMNS} FROM orders WHERE tenant = $1 AND id = $2 AND user_id = $3"
# The position is always a bound of the index orders_of_user; without one it is after everything.
_LIST = f"""
SELECT {_COLUMNS} FROM orders
WHERE tenant = $1 AND user_id = $2 AND id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC LIMIT $4
"""
_IS_CAPTURED = """
SELECT EXISTS (
  SELECT FROM statement_lines WHERE tenant = $1 AND user_id = $2 AND reference = $3 AND kind = 'capture'
)
"""


async def accept(tx: database.Tx, command: orders.PlaceOrder) -> None:
    """Show an order from the moment its command is stored."""
    await tx.execute(_ACCEPT, command.tenant, command.order_id, command.user_id)


async def project(tx: database.Tx, event: orders.OrderEvent, status: views.OrderStatus) -> None:
    """Bring an order to the version that an event tells; an older one only fills what is not known yet."""
    priced = event if isinstance(event, orders.OrderPlaced | orders.OrderPaid) else None
    ended = event if isinstance(event, orders.OrderRefused | orders.OrderCanceled) else None
    await tx.execute(
        _PROJECT,
        event.tenant,
        event.order_id,
        event.user_id,
        event.version,
        status,
        json.dumps([line.model_dump(mode="json") for line in priced.lines]) if priced else None,
        priced.total.amount_minor if priced else None,
        priced.total.currency if priced else None,
        ended.code if ended else None,
        ended.detail if ended else None,
        event.occurred_at,
    )


async def get(
    tx: database.Tx, tenant: message.TenantId, order_id: UUID, *, owner: message.UserId
) -> views.Order | None:
    """Give an order of this owner, or None; another's order is as unknown as none."""
    row = await tx.fetchrow(_GET, tenant, order_id, owner)
    return _order(row) if row else None


async def newest(
    tx: database.Tx, tenant: message.TenantId, *, owner: message.UserId, before: UUID | None, limit: int
) -> Sequence[views.Order]:
    """Give this owner's orders older than `before`, newest first. Ids are uuid7, so their order is that of time."""
    return [_order(row) for row in await tx.fetch(_LIST, tenant, owner, before, limit)]


async def is_captured(tx: database.Tx, tenant: message.TenantId, order_id: UUID, *, owner: message.UserId) -> bool:
    """Tell whether the owner's statement shows that this order's money was taken."""
    return bool(await tx.fetchval(_IS_CAPTURED, tenant, owner, f"{statement.ORDER}{order_id}"))


def _order(row: asyncpg.Record) -> views.Order:
    total = row["total_minor"] and message.Money(amount_minor=row["total_minor"], currency=row["currency"])
    refusal = row["refusal_code"] and views.Refusal(code=row["refusal_code"], detail=row["refusal_detail"])
    return views.Order(
        id=row["id"],
        status=row["status"],
        items=row["items"] or [],
        total=total,
        refusal=refusal,
        created_at=row["created_at"],
    )
