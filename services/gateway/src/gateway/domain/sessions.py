"""Session tokens: what the gateway itself vouches for after it has checked who somebody is.

A token is believed only if this gateway signed it for this tenant, and only until it expires.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import jwt
from pydantic import BaseModel, ValidationError

from chassis import errors
from contracts import message

ALGORITHM = "HS256"
ISSUER = "kopilka.gateway"
AUDIENCE = "kopilka.api"
TOKEN_MAX_CHARS = 2_048


class Unauthenticated(errors.Refusal):
    """Send `Authorization: Bearer <access token>` or `Authorization: tma <initData>`."""

    code = "unauthenticated"
    status = 401


class TokenInvalid(Unauthenticated):
    """The access token was not issued by this gateway, or was changed."""

    code = "token_invalid"


class TokenExpired(Unauthenticated):
    """The access token has expired; log in again."""

    code = "token_expired"


@dataclass(frozen=True, slots=True)
class Session:
    """Whom a request speaks for."""

    tenant: message.TenantId
    user_id: message.UserId


class _Claims(BaseModel):
    sub: UUID
    tenant: str
    exp: int


def issue(session: Session, *, secret: str, now: datetime, ttl_s: int) -> str:
    """Sign a token that speaks for this session until `ttl_s` seconds from now."""
    issued_at = int(now.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(session.user_id),
        "tenant": session.tenant,
        "iat": issued_at,
        "exp": issued_at + ttl_s,
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def read(token: str, *, tenant: message.TenantId, secret: str, now: datetime) -> Session:
    """Give the session that a token speaks for. Raises TokenInvalid or TokenExpired."""
    if len(token) > TOKEN_MAX_CHARS:
        raise TokenInvalid
    try:
        payload = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # The times are checked below, against the clock that the caller gives.
            options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
        )
        claims = _Claims.model_validate(payload)
    except (jwt.InvalidTokenError, ValidationError) as error:
        raise TokenInvalid from error
    if claims.tenant != tenant:
        raise TokenInvalid
    if claims.exp <= now.timestamp():
        raise TokenExpired
    return Session(tenant, message.UserId(claims.sub))
