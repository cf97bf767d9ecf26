"""Rate limits of the HTTP API: what they count, what responses report, and what a refused request leaves unchanged."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from chassis import app, database, testing
from gateway import settings
from gateway.clients import limiter
from gateway.domain import limits

LogIn = Callable[..., Awaitable[httpx.Headers]]
Sign = Callable[..., str]
Serve = Callable[..., httpx.AsyncClient]

TOP_UP: dict[str, Any] = {
    "purpose": "top_up",
    "amount": {"amount_minor": 150_000, "currency": "RUB"},
    "provider": "yookassa",
    "return_url": "https://t.me/kopilka_bot/app",
}
PURCHASE: dict[str, Any] = {"items": [{"product_id": "mug", "quantity": 1}], "payment_method": "wallet"}
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def serve(
    service: app.Service, config: settings.GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Serve]:
    """Starts one more replica with limits of its own, and opens a client of it that has the given address."""
    monkeypatch.setattr(limiter, "TIMEOUT_S", 10)
    # Addresses are hashed with it, so the counts of other tests do not matter.
    secret = uuid4().hex
    opened: list[httpx.AsyncClient] = []
    closers: list[Callable[[], Awaitable[None]]] = []

    def served(*, address: str = "203.0.113.7", **more: Any) -> httpx.AsyncClient:
        chosen = {**config.model_dump(), "rate_limits": "other=0", "session_secret": secret, **more}
        process = app.Process(service, "api", settings.GatewaySettings(**_by_alias(chosen)))
        service.roles["api"](process)
        closers.extend(process.closers)
        transport = httpx.ASGITransport(app=process.http, client=(address, 1))
        opened.append(httpx.AsyncClient(transport=transport, base_url="http://gateway/api/v1", timeout=30))
        return opened[-1]

    yield served
    for client in opened:
        await client.aclose()
    for close in closers:
        await close()


def _by_alias(values: dict[str, Any]) -> dict[str, Any]:
    fields = settings.GatewaySettings.model_fields
    return {str(fields[name].validation_alias or name): value for name, value in values.items()}


async def get(client: httpx.AsyncClient, path: str, headers: httpx.Headers | None = None) -> httpx.Response:
    return await client.get(path, headers=headers)


def require_refusal(answer: httpx.Response, *, limit: int) -> None:
    """Check the whole response to a refused request."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "too_many_requests"
    assert answer.json()["correlation_id"] == answer.headers["X-Correlation-Id"]
    assert answer.headers["X-RateLimit-Limit"] == str(limit)
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    wait_s = int(answer.headers["Retry-After"])
    assert 0 < wait_s <= limits.WAIT_MAX_MS // 1_000
    assert abs(int(answer.headers["X-RateLimit-Reset"]) - time.time() - wait_s) < 30  # a busy machine


@pytest.mark.rule("GW5")
@pytest.mark.rule("W3")
@pytest.mark.parametrize(("path", "limit"), [("/balance", 30), ("/transactions", 10)])
async def test_balance_and_statement_have_their_limits_on_all_replicas_together(
    serve: Serve, log_in: LogIn, path: str, limit: int
) -> None:
    replicas = [serve(), serve()]
    one, two = await log_in(replicas[0], 1), await log_in(replicas[0], 2)

    answers = await asyncio.gather(*(get(replicas[number % 2], path, one) for number in range(limit + 5)))
    of_another = await get(replicas[1], path, two)

    passed = [answer for answer in answers if answer.status_code == 200]
    assert sorted(int(answer.headers["X-RateLimit-Remaining"]) for answer in passed) == list(range(limit))
    assert {answer.headers["X-RateLimit-Limit"] for answer in passed} == {str(limit)}
    assert all(0 < int(answer.headers["X-RateLimit-Reset"]) - time.time() < 62 for answer in passed)
    for answer in answers:
        if answer not in passed:
            require_refusal(answer, limit=limit)
    assert (of_another.status_code, of_another.headers["X-RateLimit-Remaining"]) == (200, str(limit - 1))


@pytest.mark.rule("GW5")
async def test_each_class_of_routes_has_a_limit_of_its_own(serve: Serve, log_in: LogIn) -> None:
    client = serve(rate_limits="balance=2,transactions=1,orders=1,payments=1,other=3")
    headers = await log_in(client)
    writing = {**headers, "Content-Type": "application/json"}

    for path, limit in (("/balance", 2), ("/transactions", 1), ("/users/me", 3)):
        statuses = [(await get(client, path, headers)).status_code for _ in range(limit + 1)]
        assert statuses == [200] * limit + [429], path
    for path in ("/orders", "/payments"):
        # Malformed requests and those without a key count too.
        assert (await client.post(path, content=b"{", headers=writing)).status_code == 400
        require_refusal(await client.post(path, content=b"{", headers=writing), limit=1)


