"""The operator's commands of the catalog: write it from a file, and publish it again for readers that lost theirs."""

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chassis import app, database, operations, outbox
from contracts.message import Currency, Event, Money, PositiveMinor, TenantId
from contracts.orders import CategoryId, ProductId, composed
from orders.catalog import domain, store

DEMO = Path(__file__).parent / "demo.toml"
FILE_MAX_BYTES = 8 * 1024 * 1024
PAGE = 500

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Title = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=120), AfterValidator(composed)]
Description = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=2_000), AfterValidator(composed)]


RowT = TypeVar("RowT", domain.Category, domain.Product)


class _Pages(Protocol[RowT]):
    async def __call__(self, tx: database.Tx, *, after: str, limit: int) -> list[RowT]: ...


class CatalogFileError(Exception):
    """The file is no valid catalog; nothing was written."""


class _Product(BaseModel):
    """Other members are forbidden, so that a misspelt one does not pass as an absent one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug
    title: Title
    description: Description = ""
    price_minor: PositiveMinor
    is_visible: bool = True


class _Category(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug
    title: Title
    product: tuple[_Product, ...] = ()


class _Catalog(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: Currency
    category: tuple[_Category, ...] = Field(min_length=1, max_length=1_000)


async def seed(service: app.Service, arguments: Sequence[str]) -> int:
    """Write a catalog from a file, by default the demo shop's. Only what differs is changed and published.

    What the file doesn't list stays as it is; hide a product with `is_visible = false`.
    """
    options = _options(f"{service.name} seed", seed.__doc__)
    options.add_argument("--file", type=Path, default=DEMO, help="a TOML file of the same shape as the demo shop's")
    values = options.parse_args(arguments)
    try:
        categories, products = read(TenantId(values.tenant), values.file)
    except CatalogFileError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    async with operations.own_database(service) as db:
        changed = await write(db, categories, products)
    sys.stdout.write(f"{changed} of {len(categories) + len(products)} categories and products changed\n")
    return 0


async def republish(service: app.Service, arguments: Sequence[str]) -> int:
    """Publish every category and product again, so that a lost projection can be rebuilt. Changes nothing."""
    values = _options(f"{service.name} republish", republish.__doc__).parse_args(arguments)
    async with operations.own_database(service) as db:
        count = await publish_all(db, TenantId(values.tenant))
    sys.stdout.write(f"{count} categories and products published\n")
    return 0


COMMANDS = {"seed": seed, "republish": republish}


def read(tenant: TenantId, file: Path) -> tuple[list[domain.Category], list[domain.Product]]:
    """Read a catalog file. Raises CatalogFileError with the place of the first mistake."""
    try:
        if file.stat().st_size > FILE_MAX_BYTES:
            raise CatalogFileError(f"{file}: larger than {FILE_MAX_BYTES} bytes")
        catalog = _Catalog.model_validate(tomllib.loads(file.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogFileError(f"{file}: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise CatalogFileError(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    categories = [domain.Category(tenant, CategoryId(category.id), category.title) for category in catalog.category]
    products = [
        domain.Product(
            tenant=tenant,
            id=ProductId(product.id),
            category_id=CategoryId(category.id),
            title=product.title,
            description=product.description,
            price=Money(amount_minor=product.price_minor, currency=catalog.currency),
            is_visible=product.is_visible,
        )
        for category in catalog.category
        for product in category.product
    ]
    for ids in (Counter(category.id for category in categories), Counter(product.id for product in products)):
        if repeated := [key for key, count in ids.items() if count > 1]:
            raise CatalogFileError(f"{file}: {repeated[0]} is there twice")
    return categories, products


async def write(
    db: database.Database, categories: Sequence[domain.Category], products: Sequence[domain.Product]
) -> int:
    """Save a catalog in one transaction and publish what changed; return the number of changed rows."""
    async with db.transaction() as tx:
        changed = [
            *map(domain.listed_category, await store.save_categories(tx, categories)),
            *map(domain.listed_product, await store.save_products(tx, products)),
        ]
        await outbox.put(tx, changed)
    return len(changed)


async def publish_all(db: database.Database, tenant: TenantId) -> int:
    """Publish every category and product of a tenant, a page per transaction; return their number."""
    categories = await _publish_pages(db, partial(store.categories_after, tenant=tenant), domain.listed_category)
    return categories + await _publish_pages(db, partial(store.products_after, tenant=tenant), domain.listed_product)


async def _publish_pages(db: database.Database, page_after: _Pages[RowT], event_of: Callable[[RowT], Event]) -> int:
    count, after = 0, ""
    while True:  # ends with the catalog: each page begins after the one before
        async with db.transaction() as tx:
            page = await page_after(tx, after=after, limit=PAGE)
            await outbox.put(tx, [event_of(row) for row in page])
        if not page:
            return count
        count, after = count + len(page), page[-1].id


def _options(program: str, description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument(
        "--tenant", default="demo", help="the tenant whose catalog it is; by default the quick start's"
    )
    return options
