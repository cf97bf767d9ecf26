"""The continuous check: what it finds, and how metrics and readiness report it until it is repaired."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import builders
import pytest
import sealing
from builders import WALLET
from prometheus_client import REGISTRY

from chassis import database, testing
from ledger import proof


@pytest.fixture
async def books(db: database.Database) -> database.Database:
    """Books with payments, an open hold, and three blocks of the chain."""
    sealer = proof.timers.Sealer(db, seal_after_s=0)
    for count in (3, 2, 1):
        await builders.settle(db, *(builders.paid() for _ in range(count)))
        await sealing.seal_all(sealer)
    await builders.settle(db, builders.place(70))
    return db


@pytest.fixture
async def tamperer(superuser: asyncpg.Connection) -> asyncpg.Connection:
    """The administrator with every trigger disabled."""
    await superuser.execute("SET session_replication_role = replica")
    return superuser


async def red(check: proof.timers.ContinuousCheck) -> set[str]:
    return {name for name in proof.timers.CHECKED if not await check.passes(name)}


async def sweep(check: proof.timers.ContinuousCheck) -> None:
    """Sweep once over everything."""
    await check.tick()
    while check.accounts.after or check.blocks.after:
        await check.tick()


def figure(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"kopilka_ledger_{name}", labels)
    assert value is not None
    return value


VIOLATIONS = [
    (f"UPDATE account SET balance_minor = balance_minor + 7 WHERE code = '{WALLET}'", {"sums", "balances"}),
    (f"UPDATE account SET balance_minor = balance_minor + CASE code WHEN '{WALLET}' THEN 7 ELSE -7 END", {"balances"}),
    (f"UPDATE account SET sequence = 5 WHERE code = '{WALLET}'", {"balances"}),
    (f"UPDATE account SET held_minor = 69 WHERE code = '{WALLET}'", {"holds"}),
    ("UPDATE hold_part SET left_minor = 69", {"holds"}),
    ("DELETE FROM posting WHERE sequence = 5", {"sequences", "chain"}),
    ("DELETE FROM posting WHERE sequence = 1", {"sequences", "chain"}),
    ("DELETE FROM posting WHERE sequence = 6", {"balances", "chain"}),
    ("UPDATE posting SET sequence = -9223372036854775808 WHERE sequence = 1", {"sequences", "chain"}),
    ("UPDATE posting SET amount_minor = 2 * amount_minor WHERE sequence = 2", {"sequences", "chain"}),
    ("UPDATE posting SET balance_after_minor = 1 WHERE sequence = 2", {"sequences", "chain"}),
    ("UPDATE transfer SET reference = 'other' WHERE number = 1", {"chain"}),
    ("UPDATE block SET sealed_at = now() WHERE number = 3", {"chain"}),
    ("UPDATE block SET last_number = 9223372036854775807 WHERE number = 3", {"chain"}),
    ("DELETE FROM block WHERE number = 3", {"chain"}),
    ("DELETE FROM block WHERE number = 2", {"chain"}),
]  # fmt: skip


@pytest.mark.rule("LE19")
async def test_each_violation_is_reported_by_its_name_until_a_whole_sweep_finds_none(
    books: database.Database, tamperer: asyncpg.Connection
) -> None:
    check = proof.timers.ContinuousCheck(books)
    await sweep(check)
    assert await red(check) == set()

    for statement, expected in VIOLATIONS:
        backup = [
            (table, await tamperer.fetch(f"SELECT * FROM {table}"))
            for table in ("account", "posting", "transfer", "hold_part", "block")
        ]
        await tamperer.execute(statement)

        await sweep(check)
        assert await red(check) == expected, statement

        for table, rows in backup:
            await tamperer.execute(f"DELETE FROM {table}")
            await tamperer.copy_records_to_table(table, records=[tuple(row) for row in rows])
        await sweep(check)
        await sweep(check)
        assert await red(check) == set(), statement


async def test_the_range_that_an_edited_block_claims_is_not_read(
    books: database.Database, tamperer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a violation can't be hidden behind a block whose range takes longer to read than a check may last."""
    check = proof.timers.ContinuousCheck(books)
    await tamperer.execute("UPDATE block SET last_number = 9223372036854775807 WHERE number = 1")
    monkeypatch.setattr(proof.verify, "check_range", None)

    await check.tick()

    assert await red(check) == {"chain"}


