"""The gateway as real processes on real servers: several replicas, and outages of the broker and Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aio_pika
import httpx
import pytest

from chassis import database, publisher, testing, topology
from contracts import ledger, orders, payments

LogIn = Callable[..., Awaitable[httpx.Headers]]
Start = Callable[..., httpx.AsyncClient]

TOP_UP: dict[str, Any] = {
    "purpose": "top_up",
    "amount": {"amount_minor": 150_000, "currency": "RUB"},
    "provider": "yookassa",
    "return_url": "https://t.me/kopilka_bot/app",
}
PURCHASE: dict[str, Any] = {"items": [{"product_id": "mug", "quantity": 1}], "payment_method": "wallet"}
WAIT = {"Idempotency-Key": "k1", "Prefer": "wait=10"}
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def start(processes: testing.Processes, servers: testing.Servers, generous_limits: str) -> AsyncIterator[Start]:
    """A function that starts a process of the gateway, waits until it is ready, and returns a client of it."""
    opened: list[httpx.AsyncClient] = []

    def started(role: str, *, redis_url: str = servers.redis_url) -> httpx.AsyncClient:
        _, url = processes.ready(
            "gateway",
            role,
            KOPILKA_REDIS_URL=redis_url,
            GATEWAY_BOT_TOKEN="42:TEST",
            GATEWAY_SESSION_SECRET="only-for-tests-and-long-enough-to-be-accepted",
            GATEWAY_RATE_LIMITS=generous_limits,
        )
        opened.append(httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=30))
        return opened[-1]

    yield started
    for client in opened:
        await client.aclose()


async def publish(sender: publisher.Publisher, *events: Any) -> None:
    """Publish events as the services that own them do."""
    for event in events:
        await sender.publish(
            exchange=topology.EVENTS,
            routing_key=event.TYPE,
            headers=testing.delivery_of(event, "").envelope.headers(),
            body=event.model_dump_json().encode(),
            event_type=event.TYPE,
        )


async def first_id(db: database.Database, table: str) -> str:
    """Wait until a table of the gateway has a row, and return its id."""
    async with asyncio.timeout(30):
        while True:
            async with db.transaction() as tx:
                if found := await tx.fetchval(f"SELECT id FROM {table}"):
                    return str(found)
            await asyncio.sleep(0.02)


@pytest.mark.rule("GW11")
async def test_after_a_paid_order_every_replica_shows_what_was_paid(
    start: Start, log_in: LogIn, db: database.Database, sender: publisher.Publisher, build: Any
) -> None:
    """Goal: read your own write on any replica. Method: the ledger's event comes last, after that of the order."""
    start("worker")
    one, two = start("api"), start("api")
    headers = await log_in(one)
    user_id = (await one.get("/users/me", headers=headers)).json()["id"]
    topped_up = build.transfer(build.account(user_id, 1, 150_000), 150_000, "payment:1")

    placing = asyncio.create_task(one.post("/orders", json=PURCHASE, headers={**headers, **WAIT}))
    order_id = await first_id(db, "orders")
    reference = f"order:{order_id}"
    await publish(sender, build.order(orders.OrderPaid, order_id, user_id))
    await publish(sender, build.order(orders.OrderPlaced, order_id, user_id))
    await publish(
        sender,
        build.transfer(build.account(user_id, 3, 110_000), -40_000, reference, kind="capture"),
        build.hold(ledger.HoldPlaced, build.account(user_id, 2, 150_000, 40_000), 40_000, reference),
        topped_up,
    )
    answer = await placing
    shown = await two.get(f"/orders/{order_id}", headers=headers)
    balance = await two.get("/balance", headers=headers)
    statement = await two.get("/transactions", headers=headers)

    assert answer.status_code == 201, answer.text
    assert shown.json() == answer.json()
    assert balance.json()["balances"][0]["balance_minor"] == 110_000
    assert reference in {line["reference"] for line in statement.json()["items"] if line["kind"] == "capture"}


