"""Time's work on a real database: holds end by its clock, and the continuous check sees a breach."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from chassis import database, envelope, testing
from contracts import ledger
from contracts.message import Money, TenantId, UserId
from ledger import handlers, store, timers, verify
from ledger.domain import books

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))
WALLET = books.wallet(DEMO, USER, "RUB")
CLEARING = books.clearing(DEMO, "yookassa", "demo", "RUB")


@pytest.fixture
async def funded(db: database.Database) -> database.Database:
    """Books on which one user has 100,000."""
    transfer = books.Transfer(
        ledger.TransferId(envelope.uuid7()), DEMO, "top_up", "payment:1", "payment:1", envelope.now(), uuid4()
    )
    async with db.transaction() as tx:
        await store.add_transfers(tx, [transfer])
        book = await store.open_books(tx, [CLEARING, WALLET])
        book.post(transfer, (books.Leg(CLEARING.name, -100_000), books.Leg(WALLET.name, 100_000)))
        await store.close_books(tx, book)
    return db


async def hold(db: database.Database, administrator: asyncpg.Connection, *, is_due: bool) -> ledger.HoldId:
    command = ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(uuid4()),
        user_id=USER,
        amount=Money(amount_minor=75, currency="RUB"),
        reference="order:1",
        expires_at=envelope.now() + timedelta(minutes=15),
    )
    await handlers.place_hold(db, testing.delivery_of(command, "ledger.commands"), command)
    if is_due:
        await administrator.execute("UPDATE hold SET expires_at = now() WHERE id = $1", command.hold_id)
    return command.hold_id


async def held(db: database.Database) -> int:
    async with db.transaction() as tx:
        minor: int = await (await database.driver(tx)).fetchval("SELECT sum(held_minor)::bigint FROM account")
    return minor


@pytest.fixture
async def administrator(servers: testing.Servers, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.database(database_name), server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


@pytest.mark.rule("LE6")
async def test_a_hold_whose_time_is_over_is_given_back_and_a_running_one_is_not(
    funded: database.Database, administrator: asyncpg.Connection
) -> None:
    due, running = [await hold(funded, administrator, is_due=is_due) for is_due in (True, False)]

    done = await timers.expire_holds(funded)

    event_type, body = (await testing.said(funded))[-1]
    assert (done, event_type, body["hold_id"]) == (1, "ledger.hold.expired.v1", str(due))
    assert await held(funded) == 75
    assert due != running
    assert (await verify.prove(funded)).is_sound


@pytest.mark.rule("W2")
async def test_capture_after_expiry_is_refused(funded: database.Database, administrator: asyncpg.Connection) -> None:
    hold_id = await hold(funded, administrator, is_due=True)
    await timers.expire_holds(funded)
    command = ledger.CaptureHold(tenant=DEMO, hold_id=hold_id, amount_minor=75)

    await handlers.capture_hold(funded, testing.delivery_of(command, "ledger.commands"), command)

    event_type, body = (await testing.said(funded))[-1]
    assert (event_type, body["code"]) == ("ledger.hold.capture_refused.v1", "hold_ended")


async def test_timers_of_several_workers_end_each_hold_once(
    funded: database.Database, administrator: asyncpg.Connection
) -> None:
    for _ in range(20):
        await hold(funded, administrator, is_due=True)

    done = await asyncio.gather(*(timers.expire_holds(funded) for _ in range(4)))

    said = [event_type for event_type, _ in await testing.said(funded)]
    assert sum(done) == said.count("ledger.hold.expired.v1") == 20
    assert await held(funded) == 0


async def test_a_sweep_is_bounded(
    funded: database.Database, administrator: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "EXPIRE_MAX", 2)
    for _ in range(3):
        await hold(funded, administrator, is_due=True)

    assert [await timers.expire_holds(funded) for _ in range(3)] == [2, 1, 0]


@pytest.mark.rule("LE19")
async def test_the_continuous_check_tells_when_books_are_sound_and_when_they_are_not(
    funded: database.Database, administrator: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "ACCOUNTS_PER_CHECK", 1)
    check = timers.ContinuousCheck(funded)
    await check.tick()
    succeeded_at, drift = figure("check_last_success_timestamp_seconds"), figure("account_drift_total")
    await administrator.execute(
        "SET session_replication_role = replica; UPDATE account SET balance_minor = 7 WHERE owner IS NOT NULL"
    )

    for _ in range(3):
        await check.tick()

    assert succeeded_at > 0
    assert figure("check_last_success_timestamp_seconds") == succeeded_at
    assert figure("account_drift_total") == drift + 1
    assert figure("imbalance_units", asset="RUB") == 7 - 100_000


def figure(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"kopilka_ledger_{name}", labels)
    assert value is not None
    return value
