"""Orders paid from the wallet. A client names products and quantities, never a price."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chassis import database, errors, outbox, strict_json
from contracts import orders
from gateway.api import authentication, deps, document, ids, lists, writes
from gateway.domain import commands, cursors
from gateway.shop import domain, store

_POSITION: TypeAdapter[tuple[UUID]] = TypeAdapter(tuple[UUID])

router = APIRouter(prefix="/orders", tags=["orders"], route_class=strict_json.Route)


class OrderNotFound(errors.Refusal):
    """You have no such order."""

    code = "order_not_found"
    status = 404


class Item(BaseModel):
    """A product and its quantity."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product_id: Annotated[lists.Key, Field(examples=["coffee-250"])]
    quantity: Annotated[orders.Quantity, Field(examples=[2])]


class Purchase(BaseModel):
    """An order paid from the wallet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: list[Item] = Field(min_length=1, max_length=orders.LINES_MAX)
    payment_method: Literal["wallet"]


@router.post(
    "",
    status_code=201,
    response_model=domain.orders.Order,
    responses={
        202: {"model": domain.orders.Order, "description": "Accepted; read `Location` after `Retry-After` seconds."},
        **document.responses(
            *document.PERSON, *document.KEY, *document.BODY, "402 insufficient_funds", "409 product_unavailable"
        ),
    },
    openapi_extra=document.WRITE,
)
async def place(
    body: Purchase, request: Request, deps: deps.FromRequest, session: authentication.Session
) -> JSONResponse:
    """Place an order paid from the wallet; answered when it is paid and the statement shows it."""
    command = writes.command_of(request, session, body, operation="POST /orders")
    async with deps.db.transaction() as tx:
        accepted = await writes.claim(tx, command)
        if not accepted.is_replay:
            place_order = _place_order(accepted, body)
            await store.orders.accept(tx, place_order)
            await outbox.put(tx, [place_order])
    return await writes.respond(deps, request, accepted, _read)


@router.get(
    "/my",
    responses=document.responses(*document.PERSON, *document.LIST),
    openapi_extra=document.PERSONAL,
)
async def mine(
    deps: deps.FromRequest,
    session: authentication.Session,
    limit: lists.Limit = lists.LIMIT,
    cursor: lists.Cursor = None,
) -> lists.Page[domain.orders.Order]:
    """Return the user's orders, newest first."""
    position = cursors.decode(cursor, _POSITION) if cursor is not None else (None,)
    async with deps.db.statement() as tx:
        rows = await store.orders.newest(tx, session.tenant, owner=session.user_id, before=position[0], limit=limit + 1)
    items, next_cursor = cursors.page(rows, limit, lambda order: (order.id,))
    return lists.Page(items=items, next_cursor=next_cursor)


@router.get(
    "/{order_id}",
    responses=document.responses(*document.PERSON, "404 order_not_found"),
    openapi_extra=document.PERSONAL,
)
async def order(order_id: str, deps: deps.FromRequest, session: authentication.Session) -> domain.orders.Order:
    """Return an order of the user."""
    async with deps.db.statement() as tx:
        order = await store.orders.get(tx, session.tenant, ids.parse(order_id, OrderNotFound), owner=session.user_id)
    if order is None:
        raise OrderNotFound
    return order


def _place_order(command: commands.Command, body: Purchase) -> orders.PlaceOrder:
    return orders.PlaceOrder(
        tenant=command.tenant,
        order_id=orders.OrderId(command.id),
        user_id=command.user_id,
        items=tuple(
            orders.OrderItem(product_id=orders.ProductId(item.product_id), quantity=item.quantity)
            for item in body.items
        ),
        payment_method=body.payment_method,
    )


async def _read(tx: database.Tx, command: commands.Command) -> tuple[domain.orders.Order, commands.Answer | None]:
    order = await store.orders.get(tx, command.tenant, command.id, owner=command.user_id)
    assert order is not None  # it was stored with the command
    is_captured = order.status == "paid" and await store.orders.is_captured(
        tx, command.tenant, command.id, owner=command.user_id
    )
    return order, _answer(order, is_captured=is_captured)


def _answer(order: domain.orders.Order, *, is_captured: bool) -> commands.Answer | None:
    if order.refusal is not None:
        status = 402 if order.refusal.code == "insufficient_funds" else 409
        body = {"code": order.refusal.code, "detail": order.refusal.detail, "order_id": str(order.id)}
        return commands.Answer(status, body)
    # The order's event and the ledger's are projected independently; after the answer the client may read both.
    return commands.Answer(201, order.model_dump(mode="json")) if is_captured else None
