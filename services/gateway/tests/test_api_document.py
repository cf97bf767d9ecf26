"""What every route has in common: problems, body limits, origins, and an OpenAPI document that matches responses."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

LogIn = Callable[..., Awaitable[httpx.Headers]]

ROUTES = {
    ("post", "/api/v1/auth/telegram"),
    ("get", "/api/v1/users/me"),
    ("post", "/api/v1/payments"),
    ("get", "/api/v1/payments/{payment_id}"),
    ("get", "/api/v1/balance"),
    ("get", "/api/v1/transactions"),
    ("get", "/api/v1/categories"),
    ("get", "/api/v1/products"),
    ("get", "/api/v1/products/{product_id}"),
    ("post", "/api/v1/orders"),
    ("get", "/api/v1/orders/my"),
    ("get", "/api/v1/orders/{order_id}"),
}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Any:
    return (await client.get("http://gateway/openapi.json")).json()


@pytest.fixture
async def headers(client: httpx.AsyncClient, log_in: LogIn) -> httpx.Headers:
    return await log_in(client)


@pytest.mark.rule("GW14")
async def test_every_route_is_documented_with_its_problems(document: Any) -> None:
    operations = {(method, path): what for path, item in document["paths"].items() for method, what in item.items()}

    assert set(operations) == ROUTES
    for (method, path), operation in operations.items():
        problems = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {"400", "422", "503"} <= set(problems), path
        assert method == "get" or {"413", "415"} <= set(problems), path
        assert "security" not in operation or "401" in problems, path
        for answer in problems.values():
            (media_type,) = answer["content"]
            assert media_type == "application/problem+json"
            for code, example in answer["content"][media_type]["examples"].items():
                assert example["value"]["code"] == code


# oobabooga/textgen#7658
@pytest.mark.parametrize(
    "body",
    [
        b'{"amount": ' + b"9" * 5_000 + b"}",
        b"[" * 120_000,
        '{"purpose": "\u00e9"}'.encode("latin-1"),
        b'{"purpose": "top_up", "amount": {"amount_minor": 1, "currency": "RUB"}, "amount": {"amount_minor": 2}}',
        b'{"amount": NaN}',
        b'{"purpose": "\\ud83d"}',
        b'{"purpose": "a\\u0000"}',
    ],
)
async def test_a_body_that_is_no_strict_json_is_malformed_on_every_route(
    client: httpx.AsyncClient, document: Any, headers: httpx.Headers, body: bytes
) -> None:
    more = {"Content-Type": "application/json", "Idempotency-Key": "first"}
    for path in (path for path, operations in document["paths"].items() if "post" in operations):
        answer = await client.post(f"http://gateway{path}", content=body, headers={**headers, **more})

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json"), path


@pytest.mark.rule("GW14")
async def test_every_reference_of_the_document_resolves(document: Any) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))

    assert references <= set(document["components"]["schemas"])
    assert {"Problem", "FieldProblem"} <= set(document["components"]["schemas"])
    used = {
        scheme
        for item in document["paths"].values()
        for op in item.values()
        for s in op.get("security", [])
        for scheme in s
    }
    assert used == set(document["components"]["securitySchemes"])


@pytest.mark.rule("GW9")
async def test_an_unknown_path_is_answered_with_a_problem(client: httpx.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/products/", 404),
        ("DELETE", "/balance", 405),
        ("GET", "/auth/telegram", 405),
    ):
        answer = await client.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["correlation_id"] == answer.headers["X-Correlation-Id"]


async def test_the_clients_correlation_id_is_echoed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/balance", headers={"X-Correlation-Id": "journey-0001"})

    assert answer.headers["X-Correlation-Id"] == answer.json()["correlation_id"] == "journey-0001"


@pytest.mark.rule("GW9")
async def test_a_body_that_is_not_declared_as_json_is_refused(
    client: httpx.AsyncClient, headers: httpx.Headers
) -> None:
    for media_type in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"):
        sent = {**headers, "Idempotency-Key": "k", **({"Content-Type": media_type} if media_type else {})}
        for path in ("/auth/telegram", "/payments", "/orders"):
            answer = await client.post(path, content=b'{"init_data": "x"}', headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), media_type


@pytest.mark.rule("GW13")
async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient, headers: httpx.Headers) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"[" * 8_192

    sent = {**headers, "Idempotency-Key": "k", "Content-Type": "application/json"}
    for content in (b"[" * 300_000, chunks()):
        answer = await client.post("/payments", content=content, headers=sent)

        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "content_too_large"


@pytest.mark.rule("GW13")
async def test_only_configured_origins_may_call_from_a_page(client: httpx.AsyncClient) -> None:
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }

    ours = await client.options("/payments", headers={"Origin": "https://app.example", **preflight})
    theirs = await client.options("/payments", headers={"Origin": "https://evil.example", **preflight})
    read = await client.get("/products", headers={"Origin": "https://app.example"})
    stolen = await client.get("/products", headers={"Origin": "https://evil.example"})

    assert (ours.status_code, theirs.status_code) == (200, 400)
    assert ours.headers["Access-Control-Allow-Origin"] == read.headers["Access-Control-Allow-Origin"]
    assert "Location" in read.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in theirs.headers
    assert "Access-Control-Allow-Origin" not in stolen.headers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["purpose", "amount", "provider", "return_url", "items", "payment_method", "init_data", "amount_minor", "currency"]
)
BODIES = JSON | st.dictionaries(NAMES | st.text(max_size=8), JSON, max_size=6)
TEXTS = st.text(alphabet=st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=60)


@pytest.mark.rule("GW14")
async def test_no_input_ends_in_a_server_error_or_an_undocumented_response(
    client: httpx.AsyncClient, headers: httpx.Headers, document: Any
) -> None:
    """Goal: every response is in the document. Method: random input to every route, from a fixed seed."""
    sent: list[tuple[str, str, Any, str]] = []

    @seed(1)
    @settings(
        max_examples=300, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(ROUTES)), BODIES, TEXTS)
    def draw(route: tuple[str, str], body: Any, text: str) -> None:
        sent.append((*route, body, text))

    draw()
    for method, route, body, text in sent:
        path = re.sub(r"\{.*\}", quote(text.strip("."), safe="") or "x", route.removeprefix("/api/v1"))
        answer = await _send(client, headers, method, path, body=body, text=text)

        assert answer.status_code < 500, (method, path, body, text)
        assert str(answer.status_code) in document["paths"][route][method]["responses"], (method, path, body, text)
        if answer.is_error:
            assert answer.headers["Content-Type"] == "application/problem+json"


async def _send(
    client: httpx.AsyncClient, headers: httpx.Headers, method: str, path: str, *, body: Any, text: str
) -> httpx.Response:
    if method == "post":
        more = {"Idempotency-Key": text.encode("ascii", "ignore").decode() or "k", "Content-Type": "application/json"}
        raw = [(name.encode(), value.encode("latin-1", "ignore")) for name, value in {**headers, **more}.items()]
        return await client.post(path, content=json.dumps(body).encode(), headers=raw)
    names = ("limit", "cursor", "asset", "q", "category_id", "min_price", "max_price")
    query = {name: text for number, name in enumerate(names) if len(text) >> number & 1}
    return await client.get(path, params=query, headers=headers)
