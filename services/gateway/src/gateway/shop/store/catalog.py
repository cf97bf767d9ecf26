"""The SQL of the public catalog. Hidden products are stored too, and never returned."""

from dataclasses import dataclass

import asyncpg

from chassis import database
from contracts import message, orders
from gateway.shop import domain

Position = tuple[str, str]
"""A title and an id, the sort key of both lists."""

START: Position = ("", "")

_PROJECT_CATEGORY = """
INSERT INTO categories AS stored (tenant, id, version, title) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, title = excluded.title
WHERE stored.version < excluded.version
"""
_PROJECT_PRODUCT = """
INSERT INTO products AS stored (tenant, id, version, category_id, title, description, price_minor, currency, is_visible)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, category_id = excluded.category_id,
  title = excluded.title, description = excluded.description, price_minor = excluded.price_minor,
  currency = excluded.currency, is_visible = excluded.is_visible
WHERE stored.version < excluded.version
"""
_CATEGORIES = """
SELECT id, title FROM categories
WHERE tenant = $1 AND (title, id) > ($2::text, $3::text) ORDER BY title, id LIMIT $4
"""
_COLUMNS = "id, category_id, title, description, price_minor, currency"
# strpos knows no wildcards, so the search text is always literal.
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
    """Which products to list. Prices are in minor units; an empty text matches every title."""

    category_id: str | None
    text: str
    min_price: int
    max_price: int


async def project_category(tx: database.Tx, event: orders.CategoryListed) -> None:
    """Set a category to the version of an event; an older version has no effect."""
    await tx.execute(_PROJECT_CATEGORY, event.tenant, event.category_id, event.version, event.title)


async def project_product(tx: database.Tx, event: orders.ProductListed) -> None:
    """Set a product to the version of an event; an older version has no effect."""
    await tx.execute(
        _PROJECT_PRODUCT,
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


async def categories(
    tx: database.Tx, tenant: message.TenantId, *, after: Position, limit: int
) -> list[domain.catalog.Category]:
    """Return the categories after a position, by title and id."""
    rows = await tx.fetch(_CATEGORIES, tenant, *after, limit)
    return [domain.catalog.Category(**row) for row in rows]


async def products(
    tx: database.Tx, tenant: message.TenantId, product_filter: Filter, *, after: Position, limit: int
) -> list[domain.catalog.Product]:
    """Return the visible products that match a filter, after a position, by title and id."""
    rows = await tx.fetch(
        _PRODUCTS,
        tenant,
        product_filter.category_id,
        product_filter.text,
        product_filter.min_price,
        product_filter.max_price,
        *after,
        limit,
    )
    return [_product(row) for row in rows]


async def product(tx: database.Tx, tenant: message.TenantId, product_id: str) -> domain.catalog.Product | None:
    """Return a visible product, or None."""
    row = await tx.fetchrow(_PRODUCT, tenant, product_id)
    return _product(row) if row else None


def _product(row: asyncpg.Record) -> domain.catalog.Product:
    fields = dict(row)
    price = message.Money(amount_minor=fields.pop("price_minor"), currency=fields.pop("currency"))
    return domain.catalog.Product(price=price, **fields)
