import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chassis import database, health, web
from payments.webhooks.api import routes
from payments.webhooks.domain import unknown_payments

LISTED, FORGED = "185.71.76.5", "203.0.113.9"
BODY = json.dumps({"type": "notification", "event": "payment.succeeded", "object": {"id": "ref-1", "last4": "4477"}})


def counted(result: str, provider: str = "yookassa", account: str = "demo") -> float:
    labels = {"provider": provider, "account": account, "result": result}
    return REGISTRY.get_sample_value("kopilka_webhook_requests_total", labels) or 0


async def test_a_webhook_is_stored_without_its_body(shop: Any) -> None:
    (answer,) = await shop.post("/webhooks/yookassa/demo", BODY)

    (row,) = await shop.rows("SELECT * FROM webhook")
    assert (answer.status_code, answer.json()) == (200, {"status": "stored"})
    assert (row["tenant"], row["account"], row["event"]) == ("demo", "demo", "payment.succeeded")
    assert (row["provider_ref"], row["state"], row["body_bytes"]) == ("ref-1", "new", len(BODY))
    assert "4477" not in str(row)


# saleor/storefront#597
@pytest.mark.parametrize("path", ["/webhooks/yookassa/demo/", "/webhook/yookassa/"])
async def test_a_webhook_is_stored_with_a_slash_at_the_end_of_its_path(shop: Any, path: str) -> None:
    (answer,) = await shop.post(path, BODY)

    assert (answer.status_code, answer.json()) == (200, {"status": "stored"})
    assert await shop.webhook_states() == ["new"]


async def test_the_alias_is_the_default_account(shop: Any) -> None:
    (answer,) = await shop.post("/webhook/yookassa", BODY)

    assert answer.status_code == 200
    assert await shop.webhook_states() == ["new"]


async def test_the_same_body_is_stored_once(shop: Any) -> None:
    before = counted("duplicate")

    answers = [await shop.post("/webhooks/yookassa/demo", BODY) for _ in range(3)]

    assert [answer.status_code for (answer,) in answers] == [200, 200, 200]
    assert await shop.webhook_states() == ["new"]
    assert counted("duplicate") == before + 2


@pytest.mark.parametrize("subject", ['"object": {"id": "ref-1"}', '"object": {}', '"object": [7]', '"id": "a-b"'])
async def test_a_notification_that_is_not_used_is_counted_and_not_stored(shop: Any, subject: str) -> None:
    before = counted("ignored")

    (answer,) = await shop.post(
        "/webhooks/yookassa/demo", '{"type": "notification", "event": "payout.succeeded", ' + subject + "}"
    )

    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert await shop.webhook_states() == []
    assert counted("ignored") == before + 1


@pytest.mark.rule("PA3")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_forwarded_for": LISTED},
        {"x_forwarded_for": f"{LISTED}, {LISTED}"},
        {"x_real_ip": LISTED},
        {"forwarded": f"for={LISTED}"},
        {"client_ip": LISTED},
    ],
)
async def test_a_forged_webhook_is_refused_and_leaves_nothing(shop: Any, sandbox: Any, headers: dict[str, str]) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "pay")
    asked, before = len(sandbox.requests("GET")), counted("foreign_address")

    (answer,) = await shop.post("/webhooks/yookassa/demo", BODY.replace("ref-1", ref), FORGED, **headers)
    await shop.settle_webhooks()

    assert (answer.status_code, answer.json()["code"]) == (403, "forged_webhook")
    assert counted("foreign_address") == before + 1
    assert await shop.webhook_states() == []
    assert len(sandbox.requests("GET")) == asked
    assert (await shop.payment(payment_id))["state"] == "pending"


