"""The real process between real queues and the real sandbox: what arrives and how often, and that no secret leaks."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from chassis import app, database, migrate, publisher, topology
from chassis.testing import Processes, Servers, delivery_of
from contracts import gateway, ledger, orders, payments
from contracts.message import Message

TOKEN = "7000000008:a-secret-of-the-process-tests"
CHAT, MANAGERS = 808, -100_808
WAIT_S = 60


@pytest.fixture
def start(
    processes: Processes, sandbox_url: str, ctl: httpx.Client
) -> Callable[..., tuple[subprocess.Popen[bytes], str]]:
    def ready(**settings: str) -> tuple[subprocess.Popen[bytes], str]:
        environment = {
            "NOTIFIER_TELEGRAM_URL": f"{sandbox_url}/telegram",
            "NOTIFIER_BOT_TOKEN": TOKEN,
            "NOTIFIER_MANAGER_CHAT_ID": str(MANAGERS),
        }
        return processes.ready("notifier", "worker", **environment | settings)

    return ready


async def send(sender: publisher.Publisher, message: Message, times: int = 1) -> None:
    headers = delivery_of(message, "test").envelope.headers()
    for _ in range(times):
        await sender.publish(
            exchange=topology.EVENTS,
            routing_key=message.TYPE,
            headers=headers,
            body=message.model_dump_json().encode(),
            event_type=message.TYPE,
        )


def events_of_one_user(title: str = "Tea") -> tuple[gateway.UserRegistered, ledger.TransferPosted, orders.OrderPaid]:
    user_id, at = uuid4(), datetime(2026, 1, 2, tzinfo=UTC)

    def leg(owner: Any, amount_minor: int) -> dict[str, Any]:
        account = {"code": "some", "owner": owner, "asset": "RUB", "balance_minor": amount_minor, "held_minor": 0}
        return {"account": {**account, "version": 1}, "amount_minor": amount_minor, "sequence": 1}

    transfer = {
        "tenant": "demo",
        "transfer_id": uuid4(),
        "kind": "top_up",
        "reference": "payment:1",
        "occurred_at": at,
        "postings": [leg(None, -150_000), leg(user_id, 150_000)],
    }
    price = {"amount_minor": 40_000, "currency": "RUB"}
    order = {
        "tenant": "demo",
        "order_id": uuid4(),
        "user_id": user_id,
        "version": 3,
        "occurred_at": at,
        "lines": [{"product_id": "tea", "title": title, "quantity": 1, "unit_price": price}],
        "total": price,
    }
    return (
        gateway.UserRegistered.model_validate({"tenant": "demo", "user_id": user_id, "telegram_id": CHAT}),
        ledger.TransferPosted.model_validate(transfer),
        orders.OrderPaid.model_validate(order),
    )


def texts(ctl: httpx.Client, chat_id: int, count: int) -> list[str]:
    """Wait for a number of messages in a chat, then return all of them."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = [
            message["text"] for message in ctl.get("/telegram/messages", params={"chat_id": chat_id}).json()["items"]
        ]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def plan(ctl: httpx.Client, *faults: str) -> None:
    for fault in faults:
        ctl.post("/faults", json={"target": "telegram", "fault": fault}).raise_for_status()


def measured(url: str) -> str:
    return httpx.get(f"{url}/metrics").text


