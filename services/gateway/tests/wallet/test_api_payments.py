"""The routes of payments: idempotency, authorization and invalid input."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from chassis import database, testing
from contracts import message, payments

LogIn = Callable[..., Awaitable[httpx.Headers]]

TOP_UP: dict[str, Any] = {
    "purpose": "top_up",
    "amount": {"amount_minor": 150_000, "currency": "RUB"},
    "provider": "yookassa",
    "return_url": "https://t.me/kopilka_bot/app",
}
ABSENT = object()


async def top_up(client: httpx.AsyncClient, headers: httpx.Headers, key: str = "k1", **more: Any) -> httpx.Response:
    sent = {**headers, "Idempotency-Key": key, "Prefer": more.pop("prefer", "wait=0")}
    return await client.post("/payments", json={**TOP_UP, **more}, headers=sent)


async def stored(db: database.Database) -> list[str]:
    async with db.transaction() as tx:
        return [str(row["id"]) for row in await tx.fetch("SELECT id FROM payments")]


async def published_commands(db: database.Database) -> list[dict[str, Any]]:
    return [body for kind, body in await testing.outbox_messages(db) if kind == payments.CreatePayment.TYPE]


async def me(client: httpx.AsyncClient, headers: httpx.Headers) -> str:
    return str((await client.get("/users/me", headers=headers)).json()["id"])


async def until_stored(db: database.Database) -> str:
    async with asyncio.timeout(10):
        while True:
            if ids := await stored(db):
                return ids[0]
            await asyncio.sleep(0.01)


@pytest.fixture
async def headers(client: httpx.AsyncClient, log_in: LogIn) -> httpx.Headers:
    return await log_in(client)


async def test_a_payment_is_answered_with_the_providers_page(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, services: Any, build: Any
) -> None:
    user_id = await me(client, headers)

    request = asyncio.create_task(top_up(client, headers, prefer="wait=10"))
    payment_id = await until_stored(db)
    await services.publish(build.payment(payments.PaymentCreated, payment_id, user_id))
    answer = await request

    assert answer.status_code == 201
    body = answer.json()
    assert (body["id"], body["status"]) == (payment_id, "pending")
    assert body["confirmation_url"] == "https://yoomoney.example/pay"
    assert body["amount"] == {"amount_minor": 150_000, "currency": "RUB"}
    assert answer.headers["Location"] == f"/api/v1/payments/{payment_id}"
    assert (await client.get(f"/payments/{payment_id}", headers=headers)).json() == body


async def test_a_payment_without_an_answer_in_time_is_accepted_and_can_be_polled(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, services: Any, build: Any
) -> None:
    answer = await top_up(client, headers)

    assert answer.status_code == 202
    assert answer.json()["status"] == "created"
    assert int(answer.headers["Retry-After"]) > 0
    where = answer.headers["Location"].removeprefix("/api/v1")
    assert (await client.get(where, headers=headers)).json() == answer.json()
    created = build.payment(payments.PaymentCreated, answer.json()["id"], await me(client, headers))
    await services.publish(created)
    assert (await client.get(where, headers=headers)).json()["status"] == "pending"


@pytest.mark.rule("GW10")
async def test_a_command_is_stored_in_the_outbox_when_the_request_is_accepted(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    answer = await top_up(client, headers)

    (published,) = await published_commands(db)
    command = payments.CreatePayment.model_validate(published, strict=False)
    assert command == payments.CreatePayment(
        tenant=message.TenantId("demo"),
        payment_id=payments.PaymentId(UUID(answer.json()["id"])),
        user_id=message.UserId(UUID(await me(client, headers))),
        purpose="top_up",
        amount=message.Money(amount_minor=150_000, currency="RUB"),
        provider="yookassa",
        return_url="https://t.me/kopilka_bot/app",
    )


async def test_the_description_is_sent_along(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    await top_up(client, headers, description="Tokens for pictures")

    (published,) = await published_commands(db)
    assert published["description"] == "Tokens for pictures"


@pytest.mark.parametrize(
    ("contact", "sent"),
    [
        ({"email": "ada@example.org"}, {"email": "ada@example.org", "phone": None}),
        ({"phone": "+7 (900) 123-45-67"}, {"email": None, "phone": "79001234567"}),
    ],
)
async def test_the_address_of_the_receipt_is_sent_along(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, contact: Any, sent: Any
) -> None:
    await top_up(client, headers, receipt_contact=contact)

    (published,) = await published_commands(db)
    assert published["receipt_contact"] == sent


@pytest.mark.parametrize(
    "contact",
    [{}, {"email": "ada"}, {"phone": "call me"}, {"phone": "+7 (12"}, {"email": "a@b", "phone": "79001234567"}, "a@b"],
)
async def test_an_address_that_no_receipt_could_reach_is_refused_and_not_repeated(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, contact: object
) -> None:
    answer = await top_up(client, headers, receipt_contact=contact)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert await published_commands(db) == []


@pytest.mark.parametrize("description", ["", " ", "x" * 129, "two\nlines", 7])
async def test_a_description_that_a_payer_could_not_read_is_refused(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, description: object
) -> None:
    answer = await top_up(client, headers, description=description)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert await published_commands(db) == []


@pytest.mark.parametrize("code", ["provider_refused", "provider_not_configured"])
async def test_a_refusal_of_the_provider_is_a_problem(
    client: httpx.AsyncClient, headers: httpx.Headers, services: Any, build: Any, code: str
) -> None:
    payment_id = (await top_up(client, headers)).json()["id"]
    event = build.payment(
        payments.PaymentFailed, payment_id, await me(client, headers), code=code, failure_reason="shop_problem"
    )
    await services.publish(event)

    answer = await top_up(client, headers)

    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "payment_refused"
    assert (answer.json()["failure_code"], answer.json()["failure_reason"]) == (code, "shop_problem")
    assert (await client.get(f"/payments/{payment_id}", headers=headers)).json()["status"] == "failed"


@pytest.mark.rule("GW8")
async def test_the_same_key_and_body_give_the_same_answer_for_ever(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, services: Any, build: Any
) -> None:
    user_id = await me(client, headers)
    payment_id = (await top_up(client, headers)).json()["id"]
    await services.publish(build.payment(payments.PaymentCreated, payment_id, user_id))
    first = await top_up(client, headers)
    await services.publish(build.payment(payments.PaymentPaid, payment_id, user_id))

    again = await top_up(client, headers)
    quoted = await top_up(client, headers, key='"k1"')

    assert [first.status_code, again.status_code, quoted.status_code] == [201, 201, 201]
    assert first.content == again.content == quoted.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await client.get(f"/payments/{payment_id}", headers=headers)).json()["status"] == "paid"
    assert len(await published_commands(db)) == 1


@pytest.mark.rule("GW8")
@pytest.mark.rule("PA11")
async def test_the_same_key_with_another_body_is_refused(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    await top_up(client, headers)

    answer = await top_up(client, headers, amount={"amount_minor": 150_001, "currency": "RUB"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await published_commands(db)) == 1


@pytest.mark.rule("GW8")
async def test_many_requests_at_once_with_one_key_are_one_command(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database, services: Any, build: Any
) -> None:
    user_id = await me(client, headers)

    requests = [asyncio.create_task(top_up(client, headers, prefer="wait=10")) for _ in range(50)]
    payment_id = await until_stored(db)
    await services.publish(build.payment(payments.PaymentCreated, payment_id, user_id))
    answers = await asyncio.gather(*requests)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await stored(db) == [payment_id]
    assert len(await published_commands(db)) == 1


@pytest.mark.rule("GW8")
async def test_a_key_belongs_to_one_user_and_one_route(client: httpx.AsyncClient, log_in: LogIn) -> None:
    one, two = await log_in(client, 1), await log_in(client, 2)
    order = {"items": [{"product_id": "mug", "quantity": 1}], "payment_method": "wallet"}

    answers = [
        await top_up(client, one),
        await top_up(client, two),
        await client.post("/orders", json=order, headers={**one, "Idempotency-Key": "k1"}),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 3


@pytest.mark.rule("GW8")
async def test_a_request_without_one_good_key_is_refused(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    wrong = ["", "x" * 256, "two words", '"', '""', '"open', "\u00e9"]
    cases = [([], "idempotency_key_required"), (["k1", "k2"], "idempotency_key_invalid")]
    cases += [([key], "idempotency_key_invalid") for key in wrong]

    for keys, code in cases:
        sent = [*headers.raw, *((b"Idempotency-Key", key.encode("latin-1")) for key in keys)]
        answer = await client.post("/payments", json=TOP_UP, headers=sent)

        assert (answer.status_code, answer.json()["code"]) == (400, code), keys
    assert await stored(db) == []


async def test_another_users_payment_does_not_exist(client: httpx.AsyncClient, log_in: LogIn) -> None:
    one, two = await log_in(client, 1), await log_in(client, 2)
    payment_id = (await top_up(client, one)).json()["id"]

    for unknown in (payment_id, "0198c0de-7000-7000-8000-00000000a001", "nonsense", "%00", "x" * 5_000):
        answer = await client.get(f"/payments/{unknown}", headers=two)
        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")


async def test_every_provider_takes_its_own_currencies(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    requests = [
        ("yookassa", {"amount_minor": 100, "currency": "RUB"}, None),
        ("stripe", {"amount_minor": 1_000, "currency": "JPY"}, None),
        ("cryptopay", {"amount_minor": 1_500_000, "currency": "USDT"}, None),
        ("ton", {"amount_minor": 2_500_000_000, "currency": "TON"}, None),
        ("stars", {"amount_minor": 250, "currency": "XTR"}, "42"),
    ]

    for provider, amount, _ in requests:
        answer = await top_up(client, headers, key=provider, provider=provider, amount=amount)
        assert answer.status_code == 202, answer.text

    published = [(command["provider"], command["amount"], command["payer"]) for command in await published_commands(db)]
    assert published == requests


async def test_an_invoice_in_stars_is_for_the_telegram_account_that_requests_it(
    client: httpx.AsyncClient, log_in: LogIn, db: database.Database
) -> None:
    amount = {"amount_minor": 250, "currency": "XTR"}

    for telegram_id in (43, 2**52 - 1):
        await top_up(client, await log_in(client, telegram_id), provider="stars", amount=amount)

    assert [command["payer"] for command in await published_commands(db)] == ["43", "4503599627370495"]


async def test_an_invoice_in_stars_is_refused_when_the_sessions_user_is_gone(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM users")

    answer = await top_up(client, headers, provider="stars", amount={"amount_minor": 250, "currency": "XTR"})

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert await stored(db) == []


async def test_a_refusal_names_the_supported_currencies_and_amounts(
    client: httpx.AsyncClient, headers: httpx.Headers
) -> None:
    in_roubles = await top_up(client, headers, provider="ton")
    too_small = await top_up(client, headers, provider="ton", amount={"amount_minor": 1_000, "currency": "TON"})

    assert (in_roubles.status_code, in_roubles.json()["code"]) == (422, "currency_not_supported")
    assert in_roubles.json()["supported"] == ["TON", "USDT"]
    assert (too_small.status_code, too_small.json()["code"]) == (422, "amount_out_of_range")
    assert too_small.json()["min_minor"] == 500_000_000


NONSENSE: list[tuple[str, Any]] = [
    ("purpose", "gift"),
    ("purpose", ABSENT),
    ("provider", "paypal"),
    ("provider", "stripe"),
    ("provider", "stars"),
    ("provider", None),
    ("is_held", True),
    ("payer", "42"),
    ("amount", ABSENT),
    ("amount", 150_000),
    ("amount", []),
    ("amount", {"amount_minor": 150_000}),
    ("amount", {"amount_minor": "150000", "currency": "RUB"}),
    ("amount", {"amount_minor": 1500.5, "currency": "RUB"}),
    ("amount", {"amount_minor": 150_000.0, "currency": "RUB"}),
    ("amount", {"amount_minor": True, "currency": "RUB"}),
    ("amount", {"amount_minor": 0, "currency": "RUB"}),
    ("amount", {"amount_minor": -150_000, "currency": "RUB"}),
    ("amount", {"amount_minor": 99, "currency": "RUB"}),
    ("amount", {"amount_minor": 50_000_001, "currency": "RUB"}),
    ("amount", {"amount_minor": 2**63, "currency": "RUB"}),
    ("amount", {"amount_minor": 10**400, "currency": "RUB"}),
    ("amount", {"amount_minor": 150_000, "currency": "GBP"}),
    ("amount", {"amount_minor": 250, "currency": "XTR"}),
    ("amount", {"amount_minor": 150_000, "currency": "rub"}),
    ("amount", {"amount_minor": 150_000, "currency": "RUB\u0000"}),
    ("amount", {"amount_minor": 150_000, "currency": "RUB", "balance_minor": 10**9}),
    ("return_url", ABSENT),
    ("return_url", ""),
    ("return_url", "t.me"),
    ("return_url", "javascript:alert(1)"),
    ("return_url", "http://shop.example/"),
    ("return_url", "http://localhost.evil.example/"),
    ("return_url", "https://user:secret@shop.example/"),
    ("return_url", "https://"),
    ("return_url", "https://shop.example/" + "x" * 2_048),
    ("return_url", "https://shop.example/" + "\u0436" * 1_000),
    ("return_url", "https://shop.example/\ud800"),
    ("status", "paid"),
    ("user_id", "0198c0de-7000-7000-8000-00000000a001"),
    ("\ud800", 1),
]


BODIES = [b"", b"{", b"null", b"[]", b"42", b'"text"', b"\xff\xfe", b'{"amount": NaN}', b"[" * 50_000, b"1" * 5_000]


@pytest.mark.rule("GW9")
async def test_a_nonsense_body_is_a_problem_and_changes_nothing(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    sent = {**headers, "Idempotency-Key": "k1", "Content-Type": "application/json"}
    bodies = [
        {name: given for name, given in {**TOP_UP, field: value}.items() if given is not ABSENT}
        for field, value in NONSENSE
    ]

    for content in [*(json.dumps(body).encode() for body in bodies), *BODIES]:
        answer = await client.post("/payments", content=content, headers=sent)

        assert answer.status_code in {400, 422}, (content[:200], answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"]
    assert await stored(db) == []
    assert await published_commands(db) == []


async def test_the_payer_may_return_to_a_safe_address(client: httpx.AsyncClient, headers: httpx.Headers) -> None:
    for url in (
        "https://t.me/app",
        "http://localhost:3000/back",
        "http://127.0.0.1/",
        "http://[::1]:8080/x",
        "HTTPS://T.ME/",
    ):
        answer = await top_up(client, headers, key=url, return_url=url)

        assert answer.status_code == 202, url
