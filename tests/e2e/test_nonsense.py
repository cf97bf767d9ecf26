"""Nonsense sent to every HTTP API is answered with a problem and changes nothing."""

import httpx
import pytest

from demo import clients, stack

NONSENSE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"purpose": "top_up"}',
    b'{"amount": 1e999}',
    b"[" * 5_000,
]


@pytest.mark.rule("GW9")
@pytest.mark.parametrize("path", ["/auth/telegram", "/payments", "/orders"])
@pytest.mark.parametrize("body", NONSENSE)
async def test_nonsense_at_the_gateway_is_a_problem(
    where: stack.Stack, customer: clients.Customer, http: httpx.AsyncClient, path: str, body: bytes
) -> None:
    headers = {**customer._headers(), "Content-Type": "application/json", "Idempotency-Key": "nonsense-1"}

    answer = await http.post(f"{where.gateway_url}/api/v1{path}", content=body, headers=headers)

    assert answer.status_code in {400, 401, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "correlation_id"} <= answer.json().keys()
    assert (await customer.get("/transactions")).json()["items"] == []


@pytest.mark.parametrize("body", NONSENSE)
async def test_nonsense_at_the_webhook_endpoint_is_a_problem(
    where: stack.Stack, http: httpx.AsyncClient, body: bytes
) -> None:
    answer = await http.post(f"{where.payments_url}/webhooks/yookassa/demo", content=body)

    assert 400 <= answer.status_code < 500
    assert answer.json()["code"]


@pytest.mark.rule("GW13")
@pytest.mark.parametrize("base", ["gateway", "payments"])
async def test_an_oversized_body_is_refused(where: stack.Stack, http: httpx.AsyncClient, base: str) -> None:
    url = {
        "gateway": f"{where.gateway_url}/api/v1/auth/telegram",
        "payments": f"{where.payments_url}/webhooks/yookassa/demo",
    }[base]

    answer = await http.post(url, content=b" " * 300_000, headers={"Content-Type": "application/json"})

    assert answer.status_code == 413
    assert answer.json()["code"] == "content_too_large"


async def test_every_api_answers_an_unknown_route_with_a_problem(where: stack.Stack, http: httpx.AsyncClient) -> None:
    for base in (where.gateway_url, where.payments_url):
        answer = await http.get(f"{base}/no/such/route")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
