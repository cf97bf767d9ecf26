"""The session of a request, as routes ask for it, and the 401 of a request without one."""

from typing import Annotated

from fastapi import Depends, Request, Response

from chassis import web
from gateway.api import deps
from gateway.domain import sessions


async def session_of(request: Request, deps: deps.FromRequest) -> sessions.Session:
    """Return the session that the Authorization header proves. Raises a subclass of Unauthenticated."""
    return await deps.authenticator.session_of(request)


async def challenge(request: Request, error: Exception) -> Response:
    """Answer 401 with the schemes that are accepted, as RFC 9110 demands."""
    assert isinstance(error, sessions.Unauthenticated)
    response = web.answer(request, error.status, error.code, error.detail)
    response.headers["WWW-Authenticate"] = "Bearer, tma"
    return response


Session = Annotated[sessions.Session, Depends(session_of)]
