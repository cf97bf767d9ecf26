"""Who is asking: initData or a session token, on any route, and the first contact that makes a person a user."""

from typing import Annotated

from fastapi import Depends, Request, Response

from chassis import envelope, errors, outbox, web
from contracts import gateway, message
from gateway.api import deps
from gateway.domain import initdata, sessions, views
from gateway.store import users

AUTHORIZATION_MAX_CHARS = initdata.SIZE_MAX_BYTES + 16


class UnsupportedMediaType(errors.Refusal):
    """Send the body as application/json."""

    code = "unsupported_media_type"
    status = 415


async def json_only(request: Request) -> None:
    """Refuse a body that is not declared as JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type != "application/json":
        raise UnsupportedMediaType


async def log_in(deps: deps.Deps, init_data: str) -> views.User:
    """Give the user whom initData speaks for, a new one at first contact. Raises when the initData is not good."""
    person = initdata.check(
        init_data, secret=deps.init_data_secret, now=envelope.now(), ttl_s=deps.settings.init_data_ttl_s
    )
    async with deps.db.statement() as tx:
        user = await users.find(tx, deps.tenant, person.id)
    return user or await _register(deps, person)


async def _register(deps: deps.Deps, person: initdata.TelegramUser) -> views.User:
    user_id = message.UserId(envelope.uuid7())
    async with deps.db.transaction() as tx:
        user = await users.add(tx, deps.tenant, user_id, person.id)
        if user is not None:
            registered = gateway.UserRegistered(tenant=deps.tenant, user_id=user_id, telegram_id=person.id)
            await outbox.put(tx, [registered])
            return user
        user = await users.find(tx, deps.tenant, person.id)
    assert user is not None  # whoever was first has committed, and users are never deleted
    return user


async def session_of(request: Request, deps: deps.FromRequest) -> sessions.Session:
    """Give the session that the Authorization header speaks for. Raises Unauthenticated, saying why."""
    header = request.headers.get("authorization", "")
    scheme, _, credentials = header.partition(" ")
    if len(header) > AUTHORIZATION_MAX_CHARS or not credentials:
        raise sessions.Unauthenticated
    if scheme.lower() == "bearer":
        # The limits ask before the route does.
        known = getattr(request.state, "session", None)
        return known if isinstance(known, sessions.Session) else _read(request, deps, credentials.strip())
    if scheme.lower() == "tma":
        user = await log_in(deps, credentials.strip())
        return sessions.Session(deps.tenant, message.UserId(user.id))
    raise sessions.Unauthenticated


def _read(request: Request, deps: deps.Deps, token: str) -> sessions.Session:
    secret = deps.settings.session_secret.get_secret_value()
    session = sessions.read(token, tenant=deps.tenant, secret=secret, now=envelope.now())
    request.state.session = session
    return session


async def challenge(request: Request, error: Exception) -> Response:
    """Answer 401 as HTTP wants it: with the schemes that would be accepted."""
    assert isinstance(error, sessions.Unauthenticated)
    response = web.answer(request, error.status, error.code, error.detail)
    response.headers["WWW-Authenticate"] = "Bearer, tma"
    return response


Session = Annotated[sessions.Session, Depends(session_of)]
