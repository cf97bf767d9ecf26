"""Buying from the wallet, and what one has bought. A client names products and quantities, never a price."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chassis import database, errors, outbox
from contracts import orders
from gateway.api import access, deps, document, lists, writes
from gateway.api import ids as opaque
from gateway.domain import commands, cursors, sessions, views
from gateway.store import orders as store

_POSITION: TypeAdapter[tuple[UUID]] = TypeAdapter(tuple[UUID])

router = APIRouter(prefix="/orders", tags=["orders"])


class OrderNotFound(errors.Refusal):
    """You have no such order."""

    code = "order_not_found"
    status = 404


class Item(BaseModel):
    """What to buy and how much of it."""

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
    response_model=views.Order,
    responses={
        202: {"model": views.Order, "description": "Accepted; read `Location` after `Retry-After` seconds."},
        **document.responses(
            *document.PERSON, *document.KEY, *document.BODY, "402 insufficient_funds", "409 product_unavailable"
        ),
    },
    openapi_extra=document.WRITE,
)
async def place(body: Purchase, request: Request, deps: deps.FromRequest, session: access.Session) -> JSONResponse:
    """Buy from the wallet; answered when the order is paid and one's statement shows it."""

    async def accept(tx: database.Tx, order_id: UUID) -> outbox.OutboxMessage:
        command = orders.PlaceOrder(
            tenant=session.tenant,
            order_id=orders.OrderId(order_id),
            user_id=session.user_id,
            items=tuple(
                orders.OrderItem(product_id=orders.ProductId(item.product_id), quantity=item.quantity)
                for item in body.items
            ),
            payment_method=body.payment_method,
        )
        await store.accept(tx, command)
        return command

    async def look(tx: database.Tx, order_id: UUID) -> tuple[views.Order, commands.Answer | None]:
        order = await _own(tx, session, order_id)
        is_shown = order.status == "paid" and await store.is_captured(
            tx, session.tenant, order_id, owner=session.user_id
        )
        return order, _answer(order, is_shown=is_shown)

    write = writes.Write("POST /orders", request.url.path, accept, look)
    return await writes.carry_out(deps, request, session, body, write)


@router.get(
    "/my",
    responses=document.responses(*document.PERSON, *document.LIST),
    openapi_extra=document.PERSONAL,
)
async def mine(
    deps: deps.FromRequest, session: access.Session, limit: lists.Limit = lists.LIMIT, cursor: lists.Cursor = None
) -> lists.Page[views.Order]:
    """One's own orders, newest first."""
    position = cursors.decode(cursor, _POSITION) if cursor is not None else (None,)
    async with deps.db.statement() as tx:
        found = await store.newest(tx, session.tenant, owner=session.user_id, before=position[0], limit=limit + 1)
    items, next_cursor = cursors.page(found, limit, lambda order: (order.id,))
    return lists.Page(items=items, next_cursor=next_cursor)


@router.get(
    "/{order_id}",
    responses=document.responses(*document.PERSON, "404 order_not_found"),
    openapi_extra=document.PERSONAL,
)
async def order(order_id: str, deps: deps.FromRequest, session: access.Session) -> views.Order:
    """One's own order."""
    async with deps.db.statement() as tx:
        return await _own(tx, session, opaque.parsed(order_id, OrderNotFound))


async def _own(tx: database.Tx, session: sessions.Session, order_id: UUID) -> views.Order:
    found = await store.get(tx, session.tenant, order_id, owner=session.user_id)
    if found is None:
        raise OrderNotFound
    return found


def _answer(order: views.Order, *, is_shown: bool) -> commands.Answer | None:
    if order.refusal is not None:
        status = 402 if order.refusal.code == "insufficient_funds" else 409
        body = {"code": order.refusal.code, "detail": order.refusal.detail, "order_id": str(order.id)}
        return commands.Answer(status, body)
    # Paid is told by orders, the movement by the ledger; the client may read either right after the answer.
    return commands.Answer(201, order.model_dump(mode="json")) if is_shown else None
