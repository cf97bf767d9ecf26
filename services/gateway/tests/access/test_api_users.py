"""The routes of access: login creates each user once, and requests without valid credentials are refused."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest

from chassis import database, testing
from contracts import gateway, message
from gateway import settings
from gateway.access.domain import tokens
from gateway.domain import sessions

Sign = Callable[..., str]
LogIn = Callable[..., Awaitable[httpx.Headers]]

BODIES = {
    "/api/v1/payments": {
        "purpose": "top_up",
        "provider": "yookassa",
        "amount": {"amount_minor": 15_000, "currency": "RUB"},
        "return_url": "https://t.me/bot/app",
    },
    "/api/v1/orders": {"items": [{"product_id": "mug", "quantity": 1}], "payment_method": "wallet"},
}


async def test_a_first_login_creates_a_user_and_publishes_it(
    client: httpx.AsyncClient, sign: Sign, db: database.Database
) -> None:
    answer = await client.post("/auth/telegram", json={"init_data": sign(7)})

    body = answer.json()
    assert answer.status_code == 200
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3_600)
    assert body["user"]["telegram_id"] == 7
    assert answer.headers["Cache-Control"] == "no-store"
    assert await testing.outbox_messages(db) == [
        (
            gateway.UserRegistered.TYPE,
            {"tenant": "demo", "user_id": body["user"]["id"], "telegram_id": 7, "language": None},
        )
    ]


async def test_the_token_authenticates_the_user(client: httpx.AsyncClient, log_in: LogIn) -> None:
    headers = await log_in(client, 7)

    answer = await client.get("/users/me", headers=headers)

    assert answer.status_code == 200
    assert answer.json()["telegram_id"] == 7


async def test_a_later_login_is_the_same_user(client: httpx.AsyncClient, sign: Sign, db: database.Database) -> None:
    answers = [await client.post("/auth/telegram", json={"init_data": sign(7, age_s=age)}) for age in (5, 0)]

    assert len({answer.json()["user"]["id"] for answer in answers}) == 1
    assert len(await testing.outbox_messages(db)) == 1


@pytest.mark.rule("GW3")
async def test_many_first_requests_at_once_make_one_user(
    client: httpx.AsyncClient, sign: Sign, db: database.Database
) -> None:
    logins = [client.post("/auth/telegram", json={"init_data": sign(7)}) for _ in range(25)]
    reads = [client.get("/users/me", headers={"Authorization": f"tma {sign(7)}"}) for _ in range(25)]

    answers = await asyncio.gather(*logins, *reads)

    assert {answer.status_code for answer in answers} == {200}
    ids = {(body.get("user") or body)["id"] for body in (answer.json() for answer in answers)}
    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT id FROM users")
    assert [str(row["id"]) for row in rows] == list(ids)
    assert [kind for kind, _ in await testing.outbox_messages(db)] == [gateway.UserRegistered.TYPE]


@pytest.mark.rule("GW1")
async def test_initdata_itself_is_accepted_on_any_route(client: httpx.AsyncClient, sign: Sign) -> None:
    answers = [
        await client.get(path, headers={"Authorization": f"tma {sign(7)}"})
        for path in ("/users/me", "/balance", "/transactions", "/orders/my")
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]


@pytest.mark.rule("GW1")
async def test_bad_initdata_is_refused_with_its_own_code(client: httpx.AsyncClient, sign: Sign) -> None:
    cases = [
        (sign(7, bot_token="43:OTHER"), "init_data_invalid"),
        (sign(7) + "&user=%7B%22id%22%3A1%7D", "init_data_invalid"),
        (sign(7, age_s=-120), "init_data_invalid"),
        (sign(7, start_param="x" * 8_192), "init_data_invalid"),
        (sign(7, age_s=3_700), "init_data_expired"),
        ("nonsense", "init_data_invalid"),
    ]

    for init_data, code in cases:
        for answer in (
            await client.post("/auth/telegram", json={"init_data": init_data}),
            await client.get("/users/me", headers={"Authorization": f"tma {init_data}"}),
        ):
            assert answer.status_code == 401, init_data[:100]
            assert answer.json()["code"] in {code, "unauthenticated"}
            assert answer.headers["WWW-Authenticate"] == "Bearer, tma"


async def test_a_request_without_credentials_is_challenged(client: httpx.AsyncClient) -> None:
    private = ["/users/me", "/balance", "/transactions", "/orders/my", f"/orders/{uuid4()}", f"/payments/{uuid4()}"]

    for header in ({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Basic dTpw"}):
        for path in private:
            answer = await client.get(path, headers=header)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (path, header)
            assert answer.headers["WWW-Authenticate"] == "Bearer, tma"
            assert answer.headers["X-Correlation-Id"] == answer.json()["correlation_id"]


async def test_a_token_of_another_issuer_is_refused(
    client: httpx.AsyncClient, config: settings.GatewaySettings, log_in: LogIn
) -> None:
    user_id = (await client.get("/users/me", headers=await log_in(client))).json()["id"]
    secret = config.session_secret.get_secret_value()
    good: dict[str, Any] = {
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "sub": user_id,
        "tenant": "demo",
        "iat": 1,
        "exp": 9_999_999_999,
    }
    foreign = [
        jwt.encode(good, "x" * 32, algorithm="HS256"),
        jwt.encode(good, None, algorithm="none"),
        jwt.encode(good, "x" * 64, algorithm="HS512"),
        *(jwt.encode({**good, name: "other"}, secret, algorithm="HS256") for name in ("iss", "aud", "sub", "tenant")),
        *(
            jwt.encode({key: value for key, value in good.items() if key != name}, secret, algorithm="HS256")
            for name in good
        ),
        "nonsense",
        "a.b.c",
        "x" * 5_000,
    ]

    assert (await client.get("/balance", headers=_bearer(jwt.encode(good, secret, algorithm="HS256")))).is_success
    for token in foreign:
        answer = await client.get("/balance", headers=_bearer(token))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), token


async def test_an_expired_token_is_refused_with_its_own_code(
    client: httpx.AsyncClient, config: settings.GatewaySettings
) -> None:
    session = sessions.Session(message.TenantId("demo"), message.UserId(UUID(int=1)))
    issued_at = datetime.now(UTC) - timedelta(hours=1, seconds=1)

    token = tokens.issue(
        session, secret=config.session_secret.get_secret_value(), now=issued_at, ttl_s=config.session_ttl_s
    )
    answer = await client.get("/balance", headers=_bearer(token))

    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_a_token_of_an_unknown_user_is_refused(
    client: httpx.AsyncClient, config: settings.GatewaySettings
) -> None:
    session = sessions.Session(message.TenantId("demo"), message.UserId(uuid4()))
    token = tokens.issue(session, secret=config.session_secret.get_secret_value(), now=datetime.now(UTC), ttl_s=60)

    await _is_refused_on_every_route(client, _bearer(token))


async def test_the_token_of_a_user_who_was_deleted_is_refused(
    client: httpx.AsyncClient, log_in: LogIn, db: database.Database
) -> None:
    headers = await log_in(client)
    assert (await client.get("/balance", headers=headers)).is_success

    async with db.transaction() as tx:
        await tx.execute("DELETE FROM users")

    await _is_refused_on_every_route(client, headers)


async def _is_refused_on_every_route(client: httpx.AsyncClient, headers: Any) -> None:
    document = (await client.get("http://gateway/openapi.json")).json()
    personal = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    ]

    assert len(personal) >= 7
    for method, path in personal:
        body = BODIES[path] if method == "post" else None
        answer = await client.request(
            method, f"http://gateway{path}", headers={**headers, "Idempotency-Key": "first"}, json=body
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), (path, answer.text)
        assert answer.headers["WWW-Authenticate"] == "Bearer, tma"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
