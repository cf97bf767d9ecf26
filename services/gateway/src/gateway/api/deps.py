"""What every route works with, built once by the process and given to each route by parameter."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from chassis import database
from contracts import message
from gateway import settings
from gateway.clients import limiter, wakeups
from gateway.domain import initdata


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of one api process."""

    settings: settings.GatewaySettings
    db: database.Database
    wakeups: wakeups.WakeupListener
    limiter: limiter.Limiter
    tenant: message.TenantId = field(init=False)
    init_data_secret: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive what every request needs."""
        object.__setattr__(self, "tenant", message.TenantId(self.settings.tenant))
        secret = initdata.secret_of(self.settings.bot_token.get_secret_value())
        object.__setattr__(self, "init_data_secret", secret)


def of(request: Request) -> Deps:
    """Return the parts of the process that serves this request."""
    return cast("Deps", request.app.state.deps)


FromRequest = Annotated[Deps, Depends(of)]
