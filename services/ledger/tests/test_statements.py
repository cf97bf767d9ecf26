"""Statements on a real database: pages that agree, ranges of time, one order or payment, exports."""

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import asyncpg
import builders
import histories
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis import database, operations, testing
from ledger import commit, handlers, history, main
from ledger.domain import chart

EACH_IS_ITS_OWN = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # every example has accounts of its own, so the shared database does no harm


async def pages(
    db: database.Database, statement: history.domain.Statement, *, reference: str | None = None
) -> list[history.domain.StatementLine]:
    """Read all pages of a statement, seven lines each."""
    found: list[history.domain.StatementLine] = []
    while more := await history.operations.page(
        db, statement, before=found[-1].sequence if found else None, reference=reference, limit=7
    ):
        found += more
    return found


@pytest.mark.rule("LE13")
async def test_pages_agree_whatever_is_posted_between_them(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    await histories.post(db, *(histories.grant(number) for number in range(1, 31)))
    is_over = asyncio.Event()

    async def write() -> None:
        while not is_over.is_set():
            await group.execute(histories.grant(1_000))

    writers = [asyncio.create_task(write()) for _ in range(3)]
    statement = await history.operations.statement_of(db, histories.WALLET)
    found = await pages(db, statement)
    is_over.set()
    await asyncio.gather(*writers)

    assert [line.sequence for line in found] == list(range(statement.last, 0, -1))
    assert statement.opening.balance_minor + sum(line.amount_minor for line in found) == statement.closing.balance_minor
    assert found[0].balance_after_minor == statement.closing.balance_minor
    assert (await history.operations.statement_of(db, histories.WALLET)).last > statement.last


@pytest.mark.rule("LE13")
@EACH_IS_ITS_OWN
@given(seed=st.integers(0, 2**32), size=st.integers(0, 60))
async def test_a_range_of_time_has_the_lines_and_balances_of_a_plain_list(
    db: database.Database, superuser: asyncpg.Connection, seed: int, size: int
) -> None:
    history_entries = histories.random_history(seed, size)
    wallet = await histories.insert(superuser, history_entries)
    times = sorted(histories.moments(seed, history_entries))

    for begin, end in zip(times, times[3:], strict=False):
        statement = await history.operations.statement_of(db, wallet, begin=begin, end=end)
        expected = [each for each in history_entries if begin <= each.recorded_at < end]
        found = await pages(db, statement)
        assert [line.amount_minor for line in reversed(found)] == [each.amount_minor for each in expected]
        assert statement.opening.balance_minor == histories.recorded(history_entries, begin - history.domain.TICK)
        assert statement.closing.balance_minor == statement.opening.balance_minor + sum(
            each.amount_minor for each in expected
        )


async def test_a_range_that_ends_before_it_begins_is_empty(db: database.Database) -> None:
    await histories.post(db, histories.grant(1), histories.grant(2))
    now = await histories.database_time(db)

    statement = await history.operations.statement_of(db, histories.WALLET, begin=now, end=now - timedelta(days=1))

    assert await history.operations.page(db, statement) == []
    assert statement.opening.balance_minor == statement.closing.balance_minor


@pytest.mark.rule("LE13")
async def test_a_statement_of_one_order_or_payment_has_its_lines_only(db: database.Database) -> None:
    payment = builders.paid(500)
    await handlers.settle(db, [(testing.delivery_of(payment, "ledger.payments"), payment)])
    hold = builders.place(80, reference="order:7")
    await histories.post(
        db,
        histories.grant(1, reference="order:8"),
        hold,
        builders.capture(hold, 30, part=1, keeps=True),
        histories.grant(2, reference="order:8"),
        builders.capture(hold, 50, part=2),
    )
    statement = await history.operations.statement_of(db, histories.WALLET)

    by_payment = await pages(db, statement, reference=f"payment:{payment.payment_id}")
    by_order = await pages(db, statement, reference="order:7")

    assert [(line.kind, line.amount_minor) for line in by_payment] == [("top_up", 500)]
    assert [(line.kind, line.amount_minor) for line in by_order] == [("capture", -50), ("capture", -30)]
    assert [line.balance_after_minor for line in by_order] == [423, 471]
    assert await pages(db, statement, reference="order:9") == []
    revenue = await history.operations.statement_of(db, chart.system_account(builders.DEMO, "revenue", "RUB").name)
    assert await pages(db, revenue, reference="order:8") == []


@pytest.mark.rule("LE13")
async def test_lines_of_a_reference_are_found_without_reading_the_account(
    superuser: asyncpg.Connection, role: asyncpg.Connection, db: database.Database
) -> None:
    history_entries = [
        each._replace(reference=f"order:{number // 3}")
        for number, each in enumerate(histories.random_history(3, 12_000))
    ]
    # Rows that earlier tests left deleted would shift the ranges, and the three transfers could lie in two of them.
    await superuser.execute("SET session_replication_role = replica; TRUNCATE posting; RESET session_replication_role")
    wallet = await histories.insert(superuser, history_entries)
    await superuser.execute("SELECT summarize_ranges()")
    statement = await history.operations.statement_of(db, wallet)

    async with role.transaction():
        found = await history.store.lines(
            database.Tx(role), statement, "order:500", first=statement.first, last=statement.last, transfers_max=10
        )
        read = await histories.postings_read(role)

    assert [line.sequence for line in found] == [1_501, 1_502, 1_503]
    assert [line.amount_minor for line in found] == [each.amount_minor for each in history_entries[1_500:1_503]]
    assert 0 < read < 3 * 16 * 100  # three transfers, each in one range of pages


async def test_a_reference_of_too_many_transfers_is_refused(
    db: database.Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.operations, "TRANSFERS_MAX", 10)
    wallet = await histories.insert(superuser, histories.random_history(3, 11))

    with pytest.raises(history.domain.ReferenceTooBroad):
        await history.operations.page(db, await history.operations.statement_of(db, wallet), reference="order:1")


@pytest.mark.rule("LE13")
async def test_an_export_has_every_line_between_the_opening_and_the_closing_balance(
    db: database.Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.operations, "PAGE_MAX", 10)
    history_entries = histories.random_history(5, 35)
    wallet = await histories.insert(superuser, history_entries)
    statement = await history.operations.statement_of(db, wallet, begin=history_entries[9].recorded_at)
    file = io.StringIO()

    count = await history.operations.write_csv(db, statement, file)

    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    expected = history_entries[statement.first - 1 :]
    assert count == len(expected)
    assert [int(row["amount_minor"]) for row in rows[1:-1]] == [each.amount_minor for each in expected]
    assert [row["occurred_at"] for row in rows[1:-1]] == [each.occurred_at.isoformat() for each in expected]
    assert (rows[0]["kind"], int(rows[0]["balance_after_minor"])) == (
        "opening_balance",
        statement.opening.balance_minor,
    )
    assert (rows[-1]["kind"], int(rows[-1]["balance_after_minor"])) == (
        "closing_balance",
        statement.closing.balance_minor,
    )


async def test_an_export_holds_a_page_in_memory_and_no_transaction_open(
    db: database.Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.operations, "PAGE_MAX", 10)
    wallet = await histories.insert(superuser, histories.random_history(5, 35))
    sizes: list[int] = []
    read = history.store.lines

    async def counted(*args: object, **kwargs: object) -> Sequence[history.domain.StatementLine]:
        found = await read(*args, **kwargs)  # type: ignore[arg-type]
        sizes.append(len(found))
        return found

    monkeypatch.setattr(history.store, "lines", counted)
    open_transactions = [
        await superuser.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND xact_start IS NOT NULL"
        )
        async for _ in history.operations.lines(db, await history.operations.statement_of(db, wallet))
    ]

    assert sizes == [10, 10, 10, 5]
    assert set(open_transactions) == {0}


