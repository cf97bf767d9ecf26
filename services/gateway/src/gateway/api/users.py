"""Logging in, and who one is."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis import envelope
from contracts import message
from gateway.api import access, deps, document
from gateway.domain import initdata, sessions, views
from gateway.store import users

router = APIRouter(tags=["users"])


class LogIn(BaseModel):
    """What a Mini App received as `Telegram.WebApp.initData`, unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # Twice the limit, so that what is somewhat too large is refused as initData and not as a field.
    init_data: Annotated[
        str,
        Field(
            max_length=2 * initdata.SIZE_MAX_BYTES,
            examples=["query_id=AAHdF6IQ&user=%7B%22id%22%3A279058397%7D&auth_date=1662771648&hash=c501b71e"],
        ),
    ]


class LoggedIn(BaseModel):
    """A session token to send as `Authorization: Bearer`, for `expires_in` seconds."""

    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTk4In0.c2lnbmF0dXJl"])
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(examples=[3600])
    user: views.User


@router.post(
    "/auth/telegram", responses=document.responses("401 init_data_invalid", "401 init_data_expired", *document.BODY)
)
async def log_in(body: LogIn, deps: deps.FromRequest, response: Response) -> LoggedIn:
    """Exchange initData for a session token; the first time makes a user."""
    user = await access.log_in(deps, body.init_data)
    token = sessions.issue(
        sessions.Session(deps.tenant, message.UserId(user.id)),
        secret=deps.settings.session_secret.get_secret_value(),
        now=envelope.now(),
        ttl_s=deps.settings.session_ttl_s,
    )
    response.headers["Cache-Control"] = "no-store"
    return LoggedIn(access_token=token, expires_in=deps.settings.session_ttl_s, user=user)


@router.get("/users/me", responses=document.responses(*document.PERSON), openapi_extra=document.PERSONAL)
async def me(deps: deps.FromRequest, session: access.Session) -> views.User:
    """Who one is."""
    async with deps.db.statement() as tx:
        user = await users.get(tx, session.tenant, session.user_id)
    if user is None:
        raise sessions.TokenInvalid
    return user
