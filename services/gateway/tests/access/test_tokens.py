"""Session tokens: accepted only from this gateway, for this tenant and until they expire."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from contracts import message
from gateway.access.domain import tokens
from gateway.domain import sessions

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "x" * 32
TENANT = message.TenantId("demo")


def test_a_token_is_accepted_until_it_expires() -> None:
    session = sessions.Session(TENANT, message.UserId(uuid4()))
    token = tokens.issue(session, secret=SECRET, now=NOW, ttl_s=60)

    assert tokens.read(token, tenant=TENANT, secret=SECRET, now=NOW + timedelta(seconds=59)) == session
    with pytest.raises(sessions.TokenExpired):
        tokens.read(token, tenant=TENANT, secret=SECRET, now=NOW + timedelta(seconds=60))


def test_a_token_of_another_tenant_or_secret_is_invalid() -> None:
    session = sessions.Session(TENANT, message.UserId(uuid4()))
    token = tokens.issue(session, secret=SECRET, now=NOW, ttl_s=60)

    for tenant, secret in ((message.TenantId("other"), SECRET), (TENANT, "y" * 32)):
        with pytest.raises(sessions.TokenInvalid):
            tokens.read(token, tenant=tenant, secret=secret, now=NOW)