async def test_without_redis_everything_is_answered(
    start: Start, log_in: LogIn, db: database.Database, sender: publisher.Publisher, build: Any
) -> None:
    start("worker", redis_url=NOWHERE)
    client = start("api", redis_url=NOWHERE)
    headers = await log_in(client)
    user_id = (await client.get("/users/me", headers=headers)).json()["id"]

    paying = asyncio.create_task(client.post("/payments", json=TOP_UP, headers={**headers, **WAIT}))
    payment_id = await first_id(db, "payments")
    await publish(sender, build.payment(payments.PaymentCreated, payment_id, user_id))
    answer = await paying

    assert answer.status_code == 201, answer.text
    assert answer.json()["confirmation_url"]


@pytest.mark.rule("GW10")
async def test_a_command_accepted_while_the_broker_is_down_is_published_when_it_is_back(
    start: Start, log_in: LogIn, servers: testing.Servers, vhost: str, declared: str
) -> None:
    client = start("api")
    headers = await log_in(client)

    testing.manage(servers, "DELETE", f"vhosts/{vhost}")
    answer = await client.post("/payments", json=TOP_UP, headers={**headers, "Idempotency-Key": "k1"})
    testing.manage(servers, "PUT", f"vhosts/{vhost}")
    await topology.apply(declared, [topology.Binding("payments.commands", commands=(payments.CreatePayment.TYPE,))])
    command = await _first_message(declared, "payments.commands")

    assert answer.status_code == 202
    assert payments.CreatePayment.model_validate_json(command).subject == answer.json()["id"]


async def test_the_role_all_serves_and_projects_in_one_process(
    start: Start, log_in: LogIn, db: database.Database, sender: publisher.Publisher, build: Any
) -> None:
    client = start("all")
    headers = await log_in(client)
    user_id = (await client.get("/users/me", headers=headers)).json()["id"]

    paying = asyncio.create_task(client.post("/payments", json=TOP_UP, headers={**headers, **WAIT}))
    payment_id = await first_id(db, "payments")
    await publish(sender, build.payment(payments.PaymentFailed, payment_id, user_id), build.product("mug"))
    answer = await paying
    product_id = await first_id(db, "products")

    assert (answer.status_code, answer.json()["code"]) == (409, "payment_refused")
    assert (await client.get(f"/products/{product_id}")).status_code == 200


async def test_the_later_states_of_a_payment_are_projected(
    start: Start, log_in: LogIn, db: database.Database, sender: publisher.Publisher, build: Any
) -> None:
    client = start("all")
    headers = await log_in(client)
    user_id = (await client.get("/users/me", headers=headers)).json()["id"]
    amount = {"amount_minor": 250, "currency": "XTR"}
    body = {**TOP_UP, "provider": "stars", "amount": amount}
    answer = await client.post("/payments", json=body, headers={**headers, "Idempotency-Key": "k1", "Prefer": "wait=0"})
    payment_id = answer.json()["id"]
    xtr = {"provider": "stars", "amount": amount}
    back = {**xtr, "captured": amount, "refunded": amount}
    refund = build.refund(payment_id, user_id, version=5, amount_minor=250, refunded_minor=250, paid_minor=250)

    await publish(sender, build.payment(payments.PaymentAuthorized, payment_id, user_id, **xtr))
    assert (await _until(client, headers, payment_id, "authorized"))["paid_minor"] is None
    await publish(sender, build.payment(payments.PaymentPaid, payment_id, user_id, **xtr, version=4))
    assert (await _until(client, headers, payment_id, "paid"))["paid_minor"] == 250
    await publish(sender, payments.PaymentRefunded.model_validate({**refund.model_dump(), **back}))
    shown = await _until(client, headers, payment_id, "refunded")

    assert (shown["amount"], shown["paid_minor"], shown["refunded_minor"]) == (amount, 250, 250)


async def _until(client: httpx.AsyncClient, headers: httpx.Headers, payment_id: str, status: str) -> Any:
    """Wait until a payment has a status, and return it."""
    async with asyncio.timeout(30):
        while True:
            shown = (await client.get(f"/payments/{payment_id}", headers=headers)).json()
            if shown["status"] == status:
                return shown
            await asyncio.sleep(0.05)


async def _first_message(amqp_url: str, queue: str) -> bytes:
    connection = await aio_pika.connect(amqp_url)
    async with connection, asyncio.timeout(60):
        channel = await connection.channel()
        consumed = await channel.get_queue(queue, ensure=False)
        while True:
            message = await consumed.get(no_ack=True, fail=False)
            if message is not None:
                return message.body
            await asyncio.sleep(0.05)
