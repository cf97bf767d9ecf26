import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from chassis import health, web
from payments.webhooks.api import routes

BODY = json.dumps({"type": "notification", "event": "payment.succeeded", "object": {"id": "ref-1"}})
LISTED, PROXY = "185.71.76.5", "203.0.113.9"


@pytest.fixture
def behind(shop: Any) -> Any:
    """The shop behind a proxy that signs what it passes on; the older secret is still good."""
    shop.http = web.create("payments", health.Health())
    shop.http.include_router(
        routes.routes(
            shop.db, shop.providers, trusted_proxies=(), default_account="demo", proxy_secrets=("newer", "older")
        )
    )
    return shop


def signed(age_s: float = 0, *, secret: str = "newer", body: str = BODY, peer: str = LISTED) -> dict[str, str]:
    timestamp = str(int(time.time() - age_s))
    signature = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return {"x_webhook_timestamp": timestamp, "x_webhook_signature": signature, "x_forwarded_for": peer}


@pytest.mark.parametrize("secret", ["newer", "older"])
async def test_a_webhook_that_our_proxy_signed_is_stored(behind: Any, secret: str) -> None:
    (answer,) = await behind.post("/webhooks/yookassa/demo", BODY, PROXY, **signed(secret=secret))

    assert answer.status_code == 200
    assert await behind.webhook_states() == ["new"]


@pytest.mark.rule("PA2")
@pytest.mark.parametrize("age_s", [302, 86_400, -302])
async def test_a_signature_that_is_too_old_or_of_the_future_is_refused_and_a_fresh_one_is_not(
    behind: Any, age_s: float
) -> None:
    (refused,) = await behind.post("/webhooks/yookassa/demo", BODY, PROXY, **signed(age_s))
    assert (refused.status_code, await behind.webhook_states()) == (403, [])

    statuses = []
    for _ in range(2):
        (answer,) = await behind.post("/webhooks/yookassa/demo", BODY, PROXY, **signed())
        statuses.append(answer.status_code)

    assert statuses == [200, 200]
    assert await behind.webhook_states() == ["new"]


@pytest.mark.rule("PA2")
async def test_a_signature_that_is_replayed_in_its_time_is_one_webhook(behind: Any) -> None:
    headers = signed()

    answers = await asyncio.gather(*(behind.post("/webhooks/yookassa/demo", BODY, PROXY, **headers) for _ in range(5)))

    assert [answer.status_code for (answer,) in answers] == [200] * 5
    assert await behind.webhook_states() == ["new"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_webhook_timestamp": str(int(time.time()))},
        {**signed(), "x_webhook_signature": ""},
        {**signed(), "x_webhook_timestamp": "now"},
        {**signed(), "x_webhook_timestamp": "-1"},
        signed(secret="guessed"),
        signed(secret=""),
        signed(body=BODY + " "),
    ],
)
async def test_a_webhook_without_our_proxys_signature_is_refused_even_from_the_providers_address(
    behind: Any, headers: dict[str, str]
) -> None:
    (answer,) = await behind.post("/webhooks/yookassa/demo", BODY, LISTED, **headers)

    assert answer.status_code == 403
    assert await behind.webhook_states() == []


async def test_our_proxys_signature_does_not_make_foreign_addresses_valid(behind: Any) -> None:
    (answer,) = await behind.post("/webhooks/yookassa/demo", BODY, PROXY, **signed(peer="198.51.100.7"))

    assert answer.status_code == 403
