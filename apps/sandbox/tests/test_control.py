"""The control API: payments, the request log, the reset and errors."""

import json

import httpx
import pytest

TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
REQUEST = {"amount": {"value": "1500.00", "currency": "RUB"}, "capture": True}


def created(shop: httpx.Client, key: str = "key-1") -> str:
    return str(shop.post("/payments", headers={"Idempotence-Key": key}, json=REQUEST).raise_for_status().json()["id"])


def test_payments_are_listed_with_their_provider_newest_first(ctl: httpx.Client, shop: httpx.Client) -> None:
    refs = [created(shop, "key-1"), created(shop, "key-2")]

    items = ctl.get("/payments", params={"provider": "yookassa", "limit": 1}).json()["items"]

    assert [(item["provider"], item["payment"]["id"]) for item in items] == [("yookassa", refs[1])]
    assert ctl.get("/payments", params={"provider": "nobody"}).status_code == 404


def test_an_action_answers_with_the_payment_and_its_webhooks(ctl: httpx.Client, shop: httpx.Client) -> None:
    answer = ctl.post(f"/payments/{created(shop)}/pay").json()

    assert answer["payment"]["status"] == "succeeded"
    assert answer["webhooks"] == 1


@pytest.mark.parametrize("action", ["pay", "decline", "expire", "refund", "dispute"])
def test_an_action_on_an_unknown_payment_is_not_found(ctl: httpx.Client, action: str) -> None:
    answer = ctl.post(f"/payments/none/{action}")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("action", ["pay", "decline", "expire"])
def test_an_action_that_the_state_forbids_is_a_conflict(ctl: httpx.Client, shop: httpx.Client, action: str) -> None:
    ref = created(shop)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    answer = ctl.post(f"/payments/{ref}/{action}")

    assert answer.status_code == 409
    assert shop.get(f"/payments/{ref}").json()["status"] == "succeeded"


def test_a_payment_is_returned_with_its_webhooks(ctl: httpx.Client, shop: httpx.Client, answers: list[int]) -> None:
    answers.append(500)
    ref, other = created(shop, "key-1"), created(shop, "key-2")
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    ctl.post("/clock", json={"advance_s": 2}).raise_for_status()
    ctl.post(f"/payments/{other}/pay").raise_for_status()

    shown = ctl.get(f"/payments/{ref}").json()

    [sent] = shown["sent"]
    assert (shown["provider"], shown["payment"]["status"]) == ("yookassa", "succeeded")
    assert (sent["attempts"], sent["statuses"], sent["is_delivered"]) == (2, [500, 200], True)
    assert json.loads(sent["body"])["event"] == "payment.succeeded"
    assert ctl.get("/payments/none").status_code == 404


def test_the_request_log_contains_no_secrets(ctl: httpx.Client, shop: httpx.Client, sandbox_url: str) -> None:
    created(shop)
    for path in ("/getMe?secret=1", "", "/", "/a/b"):
        httpx.get(f"{sandbox_url}/telegram/bot{TOKEN}{path}")

    answer = ctl.get("/requests")

    first, second, *_ = answer.json()["items"]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/yookassa/v3/payments", 200)
    assert first["idempotence_key"] == "key-1"
    assert (second["path"], second["status"]) == ("/telegram/bot7000000001:***/getMe", 200)
    assert "DEMO-kopilka" not in answer.text
    assert len(ctl.get("/requests", params={"target": "telegram", "limit": 3}).json()["items"]) == 3


def test_a_request_without_a_response_is_logged_with_its_fault(ctl: httpx.Client, shop: httpx.Client) -> None:
    ctl.post("/faults", json={"target": "yookassa", "fault": "drop"}).raise_for_status()
    with pytest.raises(httpx.TransportError):
        shop.get("/payments")

    record = ctl.get("/requests").json()["items"][0]

    assert (record["fault"], record["status"]) == ("drop", None)


def test_a_reset_restores_the_initial_state(ctl: httpx.Client, shop: httpx.Client, sandbox_url: str) -> None:
    ref = created(shop)
    httpx.get(f"{sandbox_url}/telegram/bot{TOKEN}/sendMessage?chat_id=5&text=x")
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()
    ctl.post("/faults", json={"target": "yookassa", "fault": "http:500", "count": 9}).raise_for_status()
    ctl.post("/webhooks", json={"plan": "drop"}).raise_for_status()
    before = ctl.post("/clock", json={"advance_s": 86_400}).json()["now"]

    ctl.post("/reset").raise_for_status()

    assert ctl.get("/payments").json()["items"] == []
    assert ctl.get("/telegram/messages").json()["items"] == []
    assert ctl.get("/requests").json()["items"] == []
    assert ctl.get("/webhooks").json()["plan"] == "normal"
    assert ctl.post("/clock", json={"advance_s": 1}).json()["now"] < before
    assert shop.get(f"/payments/{ref}").status_code == 404
    assert created(shop) != ref
    assert httpx.get(f"{sandbox_url}/telegram/bot{TOKEN}/sendMessage?chat_id=5&text=x").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("GET", "/reset", b"", 405),
        ("POST", "/clock", b"{", 422),
        ("POST", "/clock", b"[" * 100_000, 400),
        ("POST", "/clock", b"\xff", 400),
        ("POST", "/clock", b"{}", 422),
        ("POST", "/clock", b'{"advance_s": 0}', 422),
        ("POST", "/clock", b'{"advance_s": NaN}', 422),
        ("POST", "/clock", b'{"advance_s": 1e300}', 422),
        ("POST", "/clock", b'{"advance_s": "\\ud800"}', 422),
        ("POST", "/telegram/block", b'{"chat_id": 5}', 422),
        ("POST", "/telegram/block", b'{"chat_id": 5, "blocked": "yes"}', 422),
        ("POST", "/payments/x/refund", b'{"amount_minor": -1}', 422),
        ("POST", "/payments/x/pay", b'{"user_id": 0}', 422),
        ("POST", "/payments/x/dispute", b'{"outcome": "maybe"}', 422),
        ("POST", "/refunds", b'{"provider": "yookassa", "outcome": "lost"}', 422),
        ("POST", "/stripe/webhook-secrets", b'{"secrets": []}', 422),
        ("POST", "/ton/deposits", b'{"account": "x"}', 422),
        ("POST", "/ton/invalidate", b'{"hash": "x"}', 404),
        ("GET", "/telegram/messages?chat_id=x", b"", 422),
        ("GET", "/requests?limit=0", b"", 422),
    ],
)
def test_a_malformed_request_is_a_json_problem(
    ctl: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    answer = ctl.request(method, path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_body_above_the_limit_is_refused(ctl: httpx.Client) -> None:
    assert ctl.post("/clock", content=b" " * (1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_the_health_routes_answer(sandbox_url: str, path: str) -> None:
    assert httpx.get(f"{sandbox_url}{path}").json() == {"status": "ok"}
