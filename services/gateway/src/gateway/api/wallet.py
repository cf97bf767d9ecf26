"""What one has, and every movement that led there."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

from contracts import message
from gateway.api import access, deps, document, lists
from gateway.domain import cursors, views
from gateway.store import wallet

# The years that the database and Python agree on, whatever the time zone.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))]
_POSITION: TypeAdapter[wallet.Position] = TypeAdapter(
    tuple[Moment, Annotated[int, Field(ge=0, lt=2**63)], message.Currency]
)

router = APIRouter(tags=["wallet"])


class Balances(BaseModel):
    """What one has of each asset."""

    balances: list[views.Balance]


@router.get("/balance", responses=document.responses(*document.PERSON), openapi_extra=document.PERSONAL)
async def balance(deps: deps.FromRequest, session: access.Session) -> Balances:
    """What one has: every asset that was ever moved, and the wallet's currencies at 0 before that."""
    async with deps.db.statement() as tx:
        known = await wallet.balances(tx, session.tenant, session.user_id)
    missing = sorted(set(deps.settings.currencies) - {entry.asset for entry in known})
    empty = [views.Balance(asset=asset, balance_minor=0, held_minor=0, available_minor=0) for asset in missing]
    return Balances(balances=known + empty)


@router.get(
    "/transactions",
    responses=document.responses(*document.PERSON, *document.LIST),
    openapi_extra=document.PERSONAL,
)
async def transactions(
    deps: deps.FromRequest,
    session: access.Session,
    asset: message.Currency | None = None,
    limit: lists.Limit = lists.LIMIT,
    cursor: lists.Cursor = None,
) -> lists.Page[views.StatementLine]:
    """One's statement, newest first. New lines never move what a cursor continues."""
    before = cursors.decode(cursor, _POSITION) if cursor is not None else None
    async with deps.db.statement() as tx:
        found = await wallet.lines(tx, session.tenant, session.user_id, asset=asset, before=before, limit=limit + 1)
    shown, next_cursor = cursors.page(found, limit, lambda placed: placed[0])
    return lists.Page(items=[line for _, line in shown], next_cursor=next_cursor)
