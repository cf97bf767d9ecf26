import asyncio
import json
import signal
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pytest
from pydantic import ValidationError

import contracts.payments
from chassis import outbox, publisher, testing, topology
from payments import settings
from payments.clients import connections, yookassa


@pytest.fixture
def running(processes: testing.Processes, sandbox: Any) -> Callable[..., Any]:
    """Starts a role of payments against the sandbox; webhooks are accepted from this machine."""

    def start(role: str, **changes: str) -> Any:
        return processes.ready(
            "payments",
            role,
            **{
                "PAYMENTS_YOOKASSA_URL": sandbox.yookassa_url,
                "PAYMENTS_YOOKASSA_SHOP_ID": "demo-shop",
                "PAYMENTS_YOOKASSA_SECRET_KEY": "demo-secret",
                "PAYMENTS_YOOKASSA_IS_TEST": "true",
                "PAYMENTS_WEBHOOK_NETWORKS": "127.0.0.1/32",
                **changes,
            },
        )

    return start


class EventListener:
    """Hears every event of payments, as its consumers would."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.messages.put_nowait((str(message.headers["ce-type"]), json.loads(message.body)))

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(20):
            return await self.messages.get()


@pytest.fixture
async def listener(declared: str) -> AsyncIterator[EventListener]:
    made = EventListener()
    async with await aio_pika.connect(declared) as connection:
        queue = await (await connection.channel()).declare_queue(exclusive=True)
        await queue.bind(topology.EVENTS, routing_key="payments.#")
        await queue.consume(made.hear, no_ack=True)
        yield made


@pytest.fixture
async def asked(
    shop: Any, sender: publisher.Publisher, command: contracts.payments.CreatePayment
) -> Callable[[], Awaitable[contracts.payments.CreatePayment]]:
    """Sends a command to its queue as the gateway's relay would."""

    async def ask() -> contracts.payments.CreatePayment:
        async with shop.db.transaction() as tx:
            await outbox.put(tx, [command])
        (row,) = await shop.rows("DELETE FROM outbox RETURNING exchange, event_type, headers, payload")
        await sender.publish(
            exchange=row["exchange"],
            routing_key=row["event_type"],
            headers=json.loads(row["headers"]),
            body=row["payload"],
            event_type=row["event_type"],
        )
        return command

    return ask


async def webhook(url: str, ref: str, **headers: str) -> int:
    body = {"type": "notification", "event": "payment.succeeded", "object": {"id": ref}}
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.post(f"{url}/webhooks/yookassa/demo", json=body, headers=headers)).status_code


async def test_a_payment_goes_from_the_command_to_paid_through_both_processes(
    running: Any,
    listener: EventListener,
    sandbox: Any,
    asked: Callable[[], Awaitable[contracts.payments.CreatePayment]],
) -> None:
    running("worker")
    _, url = running("api")

    command = await asked()
    created = await listener.next()
    ref = sandbox.made()[0]["id"]
    sandbox.act(ref, "pay")
    status = await webhook(url, ref)
    paid = await listener.next()

    assert status == 200
    assert created[0] == contracts.payments.PaymentCreated.TYPE
    assert created[1]["confirmation_url"].endswith(ref)
    assert paid[0] == contracts.payments.PaymentPaid.TYPE
    assert (paid[1]["payment_id"], paid[1]["version"]) == (str(command.payment_id), 2)
    assert paid[1]["amount"] == {"amount_minor": 150_000, "currency": "RUB"}


@pytest.mark.rule("PA21")
async def test_a_kill_between_fetch_and_commit_has_one_effect(
    running: Any, listener: EventListener, shop: Any, sandbox: Any
) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")
    process, url = running("all", KOPILKA_FAILPOINT="payments.after_fetch:1")
    assert (await listener.next())[0] == contracts.payments.PaymentCreated.TYPE

    assert await webhook(url, ref) == 200
    killed = await asyncio.to_thread(process.wait, 20)
    before = await shop.webhook_states()
    running("all")
    await shop.make_due("webhook")
    paid = await listener.next()

    assert killed == -signal.SIGKILL
    assert before == ["new"]
    assert paid[0] == contracts.payments.PaymentPaid.TYPE
    assert await shop.webhook_states() == ["applied"]
    assert listener.messages.empty()


@pytest.mark.rule("PA1")
async def test_the_same_webhook_before_and_after_a_restart_is_one_effect(
    running: Any, listener: EventListener, shop: Any, sandbox: Any
) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")
    process, url = running("all")
    statuses = await asyncio.gather(*(webhook(url, ref) for _ in range(50)))
    assert [(await listener.next())[0] for _ in range(2)] == [
        contracts.payments.PaymentCreated.TYPE,
        contracts.payments.PaymentPaid.TYPE,
    ]

    process.terminate()
    code = await asyncio.to_thread(process.wait, 30)
    _, url = running("all")
    statuses += await asyncio.gather(*(webhook(url, ref) for _ in range(50)))

    assert statuses == [200] * 100
    assert code == 0
    assert await shop.webhook_states() == ["applied"]
    assert listener.messages.empty()


