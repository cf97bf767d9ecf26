"""Session tokens: JWTs that the gateway signs after login.

A token is accepted only when this gateway signed it for this tenant, and only until it expires.
"""

from datetime import datetime
from uuid import UUID

import jwt
from pydantic import BaseModel, ValidationError

from contracts import message
from gateway.domain import sessions

ALGORITHM = "HS256"
ISSUER = "kopilka.gateway"
AUDIENCE = "kopilka.api"
TOKEN_MAX_CHARS = 2_048


class _Claims(BaseModel):
    sub: UUID
    tenant: str
    exp: int


def issue(session: sessions.Session, *, secret: str, now: datetime, ttl_s: int) -> str:
    """Return a signed token for this session that expires `ttl_s` seconds from now."""
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


def read(token: str, *, tenant: message.TenantId, secret: str, now: datetime) -> sessions.Session:
    """Return the session of a token. Raises TokenInvalid or TokenExpired."""
    if len(token) > TOKEN_MAX_CHARS:
        raise sessions.TokenInvalid
    try:
        payload = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Expiry is checked below, against the time that the caller passes.
            options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
        )
        claims = _Claims.model_validate(payload)
    except (jwt.InvalidTokenError, ValidationError) as error:
        raise sessions.TokenInvalid from error
    if claims.tenant != tenant:
        raise sessions.TokenInvalid
    if claims.exp <= now.timestamp():
        raise sessions.TokenExpired
    return sessions.Session(tenant, message.UserId(claims.sub))
