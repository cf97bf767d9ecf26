"""The session that an authenticated request belongs to, and the refusals of requests without one."""

from dataclasses import dataclass

from chassis import errors
from contracts import message


class Unauthenticated(errors.Refusal):
    """Send `Authorization: Bearer <access token>` or `Authorization: tma <initData>`."""

    code = "unauthenticated"
    status = 401


class TokenInvalid(Unauthenticated):
    """The access token was not issued by this gateway, was changed, or its user is no more."""

    code = "token_invalid"


class TokenExpired(Unauthenticated):
    """The access token has expired; log in again."""

    code = "token_expired"


@dataclass(frozen=True, slots=True)
class Session:
    """The user that a request is authenticated as."""

    tenant: message.TenantId
    user_id: message.UserId