@pytest.mark.rule("PA3")
async def test_a_header_is_no_address_not_even_from_this_machine(running: Any, shop: Any) -> None:
    _, url = running("api", PAYMENTS_WEBHOOK_NETWORKS=yookassa.settings.NETWORKS)

    statuses = [
        await webhook(url, "ref-1", **{"X-Forwarded-For": "185.71.76.5"}),
        await webhook(url, "ref-1", **{"X-Forwarded-For": "185.71.76.5, 127.0.0.1"}),
        await webhook(url, "ref-1", Forwarded="for=185.71.76.5"),
    ]

    assert statuses == [403, 403, 403]
    assert await shop.webhook_states() == []


def test_networks_are_read_as_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, PAYMENTS_TRUSTED_PROXIES="10.0.0.0/8, fd00::/8", PAYMENTS_WEBHOOK_NETWORKS="")

    read = settings.PaymentsSettings()

    assert read.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert read.webhook_networks == ()


def test_the_published_networks_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)

    assert ip_network("77.75.156.11/32") in settings.PaymentsSettings().webhook_networks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAYMENTS_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("PAYMENTS_WEBHOOK_NETWORKS", "everywhere"),
        ("PAYMENTS_YOOKASSA_URL", "ftp://x"),
        ("PAYMENTS_YOOKASSA_SHOP_ID", ""),
        ("PAYMENTS_PROVIDER_TIMEOUT_S", "0"),
        ("PAYMENTS_YOOKASSA_IS_TEST", "perhaps"),
    ],
)
def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    configure(monkeypatch, **{name: value})

    with pytest.raises(ValidationError):
        settings.PaymentsSettings()


def configure(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    names = {
        "PAYMENTS_DATABASE_URL": "postgresql://u:p@127.0.0.1/d",
        "KOPILKA_AMQP_URL": "amqp://u:p@127.0.0.1/",
        "PAYMENTS_YOOKASSA_SHOP_ID": "demo-shop",
        "PAYMENTS_YOOKASSA_SECRET_KEY": "demo-secret",
        **changes,
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)


def test_a_provider_is_off_unless_its_secret_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)
    assert [account.provider for account in settings.PaymentsSettings().accounts] == ["yookassa"]

    configure(
        monkeypatch,
        PAYMENTS_STRIPE_SECRET_KEY="sk_test_1",
        PAYMENTS_STRIPE_ACCOUNT_ID="acct_1",
        PAYMENTS_STARS_TOKEN="7000000001:token",
        PAYMENTS_CRYPTOPAY_TOKEN="10001:token",
        PAYMENTS_TON_WALLET=f"0:{'ab' * 32}",
    )
    read = settings.PaymentsSettings()

    assert [account.provider for account in read.accounts] == ["yookassa", "stripe", "stars", "cryptopay", "ton"]
    opened = connections.open_accounts(read.accounts, timeout_s=1)
    stars = opened.named("stars", "demo")
    assert stars is not None
    assert (stars.account.shop_id, stars.account.gives_back_repeats) == ("7000000001", True)
    assert "7000000001:token" not in repr(read)


@pytest.mark.parametrize("form", ["json", "toml"])
def test_further_accounts_come_from_a_file_that_names_their_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    (tmp_path / "key").write_text("first-secret\n")
    monkeypatch.setenv("SECOND_KEY", "second-secret")
    toml = TOML.format(key=tmp_path / "key")
    path = tmp_path / f"accounts.{form}"
    path.write_text(json.dumps(tomllib.loads(toml)) if form == "json" else toml)
    configure(monkeypatch, PAYMENTS_ACCOUNTS_FILE=str(path))

    read = settings.PaymentsSettings()

    opened = connections.open_accounts(read.accounts, timeout_s=1)
    tenants = {(one.tenant, one.name): one.secret("secret_key") for one in read.accounts}
    assert tenants == {
        ("demo", "demo"): "demo-secret",
        ("a", "first"): "first-secret",
        ("b", "second"): "second-secret",
    }
    second = opened.of_tenant("yookassa", "b")
    assert second is not None
    assert (second.account.name, second.account.is_test) == ("second", True)
    assert "first-secret" not in repr(read.accounts)


TOML = """
[[accounts]]
tenant = "a"
provider = "yookassa"
name = "first"
shop_id = "1"
secrets = {{ secret_key = {{ file = "{key}" }} }}

[[accounts]]
tenant = "b"
provider = "yookassa"
name = "second"
shop_id = "2"
is_test = true
secrets = {{ secret_key = {{ env = "SECOND_KEY" }} }}
options = {{ networks = ["10.0.0.0/8"] }}
"""


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"accounts": {}}',
        '{"accounts": [{"provider": "other", "name": "x"}]}',
        '{"accounts": [{"provider": "yookassa", "name": "demo"}]}',
        '{"accounts": [{"provider": "yookassa", "name": "x", "secrets": {"secret_key": "written-out"}}]}',
        '{"accounts": [{"provider": "yookassa", "name": "x", "secrets": {"secret_key": {"env": "NOT_SET_HERE"}}}]}',
        '{"accounts": [{"provider": "yookassa", "name": "x", "unknown": 1}]}',
    ],
)
def test_an_unusable_accounts_file_stops_the_start_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(content)
    configure(monkeypatch, PAYMENTS_ACCOUNTS_FILE=str(path))

    with pytest.raises(ValidationError) as error:
        settings.PaymentsSettings()

    assert "written-out" not in "".join(problem["msg"] for problem in error.value.errors(include_input=False))
