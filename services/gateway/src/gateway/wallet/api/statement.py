"""The balances of a user, and the statement that explains them."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

from chassis import strict_json
from contracts import message
from gateway.api import authentication, deps, document, lists
from gateway.domain import cursors
from gateway.wallet import domain, store

# Years that both PostgreSQL and Python represent in every time zone.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))]
_POSITION: TypeAdapter[store.statement.Position] = TypeAdapter(
    tuple[Moment, Annotated[int, Field(ge=0, lt=2**63)], message.Currency]
)

router = APIRouter(tags=["wallet"], route_class=strict_json.Route)


class Balances(BaseModel):
    """The user's balances by asset."""

    balances: list[domain.statement.Balance]


@router.get("/balance", responses=document.responses(*document.PERSON), openapi_extra=document.PERSONAL)
async def balance(deps: deps.FromRequest, session: authentication.Session) -> Balances:
    """Return the user's balances: every asset with a statement line, and the wallet's currencies at 0 without one."""
    async with deps.db.statement() as tx:
        stored = await store.statement.balances(tx, session.tenant, session.user_id)
    missing = sorted(set(deps.settings.currencies) - {balance.asset for balance in stored})
    empty = [
        domain.statement.Balance(asset=asset, balance_minor=0, held_minor=0, available_minor=0) for asset in missing
    ]
    return Balances(balances=stored + empty)


@router.get(
    "/transactions",
    responses=document.responses(*document.PERSON, *document.LIST),
    openapi_extra=document.PERSONAL,
)
async def transactions(
    deps: deps.FromRequest,
    session: authentication.Session,
    asset: message.Currency | None = None,
    limit: lists.Limit = lists.LIMIT,
    cursor: lists.Cursor = None,
) -> lists.Page[domain.statement.StatementLine]:
    """Return the user's statement, newest first. New lines never move the page after a cursor."""
    before = cursors.decode(cursor, _POSITION) if cursor is not None else None
    async with deps.db.statement() as tx:
        rows = await store.statement.lines(
            tx, session.tenant, session.user_id, asset=asset, before=before, limit=limit + 1
        )
    shown, next_cursor = cursors.page(rows, limit, lambda row: row[0])
    return lists.Page(items=[line for _, line in shown], next_cursor=next_cursor)
