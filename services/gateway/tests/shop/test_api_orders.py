"""The routes of orders: when they are answered, with what, and to whom."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from chassis import database, testing
from contracts import ledger, orders

LogIn = Callable[..., Awaitable[httpx.Headers]]

PURCHASE: dict[str, Any] = {"items": [{"product_id": "mug", "quantity": 2}], "payment_method": "wallet"}


@pytest.fixture
async def headers(client: httpx.AsyncClient, log_in: LogIn) -> httpx.Headers:
    return await log_in(client)


@pytest.fixture
async def user_id(client: httpx.AsyncClient, headers: httpx.Headers) -> str:
    return str((await client.get("/users/me", headers=headers)).json()["id"])


async def place(client: httpx.AsyncClient, headers: httpx.Headers, key: str = "k1", **more: Any) -> httpx.Response:
    sent = {**headers, "Idempotency-Key": key, "Prefer": more.pop("prefer", "wait=0")}
    return await client.post("/orders", json={**PURCHASE, **more}, headers=sent)


async def test_an_order_names_products_and_quantities_only(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, db: database.Database
) -> None:
    answer = await place(client, headers)

    published = [body for kind, body in await testing.outbox_messages(db) if kind == orders.PlaceOrder.TYPE]
    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    assert published == [
        {
            "tenant": "demo",
            "order_id": answer.json()["id"],
            "user_id": user_id,
            "items": [{"product_id": "mug", "quantity": 2}],
            "payment_method": "wallet",
        }
    ]


@pytest.mark.rule("GW11")
async def test_a_paid_order_is_answered_only_when_the_statement_shows_it(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    order_id = (await place(client, headers)).json()["id"]
    await services.publish(build.order(orders.OrderPlaced, order_id, user_id))
    await services.publish(build.order(orders.OrderPaid, order_id, user_id))

    early = await place(client, headers)
    captured = build.transfer(build.account(user_id, 1, 110_000), -40_000, f"order:{order_id}", kind="capture")
    await services.publish(captured)
    late = await place(client, headers)

    assert (early.status_code, early.json()["status"]) == (202, "paid")
    assert (late.status_code, late.json()["status"]) == (201, "paid")
    assert late.json()["items"] == [
        {
            "product_id": "mug",
            "title": "A mug",
            "quantity": 1,
            "unit_price": {"amount_minor": 40_000, "currency": "RUB"},
        }
    ]
    assert late.json()["total"] == {"amount_minor": 40_000, "currency": "RUB"}
    assert (await client.get(f"/orders/{order_id}", headers=headers)).json() == late.json()


@pytest.mark.parametrize(
    ("kind", "refusal", "status"),
    [
        (orders.OrderRefused, "insufficient_funds", 402),
        (orders.OrderRefused, "product_unavailable", 409),
        (orders.OrderCanceled, "hold_expired", 409),
    ],
)
async def test_a_refused_or_canceled_order_is_a_problem_with_its_reason(
    client: httpx.AsyncClient,
    headers: httpx.Headers,
    user_id: str,
    services: Any,
    build: Any,
    *,
    kind: type[orders.OrderEvent],
    refusal: str,
    status: int,
) -> None:
    order_id = (await place(client, headers)).json()["id"]
    await services.publish(build.order(kind, order_id, user_id, code=refusal))

    answer = await place(client, headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["order_id"]) == (refusal, order_id)
    shown = (await client.get(f"/orders/{order_id}", headers=headers)).json()
    assert shown["refusal"]["code"] == refusal


@pytest.mark.rule("GW8")
async def test_many_orders_at_once_with_one_key_are_one_order(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    answers = await asyncio.gather(*(place(client, headers) for _ in range(50)))

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(kind == orders.PlaceOrder.TYPE for kind, _ in await testing.outbox_messages(db)) == 1
    other = await place(client, headers, items=[{"product_id": "mug", "quantity": 3}])
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_users_orders_are_listed_newest_first(
    client: httpx.AsyncClient, headers: httpx.Headers, log_in: LogIn
) -> None:
    placed = [(await place(client, headers, key=f"k{number}")).json()["id"] for number in range(5)]
    await place(client, await log_in(client, 43))

    first = (await client.get("/orders/my", params={"limit": 3}, headers=headers)).json()
    await place(client, headers, key="later")
    rest = (await client.get("/orders/my", params={"cursor": first["next_cursor"]}, headers=headers)).json()

    assert [order["id"] for order in first["items"] + rest["items"]] == placed[::-1]
    assert rest["next_cursor"] is None


async def test_another_users_order_does_not_exist(
    client: httpx.AsyncClient, headers: httpx.Headers, log_in: LogIn
) -> None:
    order_id = (await place(client, headers)).json()["id"]
    other_user = await log_in(client, 43)

    for unknown in (order_id, "0198c0de-7000-7000-8000-00000000a001", "nonsense", "%00"):
        answer = await client.get(f"/orders/{unknown}", headers=other_user)
        assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")


@pytest.mark.rule("GW9")
async def test_a_nonsense_order_is_a_problem_and_changes_nothing(
    client: httpx.AsyncClient, headers: httpx.Headers, db: database.Database
) -> None:
    item = {"product_id": "mug", "quantity": 1}
    nonsense: list[dict[str, Any]] = [
        {"items": []},
        {"items": [item] * 51},
        {"items": {}},
        {"items": None},
        {"items": [[]]},
        {"payment_method": "yookassa"},
        {"payment_method": None},
        {"total": {"amount_minor": 1, "currency": "RUB"}},
        *(
            {"items": [{**item, name: value}]}
            for name, value in [
                ("quantity", 0),
                ("quantity", -1),
                ("quantity", 1_001),
                ("quantity", 1.0),
                ("quantity", "1"),
                ("quantity", True),
                ("product_id", ""),
                ("product_id", 1),
                ("product_id", "x" * 65),
                ("price", {"amount_minor": 1, "currency": "RUB"}),
            ]
        ),
    ]

    for wrong in nonsense:
        answer = await place(client, headers, **wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), wrong
    assert (await client.get("/orders/my", headers=headers)).json()["items"] == []
    assert orders.PlaceOrder.TYPE not in {kind for kind, _ in await testing.outbox_messages(db)}


async def test_a_paid_order_is_not_answered_while_the_statement_shows_only_its_hold(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    order_id = (await place(client, headers)).json()["id"]
    held = build.account(user_id, 1, 100_000, 40_000)

    await services.publish(build.hold(ledger.HoldPlaced, held, 40_000, f"order:{order_id}"))
    await services.publish(build.order(orders.OrderPaid, order_id, user_id))

    assert (await place(client, headers)).status_code == 202