@pytest.mark.rule("LE19")
async def test_the_metrics_report_a_violation_while_it_lasts(
    books: database.Database, tamperer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.timers, "ACCOUNTS_PER_CHECK", 1)
    check = proof.timers.ContinuousCheck(books)
    await sweep(check)
    succeeded_at, drift = figure("check_last_success_timestamp_seconds"), figure("account_drift_total")
    await tamperer.execute("UPDATE account SET balance_minor = balance_minor + 7 WHERE code = $1", WALLET)

    await sweep(check)
    found = figure("imbalance_units", asset="RUB"), figure("account_drift_total") - drift
    while_broken = figure("check_last_success_timestamp_seconds")
    await tamperer.execute("UPDATE account SET balance_minor = balance_minor - 7 WHERE code = $1", WALLET)
    await sweep(check)
    await sweep(check)

    assert found == (7.0, 1.0)
    assert succeeded_at > 0
    assert while_broken == succeeded_at
    assert figure("imbalance_units", asset="RUB") == 0
    assert figure("check_last_success_timestamp_seconds") > succeeded_at


async def test_a_tick_is_bounded_and_repeated_at_once_only_while_something_is_broken(
    books: database.Database, tamperer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.timers, "ACCOUNTS_PER_CHECK", 1)
    monkeypatch.setattr(proof.timers, "BLOCKS_PER_CHECK", 1)
    check = proof.timers.ContinuousCheck(books)

    sound = [await check.tick() for _ in range(12)]
    await tamperer.execute("UPDATE account SET held_minor = 0 WHERE code = $1", WALLET)
    broken = [await check.tick() for _ in range(12)]

    assert sum(sound) == 0
    assert sum(broken) >= 4  # the middles of the tours
    assert broken.count(0) >= 3  # and their ends


async def test_only_the_newest_postings_of_a_long_account_are_checked(
    books: database.Database, tamperer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.timers, "NEWEST_POSTINGS", 3)
    await tamperer.execute("DELETE FROM block")
    check = proof.timers.ContinuousCheck(books)

    await tamperer.execute("DELETE FROM posting WHERE sequence = 2")
    await sweep(check)
    beyond = await red(check)
    await tamperer.execute("DELETE FROM posting WHERE sequence = 5")
    await sweep(check)

    assert beyond == set()
    assert await red(check) == {"sequences"}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - another process can only be polled
            await asyncio.sleep(0.1)


def readiness(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.rule("LE19")
async def test_the_worker_seals_and_is_ready_again_when_a_violation_is_repaired(
    db: database.Database, processes: testing.Processes, tamperer: asyncpg.Connection
) -> None:
    _, url = processes.ready("ledger", "worker", LEDGER_CHECK_INTERVAL_S="1", LEDGER_SEAL_AFTER_S="0")
    await builders.settle(db, builders.paid())

    async def is_sealed() -> bool:
        return bool(await tamperer.fetchval("SELECT count(*) FROM block"))

    async def is_red() -> bool:
        return readiness(url)[0] == 503

    async def is_green() -> bool:
        return readiness(url)[0] == 200

    await until(is_sealed)
    assert await is_green()
    await tamperer.execute("UPDATE transfer SET reference = 'other'")
    await until(is_red)
    checks = readiness(url)[1]["checks"]
    await tamperer.execute("UPDATE transfer SET reference = source_key")
    await until(is_green)

    assert {name for name, state in checks.items() if state != "ok"} == {"books chain"}
    assert "ledger.check.broken" in processes.output()
