"""Every SQL statement of the catalog. A row changes, and its version grows, only when its content differs."""

from collections.abc import Collection, Mapping, Sequence

import asyncpg

from chassis import database
from contracts.message import Money, TenantId
from contracts.orders import ProductId
from orders.catalog import domain

_SAVE_CATEGORIES = """
INSERT INTO category AS old (tenant, id, title)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ORDER BY 1, 2
ON CONFLICT (tenant, id) DO UPDATE SET title = excluded.title, version = old.version + 1
  WHERE old.title IS DISTINCT FROM excluded.title
RETURNING *
"""
_SAVE_PRODUCTS = """
INSERT INTO product AS old (tenant, id, category_id, title, description, price_minor, currency, is_visible)
SELECT * FROM unnest(
  $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::boolean[]
) ORDER BY 1, 2
ON CONFLICT (tenant, id) DO UPDATE SET
  category_id = excluded.category_id, title = excluded.title, description = excluded.description,
  price_minor = excluded.price_minor, currency = excluded.currency, is_visible = excluded.is_visible,
  version = old.version + 1
  WHERE (old.category_id, old.title, old.description, old.price_minor, old.currency, old.is_visible)
    IS DISTINCT FROM (excluded.category_id, excluded.title, excluded.description, excluded.price_minor,
      excluded.currency, excluded.is_visible)
RETURNING *
"""
_PRODUCTS = "SELECT * FROM product WHERE tenant = $1 AND id = ANY($2::text[])"
_CATEGORY_PAGE = "SELECT * FROM category WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
_PRODUCT_PAGE = "SELECT * FROM product WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"


async def save_categories(tx: database.Tx, categories: Sequence[domain.Category]) -> list[domain.Category]:
    """Save categories; return the new and the changed ones with their new versions.

    Rows are locked in the order of their ids, so that concurrent writers never deadlock.
    """
    rows = [(category.tenant, category.id, category.title) for category in categories]
    changed = await tx.fetch(_SAVE_CATEGORIES, *_columns(rows, 3))
    return [_category(row) for row in changed]


async def save_products(tx: database.Tx, products: Sequence[domain.Product]) -> list[domain.Product]:
    """Save products; return the new and the changed ones with their new versions.

    Raises asyncpg.ForeignKeyViolationError when a category is unknown. Locks as `save_categories` does.
    """
    rows = [
        (
            product.tenant,
            product.id,
            product.category_id,
            product.title,
            product.description,
            product.price.amount_minor,
            product.price.currency,
            product.is_visible,
        )
        for product in products
    ]
    changed = await tx.fetch(_SAVE_PRODUCTS, *_columns(rows, 8))
    return [_product(row) for row in changed]


async def find_products(
    tx: database.Tx, tenant: TenantId, ids: Collection[ProductId]
) -> Mapping[ProductId, domain.Product]:
    """Return the products with these ids, hidden ones too; an unknown id is absent. Takes no lock."""
    rows = await tx.fetch(_PRODUCTS, tenant, list(ids))
    return {ProductId(row["id"]): _product(row) for row in rows}


async def categories_after(tx: database.Tx, *, tenant: TenantId, after: str, limit: int) -> list[domain.Category]:
    """Return the page of categories after an id; "" is before the first, an empty page is the end."""
    return [_category(row) for row in await tx.fetch(_CATEGORY_PAGE, tenant, after, limit)]


async def products_after(tx: database.Tx, *, tenant: TenantId, after: str, limit: int) -> list[domain.Product]:
    """Return the page of products after an id, hidden ones too; "" is before the first, an empty page is the end."""
    return [_product(row) for row in await tx.fetch(_PRODUCT_PAGE, tenant, after, limit)]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


def _category(row: asyncpg.Record) -> domain.Category:
    return domain.Category(row["tenant"], row["id"], row["title"], row["version"])


def _product(row: asyncpg.Record) -> domain.Product:
    return domain.Product(
        tenant=row["tenant"],
        id=row["id"],
        category_id=row["category_id"],
        title=row["title"],
        description=row["description"],
        price=Money(amount_minor=row["price_minor"], currency=row["currency"]),
        is_visible=row["is_visible"],
        version=row["version"],
    )