@pytest.mark.rule("GW5")
async def test_a_user_has_one_limit_for_tokens_and_initdata_together(serve: Serve, log_in: LogIn, sign: Sign) -> None:
    client = serve(rate_limits="balance=4,other=0")
    token, init_data = await log_in(client, 7), httpx.Headers({"Authorization": f"tma {sign(7)}"})

    answers = [await get(client, "/balance", headers) for headers in (token, init_data) * 2]

    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["3", "2", "1", "0"]
    require_refusal(await get(client, "/balance", init_data), limit=4)


@pytest.mark.rule("GW5")
async def test_an_address_has_a_multiple_of_the_limits_and_anonymous_requests_use_up_none_of_its_users(
    serve: Serve, log_in: LogIn
) -> None:
    client, elsewhere = (
        serve(rate_limits="balance=2,other=0", rate_limit_address_factor=3, address=address)
        for address in ("203.0.113.7", "203.0.113.8")
    )
    users = [await log_in(client, number) for number in range(1, 6)]
    forged = httpx.Headers({"Authorization": "Bearer nonsense"})

    anonymous = [(await get(client, "/balance", forged)).status_code for _ in range(8)]
    authenticated = [(await get(client, "/balance", user)).status_code for user in users for _ in range(2)]

    assert anonymous == [401] * 6 + [429] * 2
    assert authenticated == [200] * 6 + [429] * 4
    require_refusal(await get(client, "/balance", users[4]), limit=6)
    assert (await get(elsewhere, "/balance", users[4])).status_code == 200


