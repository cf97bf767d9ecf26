"""Fixtures of the gateway: the application in this process, events of other services, a Redis that can be cut off."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import httpx
import pytest

from chassis import app, database, envelope, inbox, testing
from contracts import ledger, message, orders, payments
from gateway import main, settings

BOT_TOKEN = "42:TEST"
SESSION_SECRET = "only-for-tests-and-long-enough-to-be-accepted"
TENANT = "demo"
# All tests share one address, whose counts Redis keeps from one test to the next; the tests of limits set their own.
GENEROUS_LIMITS = "health=60000,login=60000,balance=60000,transactions=60000,orders=60000,payments=60000,other=60000"

Sign = Callable[..., str]
LogIn = Callable[..., Awaitable[httpx.Headers]]


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE


@pytest.fixture
def sign() -> Sign:
    """A function that signs initData as Telegram does."""

    def signed(telegram_id: int = 42, *, bot_token: str = BOT_TOKEN, age_s: int = 0, **more: str) -> str:
        fields = {
            "user": json.dumps({"id": telegram_id, "first_name": "Test & Söhne+"}),
            "auth_date": str(int(time.time()) - age_s),
            "signature": "c2lnbmF0dXJl",
            **more,
        }
        text = "\n".join(sorted(f"{name}={value}" for name, value in fields.items()))
        secret = hmac.digest(b"WebAppData", bot_token.encode(), "sha256")
        return urlencode({**fields, "hash": hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()})

    return signed


@pytest.fixture
def generous_limits() -> str:
    return GENEROUS_LIMITS


@pytest.fixture
def config(servers: testing.Servers, database_url: str) -> settings.GatewaySettings:
    """Settings of an api process whose broker is a port where nobody listens."""
    return settings.GatewaySettings(
        database_url=database_url,
        amqp_url="amqp://nobody:nothing@127.0.0.1:1/",
        redis_url=servers.redis_url,
        bot_token=BOT_TOKEN,
        session_secret=SESSION_SECRET,
        wait_s=0,
        cors_origins=["https://app.example"],
        rate_limits=GENEROUS_LIMITS,
    )


@pytest.fixture
async def client(service: app.Service, config: settings.GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real application in this process. Nothing listens for wake-ups, so waiting requests poll."""
    process = app.Process(service, "api", config)
    service.roles["api"](process)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=process.http), base_url="http://gateway/api/v1", timeout=30
    ) as opened:
        yield opened
    for close in process.closers:
        await close()


@pytest.fixture
def log_in(sign: Sign) -> LogIn:
    """A function that logs a Telegram account in and returns its request headers."""

    async def logged_in(client: httpx.AsyncClient, telegram_id: int = 42) -> httpx.Headers:
        answer = await client.post("/auth/telegram", json={"init_data": sign(telegram_id)})
        assert answer.status_code == 200, answer.text
        return httpx.Headers({"Authorization": f"Bearer {answer.json()['access_token']}"})

    return logged_in


