"""The dependencies of routes, built once by the process and given to each route by parameter."""

from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request

from chassis import database
from contracts import message
from gateway import settings
from gateway.clients import limiter, wakeups
from gateway.domain import sessions


class Authenticator(Protocol):
    """Finds out who sends a request; the access slice has the one in use."""

    async def session_of(self, request: Request) -> sessions.Session:
        """Return the session of a request. Raises a subclass of Unauthenticated."""

    async def known_user(self, request: Request) -> message.UserId | None:
        """Return the user of a request without registering anybody; None when there is no proof of one."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of one api process."""

    settings: settings.GatewaySettings
    db: database.Database
    authenticator: Authenticator
    wakeups: wakeups.WakeupListener
    limiter: limiter.Limiter
    tenant: message.TenantId = field(init=False)

    def __post_init__(self) -> None:
        """Derive what every request needs."""
        object.__setattr__(self, "tenant", message.TenantId(self.settings.tenant))


def of(request: Request) -> Deps:
    """Return the parts of the process that serves this request."""
    return cast("Deps", request.app.state.deps)


FromRequest = Annotated[Deps, Depends(of)]