async def test_logins_are_counted_by_address(serve: Serve, sign: Sign) -> None:
    client = serve(rate_limits="login=1", rate_limit_address_factor=3)

    answers = [await client.post("/auth/telegram", json={"init_data": sign(number)}) for number in range(1, 5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    require_refusal(answers[3], limit=3)


@pytest.mark.rule("GW5")
async def test_health_is_limited_for_the_public_and_never_for_probes(serve: Serve) -> None:
    client = serve(rate_limits="health=2,other=1")

    statuses = [(await get(client, "http://gateway/health")).status_code for _ in range(3)]
    of_probes = [
        await get(client, f"http://gateway{path}")
        for path in ("/health/live", "/health/ready", "/metrics")
        for _ in range(5)
    ]

    assert statuses[0] == statuses[1] != statuses[2] == 429
    assert 429 not in {answer.status_code for answer in of_probes}
    assert not any("X-RateLimit-Limit" in answer.headers for answer in of_probes)


@pytest.mark.rule("GW5")
async def test_a_refused_write_changes_nothing_and_repetitions_count(
    serve: Serve, log_in: LogIn, db: database.Database
) -> None:
    client, patient = serve(rate_limits="payments=2,orders=1,other=0"), serve(rate_limits="payments=0,orders=0,other=0")
    headers = await log_in(client)
    first, second = {**headers, "Idempotency-Key": "k1"}, {**headers, "Idempotency-Key": "k2"}

    accepted = await client.post("/payments", json=TOP_UP, headers=first)
    repeated = await client.post("/payments", json=TOP_UP, headers=first)
    refused = [await client.post("/payments", json=TOP_UP, headers=key) for key in (first, second)]
    async with db.transaction() as tx:
        kept = await tx.fetch("SELECT key FROM commands")
    later = await patient.post("/payments", json={**TOP_UP, "return_url": "https://shop.example"}, headers=second)

    assert accepted.json()["id"] == repeated.json()["id"]
    for answer in refused:
        require_refusal(answer, limit=2)
    assert [row["key"] for row in kept] == ["k1"]
    assert later.status_code == 202


@pytest.mark.rule("GW5")
async def test_repeated_violations_wait_longer_each_time_until_they_expire(
    serve: Serve, log_in: LogIn, servers: testing.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the API reports doubled waits, and keeps to them. Method: Redis's clock is put forward by each wait."""
    ahead, ahead_ms = f"test.limit:{uuid4()}", 0
    clock = f"now = now + tonumber(redis.call('GET', '{ahead}') or '0')\n"
    monkeypatch.setattr(limiter, "DECIDE", clock + limiter.DECIDE)
    client = serve(rate_limits="balance=1,other=0")
    headers = await log_in(client)

    waits_s, early = [], set()
    async with Redis.from_url(servers.redis_url) as redis:
        for quiet_ms in (0, 0, 0, limits.VIOLATIONS_KEPT_MS):
            assert (await get(client, "/balance", headers)).status_code == 200
            waits_s.append(int((await get(client, "/balance", headers)).headers["Retry-After"]))
            await redis.set(ahead, ahead_ms + waits_s[-1] * 1_000 - 5_000, ex=60)
            early.add((await get(client, "/balance", headers)).status_code)
            ahead_ms += waits_s[-1] * 1_000 + quiet_ms
            await redis.set(ahead, ahead_ms, ex=60)
        await get(client, "/balance", headers)
        waits_s.append(int((await get(client, "/balance", headers)).headers["Retry-After"]))

    assert 55 < waits_s[0] <= 60
    assert waits_s[1:4] == [120, 240, 480]
    assert 55 < waits_s[4] <= 60
    assert early == {429}


async def test_x_forwarded_for_is_believed_from_trusted_proxies_only(serve: Serve) -> None:
    limited = {"rate_limits": "health=1,other=0", "trusted_proxies": "10.0.0.0/8"}
    proxy, client = serve(address="10.0.0.1", **limited), serve(address="203.0.113.9", **limited)

    async def statuses(client: httpx.AsyncClient, *forwarded: str) -> list[int]:
        return [
            (await client.get("http://gateway/health", headers={"X-Forwarded-For": text})).status_code
            for text in forwarded
        ]

    proxied = await statuses(proxy, "198.51.100.1", "198.51.100.2", "6.6.6.6, 198.51.100.1, 10.0.0.2")
    direct = await statuses(client, "198.51.100.3", "198.51.100.4")

    assert proxied[0] == proxied[1] != proxied[2] == 429
    assert direct[0] != direct[1] == 429


async def test_keys_contain_no_address_and_no_telegram_id(
    serve: Serve, log_in: LogIn, servers: testing.Servers
) -> None:
    client = serve(rate_limits="balance=2", address="198.51.100.77", tenant="keys-without-addresses")
    headers = await log_in(client, 987_654_321)
    await get(client, "/balance", headers)
    await get(client, "/balance")

    async with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
        keys = [key async for key in redis.scan_iter("kopilka.gateway.limit:keys-without-addresses:*")]

    kinds = {tuple(key.split(":")[2:4]) for key in keys}
    assert kinds >= {("balance", "user"), ("balance", "address"), ("balance", "anonymous"), ("login", "anonymous")}
    assert not any("198.51" in key or "987654321" in key for key in keys)


async def test_without_a_limit_no_limit_is_reported(serve: Serve, log_in: LogIn) -> None:
    client = serve(rate_limits="balance=0,login=0,other=0")
    headers = await log_in(client)

    answers = [await get(client, "/balance", headers) for _ in range(40)]

    assert {answer.status_code for answer in answers} == {200}
    assert not any("X-RateLimit-Limit" in answer.headers for answer in answers)


async def test_pages_of_permitted_origins_may_read_the_limit_headers(serve: Serve) -> None:
    client = serve(rate_limits="other=1", rate_limit_address_factor=1)
    origin = {"Origin": "https://app.example"}

    answers = [await client.get("/categories", headers=origin) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed >= {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"}


@pytest.mark.rule("GW7")
async def test_without_redis_requests_are_served_within_the_limits_of_the_process(serve: Serve, log_in: LogIn) -> None:
    client = serve(rate_limits="balance=3,other=0", redis_url=NOWHERE)
    headers = await log_in(client)

    answers = [await get(client, "/balance", headers) for _ in range(4)]
    metrics = await get(client, "http://gateway/metrics")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    require_refusal(answers[3], limit=3)
    assert "kopilka_rate_limit_local 1.0" in metrics.text
    assert 'kopilka_rate_limit_total{limiter="local",result="refused",route_class="balance"}' in metrics.text


async def test_the_openapi_document_describes_limits_and_names_every_route_with_its_own(
    client: httpx.AsyncClient,
) -> None:
    paths = (await client.get("http://gateway/openapi.json")).json()["paths"]

    classes = {limits.class_of(method.upper(), path) for path, item in paths.items() for method in item}
    assert classes == set(limits.PER_MINUTE) - {"health"}
    for operation in (operation for item in paths.values() for operation in item.values()):
        assert set(operation["responses"]["429"]["headers"]) == {
            "X-RateLimit-Limit",
            "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
            "Retry-After",
        }
        assert all("X-RateLimit-Limit" in answer["headers"] for answer in operation["responses"].values())
