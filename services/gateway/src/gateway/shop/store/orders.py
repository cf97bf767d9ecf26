"""The SQL of orders: version 0 is the accepted request, later versions come from events."""

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from chassis import database
from contracts import message, orders
from gateway.domain import references
from gateway.shop import domain

_ACCEPT = """
INSERT INTO orders (tenant, id, user_id, version, status, created_at) VALUES ($1, $2, $3, 0, 'accepted', now())
"""
# The status follows the highest version. Fields that only some events carry are kept in whatever order events come.
_PROJECT = """
INSERT INTO orders AS stored (tenant, id, user_id, version, status, items, total_minor, currency, refusal_code,
  refusal_detail, created_at)
VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11)
ON CONFLICT (tenant, id) DO UPDATE SET
  version = greatest(stored.version, excluded.version),
  status = CASE WHEN stored.version < excluded.version THEN excluded.status ELSE stored.status END,
  items = coalesce(stored.items, excluded.items),
  total_minor = coalesce(stored.total_minor, excluded.total_minor),
  currency = coalesce(stored.currency, excluded.currency),
  refusal_code = coalesce(stored.refusal_code, excluded.refusal_code),
  refusal_detail = coalesce(stored.refusal_detail, excluded.refusal_detail),
  created_at = least(stored.created_at, excluded.created_at)
WHERE stored.version < excluded.version OR stored.items IS NULL
"""
_COLUMNS = "id, status, items, total_minor, currency, refusal_code, refusal_detail, created_at"
_GET = f"SELECT {_COLUMNS} FROM orders WHERE tenant = $1 AND id = $2 AND user_id = $3"
# The index orders_of_user is always searched from a bound; without a cursor it lies beyond the newest order.
_LIST = f"""
SELECT {_COLUMNS} FROM orders
WHERE tenant = $1 AND user_id = $2 AND id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC LIMIT $4
"""
# Reads a table of the wallet slice: a statement of one column keeps the slices' code apart.
_IS_CAPTURED = """
SELECT EXISTS (
  SELECT FROM statement_lines WHERE tenant = $1 AND user_id = $2 AND reference = $3 AND kind = 'capture'
)
"""


async def accept(tx: database.Tx, command: orders.PlaceOrder) -> None:
    """Insert version 0 of an order."""
    await tx.execute(_ACCEPT, command.tenant, command.order_id, command.user_id)


async def project(tx: database.Tx, event: orders.OrderEvent, status: domain.orders.Status) -> None:
    """Apply an event to an order; an event older than the row fills only fields that are missing."""
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
) -> domain.orders.Order | None:
    """Return an order of this owner, or None; the orders of others are not found."""
    row = await tx.fetchrow(_GET, tenant, order_id, owner)
    return _order(row) if row else None


async def newest(
    tx: database.Tx, tenant: message.TenantId, *, owner: message.UserId, before: UUID | None, limit: int
) -> Sequence[domain.orders.Order]:
    """Return this owner's orders older than `before`, newest first. Ids are UUIDv7, so they sort by time."""
    return [_order(row) for row in await tx.fetch(_LIST, tenant, owner, before, limit)]


async def is_captured(tx: database.Tx, tenant: message.TenantId, order_id: UUID, *, owner: message.UserId) -> bool:
    """Return whether the owner's statement has the line that pays for this order."""
    return bool(await tx.fetchval(_IS_CAPTURED, tenant, owner, references.of_order(order_id)))


def _order(row: asyncpg.Record) -> domain.orders.Order:
    total = row["total_minor"] and message.Money(amount_minor=row["total_minor"], currency=row["currency"])
    refusal = row["refusal_code"] and domain.orders.Refusal(code=row["refusal_code"], detail=row["refusal_detail"])
    return domain.orders.Order(
        id=row["id"],
        status=row["status"],
        items=row["items"] or [],
        total=total,
        refusal=refusal,
        created_at=row["created_at"],
    )
