"""A pre-checkout query while the database does not respond: a refusal, in the time that Telegram gives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from providers import adapters, stars_adapter
from sqlalchemy.engine import make_url

import contracts.payments
from chassis import database, testing
from payments.webhooks.domain import pre_checkout

TELEGRAM_WAITS_S = 10


@pytest.fixture
def open_shop(db: database.Database, new_shop: Any, command: contracts.payments.CreatePayment) -> Callable[..., Any]:
    def opened(provider: adapters.Adapter) -> Any:
        client = provider.client()
        asked = command.model_copy(update={"provider": provider.name, "amount": provider.amount})
        return new_shop(db, client, asked), client

    return opened


@contextlib.asynccontextmanager
async def locked(servers: testing.Servers, name: str, db: database.Database) -> AsyncIterator[None]:
    """Lock the payments against every reader, as a migration that hangs would."""
    connection = await asyncpg.connect(servers.database(name))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE payments.payment IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def asleep(servers: testing.Servers, name: str, db: database.Database) -> AsyncIterator[None]:
    """Keep every connection of the service busy with statements that take a minute."""

    async def sleep() -> None:
        with contextlib.suppress(asyncpg.PostgresError):
            async with db.statement() as tx:
                await tx.execute("SELECT pg_sleep(60)")

    sleeping = [asyncio.create_task(sleep()) for _ in range(8)]
    connection = await asyncpg.connect(servers.database(name))
    try:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query = 'SELECT pg_sleep(60)'"
        async with asyncio.timeout(10):
            while await connection.fetchval(query, name) < len(sleeping):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
        yield
        stop = query.replace("count(*)", "pg_cancel_backend(pid)")
        await connection.fetch(stop, name)
        await asyncio.gather(*sleeping)
    finally:
        await connection.close()


class Line:
    """A line to the database that can go dead: nothing comes through, and nobody says that it is broken."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._pipes: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes from either side."""
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pipes.add(asyncio.create_task(self._pass_on(source, sink)))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self.is_open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    @contextlib.asynccontextmanager
    async def database(self, url: str) -> AsyncIterator[database.Database]:
        """Give the database at the other end of the line."""
        parts = make_url(url)
        self.host, self.port = parts.host or "127.0.0.1", parts.port or 5432
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        near = parts.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        far = database.Database(near.render_as_string(hide_password=False), schema="payments", pool_size=2)
        yield far
        self.is_open.set()
        await far.close()
        server.close()
        for pipe in self._pipes:
            pipe.cancel()


@pytest.mark.rule("PA18")
@pytest.mark.parametrize("provider", [stars_adapter.Adapter], indirect=True)
@pytest.mark.parametrize("slow", [locked, asleep])
async def test_a_pre_checkout_is_refused_in_time_while_the_database_does_not_answer(
    provider: stars_adapter.Adapter,
    open_shop: Callable[..., Any],
    servers: testing.Servers,
    database_name: str,
    slow: Callable[..., Any],
) -> None:
    shop, client = open_shop(provider)
    command = await shop.request(amount=provider.amount)
    await shop.send_attempts()
    row = await shop.payment(command.payment_id)
    await provider.listen(client)
    await provider.harness.act(row["confirmation_url"].rpartition("/")[2], "pay", user_id=stars_adapter.PAYER)
    asked = provider.webhooks()[-1]
    headers = {"x_telegram_bot_api_secret_token": asked.headers["x-telegram-bot-api-secret-token"]}

    async with slow(servers, database_name, shop.db), asyncio.timeout(TELEGRAM_WAITS_S):
        (answer,) = await shop.post("/webhooks/stars/demo", asked.body, **headers)

    assert answer.status_code == 200
    await was_refused(provider)
    assert (await shop.payment(command.payment_id))["state"] == "pending"


@pytest.mark.rule("PA18")
@pytest.mark.parametrize("provider", [stars_adapter.Adapter], indirect=True)
async def test_a_pre_checkout_is_refused_in_time_over_a_dead_database_connection(
    provider: stars_adapter.Adapter, open_shop: Callable[..., Any], database_url: str
) -> None:
    shop, client = open_shop(provider)
    command = await shop.request(amount=provider.amount)
    await shop.send_attempts()
    link = (await shop.payment(command.payment_id))["confirmation_url"]
    await provider.listen(client)
    await provider.harness.act(link.rpartition("/")[2], "pay", user_id=stars_adapter.PAYER)
    asked, line = provider.webhooks()[-1], Line()
    headers = {"x_telegram_bot_api_secret_token": asked.headers["x-telegram-bot-api-secret-token"]}

    async with line.database(database_url) as far:
        here, shop.db = shop.db, far
        shop.restart()
        async with far.statement() as tx:
            await tx.execute("SELECT 1")
        line.is_open.clear()
        async with asyncio.timeout(TELEGRAM_WAITS_S):
            (answer,) = await shop.post("/webhooks/stars/demo", asked.body, **headers)
        shop.db = here

    assert answer.status_code == 200
    await was_refused(provider)


async def was_refused(provider: stars_adapter.Adapter) -> None:
    # Telegram took the answer, which it does within ten seconds only, and took no Stars.
    (answered,) = [
        one for one in await provider.harness.requests("telegram") if "answerPreCheckoutQuery" in one["path"]
    ]
    shown = await provider.harness.control("GET", "/payments?provider=telegram&limit=10")
    assert answered["status"] == 200
    assert pre_checkout.SLOW in str(shown)
    assert not any(b"successful_payment" in webhook.body for webhook in provider.webhooks())
