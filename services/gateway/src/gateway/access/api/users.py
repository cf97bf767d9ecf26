"""Login by initData, and the user's own record."""

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis import envelope, strict_json
from contracts import message
from gateway.access import domain, store
from gateway.access.api import authenticator
from gateway.api import authentication, deps, document
from gateway.domain import sessions

router = APIRouter(tags=["users"], route_class=strict_json.Route)


class LogIn(BaseModel):
    """What a Mini App received as `Telegram.WebApp.initData`, unchanged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # Twice the limit, so that what is slightly too large is refused as initData and not as a field.
    init_data: Annotated[
        str,
        Field(
            max_length=2 * domain.initdata.SIZE_MAX_BYTES,
            examples=["query_id=AAHdF6IQ&user=%7B%22id%22%3A279058397%7D&auth_date=1662771648&hash=c501b71e"],
        ),
    ]


class LoggedIn(BaseModel):
    """A session token to send as `Authorization: Bearer`, for `expires_in` seconds."""

    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMTk4In0.c2lnbmF0dXJl"])
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(examples=[3600])
    user: domain.users.User


@router.post(
    "/auth/telegram", responses=document.responses("401 init_data_invalid", "401 init_data_expired", *document.BODY)
)
async def log_in(body: LogIn, deps: deps.FromRequest, response: Response) -> LoggedIn:
    """Exchange initData for a session token; the first login creates the user."""
    # The authenticator of a process is this slice's.
    user = await cast("authenticator.Authenticator", deps.authenticator).log_in(body.init_data)
    token = domain.tokens.issue(
        sessions.Session(deps.tenant, message.UserId(user.id)),
        secret=deps.settings.session_secret.get_secret_value(),
        now=envelope.now(),
        ttl_s=deps.settings.session_ttl_s,
    )
    response.headers["Cache-Control"] = "no-store"
    return LoggedIn(access_token=token, expires_in=deps.settings.session_ttl_s, user=user)


@router.get("/users/me", responses=document.responses(*document.PERSON), openapi_extra=document.PERSONAL)
async def me(deps: deps.FromRequest, session: authentication.Session) -> domain.users.User:
    """Return the user of the session."""
    async with deps.db.statement() as tx:
        user = await store.get_user(tx, session.tenant, session.user_id)
    if user is None:
        raise sessions.TokenInvalid
    return user