@pytest.mark.rule("LE13")
@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
async def test_a_reference_is_never_a_formula_in_an_export(
    db: database.Database, superuser: asyncpg.Connection, text: str
) -> None:
    wallet = await histories.insert(
        superuser, [histories.random_history(1, 1)[0]._replace(reference=text, amount_minor=-5)]
    )
    file = io.StringIO()

    await history.operations.write_csv(db, await history.operations.statement_of(db, wallet), file)

    _, row, _ = csv.DictReader(io.StringIO(file.getvalue()))
    assert row["reference"] == f"'{text}"
    assert (row["amount_minor"], row["amount"]) == ("-5", "-0.05")


@pytest.mark.parametrize(
    ("amount_minor", "exponent", "text"),
    [
        (0, 0, "0"),
        (0, 2, "0.00"),
        (-5, 2, "-0.05"),
        (1_250, 2, "12.50"),
        (7, 0, "7"),
        (-1_000_000_001, 9, "-1.000000001"),
        (2**63 - 1, 18, "9.223372036854775807"),
    ],
)
def test_amounts_are_written_with_the_decimals_of_their_asset(amount_minor: int, exponent: int, text: str) -> None:
    assert chart.decimal_of(amount_minor, exponent) == text


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, database_url: str, amqp_url: str) -> None:
    """The environment of an operator's command line."""
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", amqp_url)


async def run(command: str, *arguments: str) -> int:
    return await operations.run(main.SERVICE, command, arguments)


@pytest.mark.rule("LE13")
async def test_an_operator_reads_and_exports_a_statement(
    db: database.Database, operator: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await histories.post(db, histories.grant(100, reference="order:1"), histories.grant(20, reference="order:2"))
    file = tmp_path / "statement.csv"

    codes = [
        await run("statement", histories.WALLET.code, "RUB", "--limit", "1"),
        await run("statement", histories.WALLET.code, "RUB", "--reference", "order:1", "--csv", "-"),
        await run("statement", histories.WALLET.code, "RUB", "--csv", str(file)),
        await run("statement", "user:nobody:wallet", "RUB"),
    ]

    printed = capsys.readouterr()
    assert codes == [0, 0, 0, 1]
    assert printed.out.splitlines()[1] == "closing balance 1.20"
    assert printed.out.splitlines()[2].split()[-1] == "order:2"
    assert printed.out.splitlines()[3] == "opening balance 0.00"
    assert printed.out.count("order:1") == 1
    assert len(file.read_text().splitlines()) == 5
    assert "unknown_account" in printed.err