@pytest.mark.rule("PA3")
@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("10.0.0.7", LISTED, 200),
        ("10.0.0.7", f"{FORGED}, {LISTED}", 200),
        ("10.0.0.7", f"{LISTED}, 10.0.0.9", 200),
        ("10.0.0.7", f"{LISTED}, {FORGED}", 403),
        ("10.0.0.7", f"{LISTED}, {FORGED}, 10.0.0.9", 403),
        ("10.0.0.7", f"{LISTED}:4431", 200),
        ("10.0.0.7", f"[::ffff:{LISTED}]:4431", 200),
        ("10.0.0.7", "[2a02:5180::7]:443", 200),
        ("10.0.0.7", f"{LISTED}:4431, {FORGED}:80", 403),
        ("10.0.0.7", f"{LISTED}, unknown", 403),
        ("10.0.0.7", f"{LISTED},", 403),
        ("10.0.0.7", None, 403),
        (FORGED, LISTED, 403),
        (LISTED, FORGED, 200),
    ],
)
async def test_only_the_hop_before_our_own_proxies_counts(
    shop: Any, peer: str, forwarded: str | None, status: int
) -> None:
    shop.trust("10.0.0.0/8")

    (answer,) = await shop.post(
        "/webhooks/yookassa/demo", BODY, peer, **({"x_forwarded_for": forwarded} if forwarded else {})
    )

    assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"type": "notification"}',
        b'{"type": "other", "event": "payment.succeeded", "object": {"id": "ref-1"}}',
        b'{"type": "notification", "event": "payment.Has Succeeded", "object": {"id": "ref-1"}}',
        b'{"type": "notification", "event": 7, "object": {"id": "ref-1"}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": "ref-1"}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": 7}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "../refunds"}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "r\\u0000f"}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "' + b"r" * 65 + b'"}}',
        b"[" * 120_000,
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "ref-1", "n": '
        + b"9" * 5_000
        + b"}}",
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "caf\xe9"}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": NaN}}',
        b'{"type": "notification", "event": "payment.succeeded", "object": {"id": "\\ud83d"}}',
    ],
)
async def test_a_malformed_webhook_is_refused_and_leaves_nothing(shop: Any, body: bytes) -> None:
    (answer,) = await shop.post("/webhooks/yookassa/demo", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_webhook")
    assert await shop.webhook_states() == []


async def test_a_body_beyond_the_limit_is_refused(shop: Any) -> None:
    (answer,) = await shop.post("/webhooks/yookassa/demo", b" " * (256 * 1024 + 1))

    assert answer.status_code == 413
    assert await shop.webhook_states() == []


async def test_webhooks_about_invented_payments_are_put_off_and_those_about_ours_never(shop: Any) -> None:
    _, ours = await shop.pending()
    invented = [(await shop.send_webhook(f"ref-{number}"))[0] for number in range(unknown_payments.BURST + 30)]

    assert set(invented[: unknown_payments.BURST]) == {200}
    assert 429 in invented
    assert await shop.send_webhook(ours) == [200]
    assert await shop.send_webhook("ref-x", peer="77.75.156.11") == [200]
    assert len(await shop.webhook_states()) == invented.count(200) + 2


def test_a_sender_of_unknown_payments_gets_its_share_back_by_the_second() -> None:
    now_s = 100.0
    share, sender = unknown_payments.UnknownPayments(lambda: now_s), ("yookassa", "demo", "185.71.76.1")
    for _ in range(unknown_payments.BURST):
        assert not share.is_exhausted(sender)
        share.count(sender)
    now_s += 10

    taken = 0
    while not share.is_exhausted(sender):
        share.count(sender)
        taken += 1

    assert taken == 10
    assert not share.is_exhausted(("yookassa", "demo", "185.71.76.2"))


@pytest.mark.parametrize("path", ["/webhooks/yookassa/other", "/webhooks/stripe/demo", "/webhooks/%00/%ff"])
async def test_an_unknown_account_is_not_there(shop: Any, path: str) -> None:
    (answer,) = await shop.post(path, BODY)

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_account")
    assert await shop.webhook_states() == []


async def test_without_the_database_the_provider_is_answered_with_an_error(shop: Any) -> None:
    away = database.Database("postgresql://u:p@127.0.0.1:9/away", schema="payments", pool_size=1)
    here, shop.db = shop.db, away
    shop.restart()

    (answer,) = await shop.post("/webhooks/yookassa/demo", BODY)

    await away.close()
    shop.db = here
    assert (answer.status_code, answer.json()["code"]) == (503, "temporarily_unavailable")
    assert "retry-after" in answer.headers
    assert await shop.webhook_states() == []


async def test_the_timer_is_woken_after_the_commit(shop: Any) -> None:
    woken = asyncio.Event()
    http: FastAPI = web.create("payments", health.Health())
    http.include_router(
        routes.routes(shop.db, shop.providers, trusted_proxies=(), default_account="demo", wake=woken.set)
    )

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(http, client=(LISTED, 1)), base_url="http://payments"
    ) as client:
        await client.post("/webhook/yookassa", content=BODY)

    assert woken.is_set()


# schemathesis over payments
async def test_every_response_of_the_endpoint_is_in_its_document(shop: Any) -> None:
    document = shop.http.openapi()
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}

    assert set(document["paths"]) == {"/webhooks/{provider}/{account}", "/webhook/yookassa"}
    assert {"Problem", "FieldProblem", "Received"} <= set(document["components"]["schemas"])
    for path in document["paths"].values():
        responses = path["post"]["responses"]
        assert set(responses) == {"200", "400", "403", "404", "408", "413", "429", "503"}
        for status in set(responses) - {"200"}:
            ((media_type, described),) = responses[status]["content"].items()
            assert media_type == "application/problem+json"
            assert described["schema"] == problem["schema"]
    for body, peer, path, status, code in (
        (BODY, LISTED, "/webhooks/yookassa/other", 404, "unknown_account"),
        (BODY, FORGED, "/webhooks/yookassa/demo", 403, "forged_webhook"),
        ("{", LISTED, "/webhooks/yookassa/demo", 400, "malformed_webhook"),
        (" " * 5_000_000, LISTED, "/webhooks/yookassa/demo", 413, "content_too_large"),
    ):
        (answer,) = await shop.post(path, body, peer)
        described = document["paths"]["/webhooks/{provider}/{account}"]["post"]["responses"][str(status)]

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert code in described["content"]["application/problem+json"]["examples"]
        assert answer.headers["content-type"] == "application/problem+json"
