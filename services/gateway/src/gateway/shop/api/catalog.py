"""The public catalog. Hidden products are not found."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from chassis import errors, strict_json
from contracts import message
from gateway.api import deps, document, lists
from gateway.domain import cursors
from gateway.shop import domain, store

_POSITION: TypeAdapter[store.catalog.Position] = TypeAdapter(
    tuple[Annotated[str, Field(pattern=r"^[^\x00]*$")], Annotated[str, Field(pattern=r"^[^\x00]*$")]]
)

Price = Annotated[int, Query(ge=0, le=message.AMOUNT_MINOR_MAX, description="In minor units.")]

router = APIRouter(tags=["catalog"], route_class=strict_json.Route)


class ProductNotFound(errors.Refusal):
    """There is no such product on sale."""

    code = "product_not_found"
    status = 404


@router.get("/categories", responses=document.responses(*document.LIST))
async def categories(
    deps: deps.FromRequest, limit: lists.Limit = lists.LIMIT, cursor: lists.Cursor = None
) -> lists.Page[domain.catalog.Category]:
    """Return the categories of the catalog, by title."""
    after = cursors.decode(cursor, _POSITION) if cursor is not None else store.catalog.START
    async with deps.db.statement() as tx:
        rows = await store.catalog.categories(tx, deps.tenant, after=after, limit=limit + 1)
    items, next_cursor = cursors.page(rows, limit, lambda category: (category.title, category.id))
    return lists.Page(items=items, next_cursor=next_cursor)


@router.get("/products", responses=document.responses(*document.LIST))
async def products(
    *,
    deps: deps.FromRequest,
    category_id: lists.Key | None = None,
    q: Annotated[lists.Text, Query(description="Text that the title contains, taken literally.")] = "",
    min_price: Price = 0,
    max_price: Price = message.AMOUNT_MINOR_MAX,
    limit: lists.Limit = lists.LIMIT,
    cursor: lists.Cursor = None,
) -> lists.Page[domain.catalog.Product]:
    """Return the visible products that match the filter, by title."""
    after = cursors.decode(cursor, _POSITION) if cursor is not None else store.catalog.START
    product_filter = store.catalog.Filter(category_id=category_id, text=q, min_price=min_price, max_price=max_price)
    async with deps.db.statement() as tx:
        rows = await store.catalog.products(tx, deps.tenant, product_filter, after=after, limit=limit + 1)
    items, next_cursor = cursors.page(rows, limit, lambda product: (product.title, product.id))
    return lists.Page(items=items, next_cursor=next_cursor)


@router.get("/products/{product_id}", responses=document.responses("404 product_not_found"))
async def product(product_id: str, deps: deps.FromRequest) -> domain.catalog.Product:
    """Return a visible product."""
    async with deps.db.statement() as tx:
        found = None if "\x00" in product_id else await store.catalog.product(tx, deps.tenant, product_id)
    if found is None:
        raise ProductNotFound
    return found