async def fetch(db: database.Database, statement: str) -> list[tuple[Any, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(statement)]


@pytest.mark.rule("I2")
async def test_each_notification_arrives_once_however_often_its_event_is_delivered(
    start: Callable[..., Any], ctl: httpx.Client, sender: publisher.Publisher
) -> None:
    registered, topped_up, paid = events_of_one_user("Tea <green> & black")
    start()

    await send(sender, topped_up, times=5)
    await send(sender, paid, times=5)
    await send(sender, registered)

    number = str(paid.order_id)[-8:]
    assert sorted(texts(ctl, CHAT, 2)) == [
        "Balance topped up by 1,500.00 RUB. Now: 1,500.00 RUB.",
        f"Order {number} is paid: 400.00 RUB. Thank you!",
    ]
    assert texts(ctl, MANAGERS, 1) == [f"Paid order {number}\n1 x Tea <green> & black: 400.00 RUB\nTotal: 400.00 RUB"]


async def test_a_refund_notifies_the_payer_and_a_dispute_the_managers(
    start: Callable[..., Any], ctl: httpx.Client, sender: publisher.Publisher
) -> None:
    registered, topped_up, _ = events_of_one_user()
    clearing, wallet = topped_up.postings
    back = clearing.account.model_copy(update={"code": "clearing:stars:demo"})
    legs = (
        wallet.model_copy(update={"amount_minor": -150_000}),
        clearing.model_copy(update={"amount_minor": 150_000, "account": back}),
    )
    disputed = payments.PaymentDisputed.model_validate(
        {
            "tenant": "demo",
            "payment_id": uuid4(),
            "user_id": registered.user_id,
            "purpose": "top_up",
            "provider": "stripe",
            "amount": {"amount_minor": 50_000, "currency": "USD"},
            "version": 4,
            "dispute_ref": "dp_1",
            "provider_account": "demo",
        }
    )
    start()

    await send(sender, registered)
    await send(sender, topped_up.model_copy(update={"kind": "refund", "postings": legs}), times=3)
    await send(sender, disputed, times=3)

    assert texts(ctl, CHAT, 1) == ["Refund: 1,500.00 RUB went back the way it was paid. Now: 1,500.00 RUB."]
    assert texts(ctl, MANAGERS, 1) == [
        f"Disputed: the payer's bank took back 500.00 USD\nPayment {disputed.payment_id}\nAt stripe, account demo"
    ]


@pytest.mark.rule("I1")
async def test_a_process_killed_between_sending_and_saving_sends_at_most_one_copy_more(
    start: Callable[..., Any], ctl: httpx.Client, sender: publisher.Publisher, db: database.Database
) -> None:
    registered, topped_up, _ = events_of_one_user()
    killed, _ = start(KOPILKA_FAILPOINT="notifier.before_save:1")
    await send(sender, registered)
    await send(sender, topped_up)
    killed.wait(timeout=WAIT_S)
    await fetch(db, "UPDATE notification SET next_at = now()")

    second, _ = start()

    assert len(texts(ctl, CHAT, 2)) == 2
    second.terminate()
    second.wait(timeout=WAIT_S)
    assert await fetch(db, "SELECT state, attempts FROM notification") == [("sent", 2)]
    assert await fetch(db, "SELECT outcome FROM delivery ORDER BY id") == [("uncertain",), ("sent",)]
    assert len(texts(ctl, CHAT, 2)) == 2


async def test_the_token_is_in_no_output_and_no_metric(
    start: Callable[..., Any], processes: Processes, ctl: httpx.Client, sender: publisher.Publisher
) -> None:
    registered, topped_up, _ = events_of_one_user()
    plan(ctl, "drop", "http:404")
    process, url = start(KOPILKA_LOG_LEVEL="debug")
    await send(sender, registered)
    await send(sender, topped_up)
    assert len(texts(ctl, CHAT, 1)) == 1
    metrics = measured(url)
    process.terminate()
    process.wait(timeout=WAIT_S)

    output = processes.output() + metrics

    assert 'kopilka_notifier_sends_total{result="sent"} 1.0' in metrics
    assert TOKEN.partition(":")[2] not in output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFIER_BOT_TOKEN", "a-secret-without-an-id"),
        ("NOTIFIER_TELEGRAM_URL", "ftp://telegram"),
        ("NOTIFIER_MANAGER_CHAT_ID", "managers"),
    ],
)
async def test_a_wrong_setting_stops_the_process_with_its_name_and_without_its_value(
    processes: Processes, name: str, value: str
) -> None:
    right = {"NOTIFIER_BOT_TOKEN": TOKEN, "NOTIFIER_MANAGER_CHAT_ID": "1"}

    process, _ = processes.spawn("notifier", "worker", **right | {name: value})

    assert process.wait(timeout=WAIT_S) == 78
    assert f"setting {name}" in processes.output()
    assert value not in processes.output()


async def test_the_schema_is_migrated_down_to_nothing_and_up_again(
    servers: Servers, service: app.Service, database_name: str
) -> None:
    async def migrated(revision: str) -> None:
        await migrate.to_version(
            admin_url=servers.database(database_name),
            service_url=servers.service_database(database_name, "notifier"),
            schema="notifier",
            migrations=service.migrations,
            revision=revision,
        )

    await migrated("base")
    connection = await asyncpg.connect(servers.database(database_name))
    left = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'notifier'::regnamespace AND relname !~ '^schema_version'"
    )
    await connection.close()
    await migrated("head")

    assert left == []