class Services:
    """The other services: passes their events to the gateway's handlers."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._batch_queues = main.SERVICE.batch_queues
        self._queues = main.SERVICE.queues

    async def publish(self, *events: message.Event, event_id: UUID | None = None) -> None:
        for event in events:
            await self.publish_batch([event], event_id=event_id)
            for queue in self._queues:
                if handle := queue.handlers.get(type(event)):
                    await handle(self._db, testing.delivery_of(event, queue.name, event_id=event_id), event)

    async def publish_batch(self, events: Sequence[message.Event], event_id: UUID | None = None) -> None:
        for queue in self._batch_queues:
            deliveries: list[tuple[inbox.Delivery, Any]] = [
                (testing.delivery_of(event, queue.name, event_id=event_id), event)
                for event in events
                if type(event) in queue.messages
            ]
            if deliveries:
                await queue.handle(self._db, deliveries)


@pytest.fixture
def services(db: database.Database) -> Services:
    return Services(db)


class EventBuilder:
    """Builds events of the other services."""

    def payment(self, kind: type[payments.PaymentEvent], payment_id: str, user_id: str, **more: Any) -> Any:
        by_kind: dict[type[payments.PaymentEvent], dict[str, Any]] = {
            payments.PaymentCreated: {
                "version": 2,
                "confirmation_url": "https://yoomoney.example/pay",
                "expires_at": envelope.now(),
            },
            payments.PaymentFailed: {"version": 2, "code": "provider_refused"},
            payments.PaymentPaid: {"version": 3, **_paid()},
            payments.PaymentPaidLate: {"version": 4, **_paid()},
            payments.PaymentCanceled: {"version": 3, "reason": "expired_on_confirmation"},
            payments.PaymentAuthorized: {"version": 3, "provider_account": "demo", "provider_ref": "2d"},
        }
        common = {
            "tenant": TENANT,
            "payment_id": payment_id,
            "user_id": user_id,
            "purpose": "top_up",
            "provider": "yookassa",
            "amount": rub(150_000),
        }
        return kind(**{**common, **by_kind[kind], **more})

    def refund(
        self, payment_id: str, user_id: str, *, version: int, amount_minor: int, refunded_minor: int, paid_minor: int
    ) -> payments.PaymentRefunded:
        return payments.PaymentRefunded(
            tenant=TENANT,
            payment_id=payments.PaymentId(UUID(payment_id)),
            user_id=message.UserId(UUID(user_id)),
            purpose="top_up",
            provider="yookassa",
            version=version,
            amount=rub(amount_minor),
            refund_id=payments.RefundId(envelope.uuid7()),
            provider_account="demo",
            provider_ref="2d",
            refund_ref="2e",
            captured=rub(paid_minor),
            refunded=rub(refunded_minor),
            is_full=refunded_minor == paid_minor,
            refunded_at=envelope.now(),
        )

    def account(
        self, user_id: str, version: int, balance_minor: int, held_minor: int = 0, *, asset: str = "RUB"
    ) -> ledger.AccountState:
        return ledger.AccountState(
            code=f"user:{user_id}:wallet",
            owner=message.UserId(UUID(user_id)),
            asset=asset,
            balance_minor=balance_minor,
            held_minor=held_minor,
            version=version,
        )

    def transfer(
        self, account: ledger.AccountState, amount_minor: int, reference: str, *, kind: ledger.TransferKind = "top_up"
    ) -> ledger.TransferPosted:
        house = ledger.AccountState(
            code="clearing:yookassa:demo", owner=None, asset=account.asset, balance_minor=-1, held_minor=0, version=7
        )
        return ledger.TransferPosted(
            tenant=TENANT,
            transfer_id=envelope.uuid7(),
            kind=kind,
            reference=reference,
            occurred_at=envelope.now(),
            postings=(
                ledger.PostingLine(account=account, amount_minor=amount_minor, sequence=account.version),
                ledger.PostingLine(account=house, amount_minor=-amount_minor, sequence=7),
            ),
        )

    def hold(
        self, kind: type[ledger.HoldEvent], account: ledger.AccountState, amount_minor: int, reference: str
    ) -> ledger.HoldEvent:
        more: dict[str, Any] = {"expires_at": envelope.now()} if kind is ledger.HoldPlaced else {}
        return kind(
            tenant=TENANT,
            hold_id=envelope.uuid7(),
            reference=reference,
            amount=message.Money(amount_minor=amount_minor, currency="RUB"),
            occurred_at=envelope.now(),
            account=account,
            **more,
        )

    def order(self, kind: type[orders.OrderEvent], order_id: str, user_id: str, **more: Any) -> Any:
        price = message.Money(amount_minor=40_000, currency="RUB")
        line = orders.OrderLine(product_id="mug", title="A mug", quantity=1, unit_price=price)
        by_kind: dict[type[orders.OrderEvent], dict[str, Any]] = {
            orders.OrderPlaced: {"version": 1, "lines": (line,), "total": price},
            orders.OrderPaid: {"version": 2, "lines": (line,), "total": price},
            orders.OrderRefused: {"version": 2, "code": "insufficient_funds", "detail": "Not enough."},
            orders.OrderCanceled: {"version": 2, "code": "deadline_passed", "detail": "Too late."},
        }
        return kind(
            tenant=TENANT,
            order_id=order_id,
            user_id=user_id,
            occurred_at=envelope.now(),
            **{**by_kind[kind], **more},
        )

    def product(self, product_id: str, **more: Any) -> orders.ProductListed:
        return orders.ProductListed(
            **{
                "tenant": TENANT,
                "product_id": product_id,
                "category_id": "kitchen",
                "title": product_id.title(),
                "description": "",
                "price": {"amount_minor": 40_000, "currency": "RUB"},
                "is_visible": True,
                "version": 1,
                **more,
            }
        )


def rub(amount_minor: int) -> message.Money:
    return message.Money(amount_minor=amount_minor, currency="RUB")


def _paid() -> dict[str, Any]:
    return {
        "provider_account": "demo",
        "provider_ref": "2d",
        "paid_at": envelope.now(),
        "accepted_at": envelope.now(),
    }


@pytest.fixture
def build() -> EventBuilder:
    return EventBuilder()


class RedisProxy:
    """A proxy before Redis that can cut connections, and hold back what Redis answers."""

    def __init__(self, redis_url: str) -> None:
        self._to = urlsplit(redis_url)
        self._port = testing.free_port()
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}{self._to.path}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    def hold(self) -> None:
        self._may_answer.clear()

    def resume(self) -> None:
        self._may_answer.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._ends += [writer, to_redis]
        await asyncio.gather(self._forward(reader, to_redis), self._forward(from_redis, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._may_answer.wait()
                writer.write(data)
        writer.close()


@pytest.fixture
async def redis_proxy(servers: testing.Servers) -> AsyncIterator[RedisProxy]:
    proxy = RedisProxy(servers.redis_url)
    await proxy.start()
    yield proxy
    proxy.resume()
    await proxy.cut()
