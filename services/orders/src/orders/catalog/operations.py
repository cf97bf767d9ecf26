"""What an operator can do with the catalog: write it from a file, and announce it anew for those who lost theirs."""

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chassis import app, database, operations, outbox
from contracts.message import Currency, Event, Money, PositiveMinor, TenantId
from contracts.orders import CategoryId, ProductId
from orders.catalog import domain, store

if TYPE_CHECKING:
    pass

DEMO = Path(__file__).parent / "demo.toml"
FILE_MAX_BYTES = 8 * 1024 * 1024
PAGE = 500

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Title = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=120)]
Description = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=2_000)]


Noun = TypeVar("Noun", domain.Category, domain.Product)


class _Pages(Protocol[Noun]):
    async def __call__(self, tx: database.Tx, *, after: str, limit: int) -> list[Noun]: ...


class UnusableCatalog(Exception):  # noqa: N818 - names the state of the file, as an operator would
    """The file cannot be read as a catalog; nothing was written."""


class _Product(BaseModel):
    """A misspelt member must not pass as an absent one."""

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
    """Write a catalog from a file, by default the demo shop's. Only what differs changes and is announced.

    What the file doesn't name stays as it is; hide a product with `is_visible = false`.
    """
    options = _options(f"{service.name} seed", seed.__doc__)
    options.add_argument("--file", type=Path, default=DEMO, help="a TOML file of the shape of the demo shop's")
    chosen = options.parse_args(arguments)
    try:
        categories, products = read(TenantId(chosen.tenant), chosen.file)
    except UnusableCatalog as error:
        sys.stderr.write(f"{error}\n")
        return 1
    async with operations.own_database(service) as db:
        changed = await write(db, categories, products)
    sys.stdout.write(f"{changed} of {len(categories) + len(products)} categories and products changed\n")
    return 0


async def republish(service: app.Service, arguments: Sequence[str]) -> int:
    """Announce every category and product anew, so that a lost projection can be rebuilt. Changes nothing."""
    chosen = _options(f"{service.name} republish", republish.__doc__).parse_args(arguments)
    async with operations.own_database(service) as db:
        count = await announce(db, TenantId(chosen.tenant))
    sys.stdout.write(f"{count} categories and products announced\n")
    return 0


COMMANDS = {"seed": seed, "republish": republish}


def read(tenant: TenantId, file: Path) -> tuple[list[domain.Category], list[domain.Product]]:
    """Read a catalog file. Raises UnusableCatalog naming the place that is wrong."""
    try:
        if file.stat().st_size > FILE_MAX_BYTES:
            raise UnusableCatalog(f"{file}: larger than {FILE_MAX_BYTES} bytes")
        catalog = _Catalog.model_validate(tomllib.loads(file.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnusableCatalog(f"{file}: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UnusableCatalog(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
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
    for ids in (Counter(one.id for one in categories), Counter(one.id for one in products)):
        if twice := [one for one, count in ids.items() if count > 1]:
            raise UnusableCatalog(f"{file}: {twice[0]} is there twice")
    return categories, products


async def write(
    db: database.Database, categories: Sequence[domain.Category], products: Sequence[domain.Product]
) -> int:
    """Write a catalog in one transaction and say what changed; gives how many rows did."""
    async with db.transaction() as tx:
        changed = [
            *map(domain.listed_category, await store.save_categories(tx, categories)),
            *map(domain.listed_product, await store.save_products(tx, products)),
        ]
        await outbox.put(tx, changed)
    return len(changed)


async def announce(db: database.Database, tenant: TenantId) -> int:
    """Say every category and product of a tenant as it is now, a page per transaction; gives how many there are."""
    categories = await _announce(db, partial(store.categories_after, tenant=tenant), domain.listed_category)
    return categories + await _announce(db, partial(store.products_after, tenant=tenant), domain.listed_product)


async def _announce(db: database.Database, page_after: _Pages[Noun], event_of: Callable[[Noun], Event]) -> int:
    count, after = 0, ""
    while True:  # ends with the catalog: each page begins behind the one before
        async with db.transaction() as tx:
            page = await page_after(tx, after=after, limit=PAGE)
            await outbox.put(tx, [event_of(one) for one in page])
        if not page:
            return count
        count, after = count + len(page), page[-1].id


def _options(program: str, description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument("--tenant", default="demo", help="whose catalog; the quick start's by default")
    return options
