"""What the tests of payments share: the service, the sandbox as a real provider, a provider that lies, and a shop."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

import contracts.payments
import payments.captures.handlers
import payments.refunds.handlers
from chassis import app, database, health, testing, web, worker_pool
from contracts.message import Money, TenantId, UserId
from payments import clients, main
from payments.clients import yookassa
from payments.domain import accounts
from payments.handlers import commands
from payments.timers import outgoing
from payments.webhooks.api import routes
from payments.webhooks.timers import polling, settling

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound.
sys.path.insert(0, str(Path(__file__).parent))

import fake_providers
import scripted_servers

LISTED = "185.71.76.5"
SECRET = "demo-secret"
TENANT = TenantId("demo")


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE


@pytest.fixture
def command() -> contracts.payments.CreatePayment:
    return contracts.payments.CreatePayment(
        tenant=TenantId("demo"),
        payment_id=contracts.payments.PaymentId(uuid4()),
        user_id=UserId(uuid4()),
        purpose="top_up",
        amount=Money(amount_minor=150_000, currency="RUB"),
        provider="yookassa",
        return_url="https://shop.example/thanks",
    )


@pytest.fixture
def account() -> accounts.Account:
    return accounts.Account(
        tenant=TenantId("demo"),
        provider="yookassa",
        name="demo",
        shop_id="demo-shop",
        is_test=True,
        payment_ttl=timedelta(hours=1),
    )


class Sandbox:
    """The sandbox process, through its control plane."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.yookassa_url = f"{url}/yookassa/v3"
        self._http = httpx.Client(base_url=f"{url}/__ctl", timeout=10, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def control(self, method: str, path: str, **body: object) -> Any:
        answer = self._http.request(method, path, json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fault(self, fault: str, *, route: str | None = None, count: int = 1) -> None:
        self.control(
            "POST", "/faults", target="yookassa", fault=fault, count=count, **({"route": route} if route else {})
        )

    def made(self) -> list[dict[str, Any]]:
        return [item["payment"] for item in self.control("GET", "/payments?provider=yookassa")["items"]]

    def act(self, ref: str, action: str) -> None:
        self.control("POST", f"/payments/{ref}/{action}")

    def requests(self, method: str) -> list[dict[str, Any]]:
        seen = self.control("GET", "/requests?target=yookassa")["items"]
        return [request for request in seen if request["method"] == method]


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[str]:
    port = testing.free_port()
    environment = {**os.environ, "SANDBOX_PORT": str(port), "SANDBOX_YOOKASSA_WEBHOOK_URL": "http://127.0.0.1:9/"}
    process = subprocess.Popen([str(Path(sys.executable).parent / "sandbox")], env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, "the sandbox ended"
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture
def sandbox(sandbox_process: str) -> Iterator[Sandbox]:
    """The sandbox, empty; it sends no webhooks, which a test sends itself."""
    made = Sandbox(sandbox_process)
    made.control("POST", "/reset")
    made.control("POST", "/webhooks", plan="drop")
    yield made
    made.close()


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, database_url: str, sandbox: Any) -> app.Service:
    """The environment of an operator's shell."""
    for name, value in {
        "PAYMENTS_DATABASE_URL": database_url,
        "KOPILKA_AMQP_URL": "amqp://u:p@127.0.0.1/",
        "PAYMENTS_YOOKASSA_URL": sandbox.yookassa_url,
        "PAYMENTS_YOOKASSA_SHOP_ID": "demo-shop",
        "PAYMENTS_YOOKASSA_SECRET_KEY": "demo-secret",
        "PAYMENTS_YOOKASSA_IS_TEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return main.SERVICE


@pytest.fixture
def scripted_server() -> Iterator[scripted_servers.ScriptedServer]:
    made = scripted_servers.ScriptedServer()
    threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
async def client_of(account: accounts.Account) -> AsyncIterator[Callable[..., yookassa.api.YooKassa]]:
    """Makes clients for a base URL, closed with the test."""
    made: list[yookassa.api.YooKassa] = []

    def client(base_url: str, *, timeout_s: float = 5, secret_key: str = SECRET) -> yookassa.api.YooKassa:
        networks = [ip_network(network) for network in yookassa.settings.NETWORKS.split(",")]
        made.append(
            yookassa.api.YooKassa(
                account, base_url=base_url, secret_key=secret_key, networks=networks, timeout_s=timeout_s
            )
        )
        return made[-1]

    yield client
    for one in made:
        await one.close()


class Shop:
    """A payment service without its processes: every entry point is used as it is, one step at a time."""

    def __init__(
        self, db: database.Database, provider: clients.Provider, command: contracts.payments.CreatePayment
    ) -> None:
        self.db = db
        self._command = command
        self.seconds_later = 0.0
        self.use(provider)

    def use(self, provider: clients.Provider) -> None:
        """Talk to this provider from now on."""
        self.providers = clients.Providers([provider])
        self.restart()

    def restart(self) -> None:
        """Forget whatever a process keeps in memory."""
        self.attempts_pool = outgoing.pool(self.db, self.providers, 30)
        self.webhooks_pool = settling.pool(self.db, self.providers, 30)
        self.polling_pool = polling.pool(self.db, self.providers)
        self.trust()

    def trust(self, *proxies: str) -> None:
        """Take webhooks in behind these proxies."""
        trusted = [ip_network(network) for network in proxies]
        self.http: FastAPI = web.create("payments", health.Health())
        self.http.include_router(
            routes.routes(
                self.db,
                self.providers,
                trusted_proxies=trusted,
                default_account="demo",
                clock=lambda: time.monotonic() + self.seconds_later,
            )
        )

    async def request(self, amount_minor: int = 150_000, **changes: object) -> contracts.payments.CreatePayment:
        usual = {"payment_id": uuid4(), "amount": rubles(amount_minor)}
        command = self._command.model_copy(update={**usual, **changes})
        await commands.create_payment(self.db, testing.delivery_of(command, "payments.commands"), command)
        return command

    async def capture(
        self,
        payment_id: UUID,
        amount_minor: int | None = None,
        *,
        amount: Money | None = None,
        receipt: contracts.payments.Receipt | None = None,
    ) -> None:
        asked = amount or rubles(amount_minor)
        command = contracts.payments.CapturePayment(tenant=TENANT, payment_id=payment_id, amount=asked, receipt=receipt)
        await payments.captures.handlers.capture_payment(
            self.providers.registry, self.db, testing.delivery_of(command, "payments.commands"), command
        )

    async def cancel(self, payment_id: UUID) -> None:
        command = contracts.payments.CancelPayment(tenant=TENANT, payment_id=payment_id)
        await payments.captures.handlers.cancel_payment(
            self.providers.registry, self.db, testing.delivery_of(command, "payments.commands"), command
        )

    async def refund(
        self,
        payment_id: UUID,
        amount_minor: int | None = None,
        *,
        amount: Money | None = None,
        refund_id: UUID | None = None,
        receipt: contracts.payments.Receipt | None = None,
    ) -> UUID:
        command = contracts.payments.RefundPayment(
            tenant=TENANT,
            payment_id=payment_id,
            refund_id=refund_id or uuid4(),
            amount=amount or rubles(amount_minor),
            receipt=receipt,
        )
        await payments.refunds.handlers.refund_payment(
            self.providers.registry, self.db, testing.delivery_of(command, "payments.commands"), command
        )
        return command.refund_id

    async def send_attempts(self) -> None:
        """Ask the provider for everything that is due."""
        await run(self.attempts_pool)

    async def send_fake_webhook(self, ref: str | None, key: str = "1", **content: object) -> list[int]:
        """Send a webhook of the fake provider; gives the statuses."""
        body = json.dumps({"ref": ref, "key": key, **content})
        return [
            answer.status_code
            for answer in await self.post("/webhooks/yookassa/demo", body, x_fake_provider=fake_providers.SECRET)
        ]

    async def paid(self, amount_minor: int = 150_000) -> tuple[UUID, str]:
        """Give a paid payment of the fake provider: our id and the provider's."""
        payment_id, ref = await self.pending(amount_minor)
        (provider,) = self.providers.able(accounts.Capability.REFUND)
        assert isinstance(provider, fake_providers.FakeProvider)
        provider.pay(ref)
        await self.send_fake_webhook(ref, key=f"paid {ref}")
        await self.settle_webhooks()
        return payment_id, ref

    async def settle_webhooks(self) -> None:
        await run(self.webhooks_pool)

    async def poll(self) -> None:
        await run(self.polling_pool)

    async def pending(self, amount_minor: int = 150_000, **changes: object) -> tuple[UUID, str]:
        """Give a payment that waits for its payer: our id and the provider's."""
        command = await self.request(amount_minor, **changes)
        await self.send_attempts()
        row = await self.payment(command.payment_id)
        assert row["state"] == "pending"
        return command.payment_id, row["provider_ref"]

    async def send_webhook(
        self, ref: str, event: str = "payment.succeeded", *, peer: str = LISTED, times: int = 1, note: str = ""
    ) -> list[int]:
        """Send a notification to the real application, `times` at once; gives the statuses."""
        body = json.dumps({"type": "notification", "event": event, "object": {"id": ref, "note": note}})
        return [answer.status_code for answer in await self.post("/webhooks/yookassa/demo", body, peer, times=times)]

    async def post(
        self, path: str, body: str | bytes, peer: str = LISTED, *, times: int = 1, **headers: str
    ) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=self.http, client=(peer, 40_000))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://payments") as http,
            asyncio.TaskGroup() as group,
        ):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = [group.create_task(http.post(path, content=body, headers=named)) for _ in range(times)]
        return [task.result() for task in sent]

    async def payment(self, payment_id: UUID) -> dict[str, Any]:
        (row,) = await self.rows("SELECT * FROM payment WHERE payment_id = $1", payment_id)
        return row

    async def is_paid(self, payment_id: UUID) -> bool:
        return bool((await self.payment(payment_id))["state"] == "paid")

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something has become true, not for ever."""
        async with asyncio.timeout(10):
            while not await condition():  # noqa: ASYNC110 - it happens in a database, which sends no event
                await asyncio.sleep(0.01)

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with self.db.transaction() as tx:
            return [dict(row) for row in await tx.fetch(sql, *values)]

    async def make_due(self, table: str) -> None:
        """Let the time come for everything in a table that waits."""
        await self.rows(f"UPDATE {table} SET next_at = now() WHERE next_at IS NOT NULL")

    async def event_names(self) -> list[str]:
        """Give the names of published events in order, without findings."""
        names = [name.removeprefix("payments.") for name, _ in await testing.outbox_messages(self.db)]
        return [name.removeprefix("payment.") for name in names if not name.startswith("finding.")]

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Give every published message: its type and body."""
        return await testing.outbox_messages(self.db)

    async def findings(self) -> list[str]:
        return [row["kind"] for row in await self.rows("SELECT kind FROM finding ORDER BY finding_id")]

    async def webhook_states(self) -> list[str]:
        return [row["state"] for row in await self.rows("SELECT state FROM webhook ORDER BY webhook_id")]


def rubles(amount_minor: int | None) -> Money | None:
    return None if amount_minor is None else Money(amount_minor=amount_minor, currency="RUB")


async def run(pool: worker_pool.WorkerPool[Any]) -> None:
    """Carry everything of a pool that is due now."""
    while await pool.tick():
        await pool.finish()


@pytest.fixture
def shop(
    db: database.Database,
    sandbox: Sandbox,
    client_of: Callable[..., yookassa.api.YooKassa],
    command: contracts.payments.CreatePayment,
) -> Shop:
    return Shop(db, client_of(sandbox.yookassa_url), command)


@pytest.fixture
def fake_provider(account: accounts.Account) -> fake_providers.FakeProvider:
    return fake_providers.FakeProvider(account)


@pytest.fixture
def fake_shop(
    db: database.Database, fake_provider: fake_providers.FakeProvider, command: contracts.payments.CreatePayment
) -> Shop:
    """A shop whose provider is the one in memory."""
    return Shop(db, fake_provider, command)


@pytest.fixture
def new_shop() -> type[Shop]:
    """Makes shops outside of the test's own loop."""
    return Shop
