"""The catalog as the public sees it; what is hidden is known here and never shown."""

from dataclasses import dataclass

import asyncpg

from chassis import database
from contracts import message, orders
from gateway.domain import views

Position = tuple[str, str]
"""A title and an id; lists are in the order of both."""

START: Position = ("", "")

_LIST_CATEGORY = """
INSERT INTO categories AS known (tenant, id, version, title) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, title = excluded.title
WHERE known.version < excluded.version
"""
_LIST_PRODUCT = """
INSERT INTO products AS known (tenant, id, version, category_id, title, description, price_minor, currency, is_visible)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, category_id = excluded.category_id,
  title = excluded.title, description = excluded.description, price_minor = excluded.price_minor,
  currency = excluded.currency, is_visible = excluded.is_visible
WHERE known.version < excluded.version
"""
_CATEGORIES = """
SELECT id, title FROM categories
WHERE tenant = $1 AND (title, id) > ($2::text, $3::text) ORDER BY title, id LIMIT $4
"""
_COLUMNS = "id, category_id, title, description, price_minor, currency"
# strpos has no wildcards, so what is searched for is always literal.
_PRODUCTS = f"""
SELECT {_COLUMNS} FROM products
WHERE tenant = $1 AND is_visible
  AND ($2::text IS NULL OR category_id = $2)
  AND strpos(lower(title), lower($3::text)) > 0
  AND price_minor BETWEEN $4 AND $5
  AND (title, id) > ($6::text, $7::text)
ORDER BY title, id LIMIT $8
"""
_PRODUCT = f"SELECT {_COLUMNS} FROM products WHERE tenant = $1 AND id = $2 AND is_visible"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which products to list; a price is in minor units, an empty text is in every title."""

    category_id: str | None
    text: str
    min_price: int
    max_price: int


async def list_category(tx: database.Tx, event: orders.CategoryListed) -> None:
    """Bring a category to the version that an event tells; an older one changes nothing."""
    await tx.execute(_LIST_CATEGORY, event.tenant, event.category_id, event.version, event.title)


async def list_product(tx: database.Tx, event: orders.ProductListed) -> None:
    """Bring a product to the version that an event tells; an older one changes nothing."""
    await tx.execute(
        _LIST_PRODUCT,
        event.tenant,
        event.product_id,
        event.version,
        event.category_id,
        event.title,
        event.description,
        event.price.amount_minor,
        event.price.currency,
        event.is_visible,
    )


async def categories(tx: database.Tx, tenant: message.TenantId, *, after: Position, limit: int) -> list[views.Category]:
    """Give the categories whose title and id come after a position, in that order."""
    rows = await tx.fetch(_CATEGORIES, tenant, *after, limit)
    return [views.Category(**row) for row in rows]


async def products(
    tx: database.Tx, tenant: message.TenantId, wanted: Filter, *, after: Position, limit: int
) -> list[views.Product]:
    """Give the visible products that are wanted and come after a position of title and id, in that order."""
    rows = await tx.fetch(
        _PRODUCTS,
        tenant,
        wanted.category_id,
        wanted.text,
        wanted.min_price,
        wanted.max_price,
        *after,
        limit,
    )
    return [_product(row) for row in rows]


async def product(tx: database.Tx, tenant: message.TenantId, product_id: str) -> views.Product | None:
    """Give a visible product, or None."""
    row = await tx.fetchrow(_PRODUCT, tenant, product_id)
    return _product(row) if row else None


def _product(row: asyncpg.Record) -> views.Product:
    known = dict(row)
    price = message.Money(amount_minor=known.pop("price_minor"), currency=known.pop("currency"))
    return views.Product(price=price, **known)
