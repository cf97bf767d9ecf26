"""The import of an older system's wallet table: each row once, whatever happens between two runs."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import database, errors, operations
from contracts import assets, ledger
from contracts.message import AMOUNT_MINOR_MAX, UserId
from ledger import commit, history, imports, main
from ledger.domain import chart

SHOP = imports.domain.make_source("demo", "RUB", "oldshop")
ANNA, BORIS = UUID(int=11), UUID(int=12)
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def wallet(user: str | UUID, *, source: imports.domain.Source = SHOP) -> str:
    return chart.user_account(source.tenant, imports.domain.user_id_of(source, str(user)), source.asset).name.code


async def import_file(
    db: database.Database, text: str, *, source: imports.domain.Source = SHOP, is_dry_run: bool = False
) -> tuple[imports.operations.ImportReport, list[tuple[int, str]]]:
    """Import a table; returns the report, and the refused lines with their codes."""
    refused: list[tuple[int, str]] = []

    def on_refusal(line: int, refusal: errors.Refusal) -> None:
        refused.append((line, refusal.code))

    return await imports.operations.import_file(
        db, source, io.StringIO(text), on_refusal, is_dry_run=is_dry_run
    ), refused


@pytest.mark.rule("LE20")
async def test_each_row_becomes_an_opening_transfer_against_the_account_of_its_source(db: database.Database) -> None:
    report, refused = await import_file(db, f"user_id,balance\n{ANNA},12.50\n{BORIS},3\n")

    assert (report.imported, report.imported_minor, refused) == (2, 1_550, [])
    assert await builders.balance_and_held(db, wallet(ANNA)) == (1_250, 0)
    assert await builders.balance_and_held(db, wallet(BORIS)) == (300, 0)
    assert await builders.balance_and_held(db, "opening:oldshop") == (-1_550, 0)
    statement = await history.operations.statement_of(db, chart.user_account(SHOP.tenant, UserId(ANNA), "RUB").name)
    (line,) = await history.operations.page(db, statement, reference=f"import:oldshop:RUB:{ANNA}")
    assert (line.kind, line.amount_minor) == ("opening", 1_250)


@pytest.mark.rule("LE20")
async def test_the_same_table_again_changes_nothing_and_a_changed_row_is_a_conflict(db: database.Database) -> None:
    table = f"user_id,balance_minor\n{ANNA},1250\n{BORIS},300\n"
    await import_file(db, table)

    again, refused_again = await import_file(db, table)
    changed, refused = await import_file(db, table.replace("1250", "1251"))

    assert (again.imported, again.existing, again.existing_minor, refused_again) == (0, 2, 1_550, [])
    assert (changed.imported, changed.existing, refused) == (0, 1, [(2, "changed_row")])
    assert await builders.balance_and_held(db, wallet(ANNA)) == (1_250, 0)


@pytest.mark.rule("LE20")
async def test_a_table_imported_by_two_processes_at_once_is_imported_once(db: database.Database) -> None:
    table = "user_id,balance\n" + "".join(f"{number},1.00\n" for number in range(1, 1_301))

    reports = await asyncio.gather(import_file(db, table), import_file(db, table))

    assert sum(report.imported for report, _ in reports) == 1_300
    assert sum(report.existing for report, _ in reports) == 1_300
    assert await builders.balance_and_held(db, "opening:oldshop") == (-130_000, 0)


@pytest.mark.rule("LE20")
async def test_an_interrupted_import_is_finished_by_the_next(
    db: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports.operations, "ROWS_AT_ONCE", 10)
    table = "user_id,balance\n" + "".join(f"{number},1.00\n" for number in range(1, 26))

    with pytest.raises(imports.domain.BadFile):
        await import_file(db, table.replace("\n15,", '\n"15"x,'))
    report, _ = await import_file(db, table)

    assert (report.existing, report.imported) == (10, 15)


async def test_invalid_rows_are_refused_with_their_lines_and_do_not_affect_others(
    db: database.Database,
) -> None:
    table = "\n".join(
        [
            "user_id;balance;reference",
            "1;10.00;w-1",
            ";10.00;w-2",
            "3;ten;w-3",
            "4;1,5;w-4",
            "5;10.001;w-5",
            "6;-0.01;w-6",
            "7;92233720368547758.08;w-7",
            "8;1;w-8;what is this",
            "9;1;\x00",
            f"10;1;{'w' * 128}",
            "",
            '"11";"10.500"',
            "12;0.00;w-12",
            "13;92233720368547758.07;w-13",
        ]
    )

    report, refused = await import_file(db, table)

    assert refused == [
        (3, "bad_row"),
        (4, "bad_row"),
        (5, "bad_row"),
        (6, "bad_row"),
        (7, "negative_balance"),
        (8, "bad_row"),
        (9, "bad_row"),
        (10, "bad_row"),
        (11, "bad_row"),
        (15, "refused_row"),
    ]
    assert (report.imported, report.imported_minor, report.empty, report.refused) == (2, 2_050, 1, 10)
    assert await builders.balance_and_held(db, wallet("11")) == (1_050, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user_id\n1\n",
        "balance\n1\n",
        "user_id,balance,balance_minor\n1,1,100\n",
        "user_id,balance,phone\n1,1,7\n",
        "user_id,balance,balance\n1,1,1\n",
        'user_id,balance\n1,"1\n',
    ],
)
async def test_a_file_that_is_not_a_wallet_table_is_refused(db: database.Database, text: str) -> None:
    with pytest.raises(imports.domain.BadFile):
        await import_file(db, text)


@pytest.mark.rule("LE20")
async def test_a_dry_run_of_an_import_reports_the_same_and_writes_nothing(db: database.Database) -> None:
    await import_file(db, f"user_id,balance\n{ANNA},1.00\n")
    table = f"user_id,balance\n{ANNA},2.00\n{BORIS},3.00\n5,-1\n"
    before = await written(db)

    dry = await import_file(db, table, is_dry_run=True)

    assert await written(db) == before
    assert dry == await import_file(db, table)


async def written(db: database.Database) -> list[tuple[object, ...]]:
    """Count the rows of the tables that an import writes."""
    return [
        (await builders.rows(db, f"SELECT count(*) FROM {table}"))[0]
        for table in ("account", "transfer", "posting", "request", "outbox", "inbox")
    ]


async def test_several_wallets_of_one_user_are_imported_by_their_references(db: database.Database) -> None:
    table = "user_id,balance,reference\n7,1.00,main\n7,2.00,bonus\n"

    report, _ = await import_file(db, table)
    again, _ = await import_file(db, table)

    assert (report.imported, again.existing) == (2, 2)
    assert await builders.balance_and_held(db, wallet("7")) == (300, 0)


async def test_points_keep_their_expiry_date(db: database.Database) -> None:
    source = imports.domain.make_source("demo", "PTS", "oldshop")

    await import_file(db, "user_id,balance,expires_at\n7,1.00,2099-12-31\n8,2.00,\n9,1.00,soon\n", source=source)

    expiries = await builders.rows(db, "SELECT left_minor, expires_at::date::text FROM lot ORDER BY left_minor")
    assert expiries == [(100, "2099-12-31"), (200, None)]


async def test_money_with_an_expiry_date_is_refused(db: database.Database) -> None:
    _, refused = await import_file(db, "user_id,balance,expires_at\n7,1.00,2099-12-31\n")

    assert refused == [(2, "bad_row")]


async def test_equal_rows_of_other_sources_and_assets_are_imported_too(db: database.Database) -> None:
    table = "user_id,balance\n7,1.00\n"
    others = [("demo", "USD", "oldshop"), ("demo", "RUB", "forum"), ("other", "RUB", "oldshop")]
    sources = [SHOP, *(imports.domain.make_source(*names) for names in others)]

    reports = [await import_file(db, table, source=source) for source in sources]

    assert [report.imported for report, _ in reports] == [1, 1, 1, 1]


@pytest.mark.parametrize(("name", "asset"), [("", "RUB"), ("Old Shop", "RUB"), ("a" * 33, "RUB"), ("shop", "XXX")])
def test_a_source_has_a_plain_name_and_a_known_asset(name: str, asset: str) -> None:
    with pytest.raises(errors.Refusal):
        imports.domain.make_source("demo", asset, name)


def test_a_user_is_the_same_in_every_table_of_a_source_and_another_in_every_other() -> None:
    others = [imports.domain.make_source("demo", "RUB", "forum"), imports.domain.make_source("other", "RUB", "oldshop")]

    assert imports.domain.user_id_of(SHOP, "7") == imports.domain.user_id_of(
        imports.domain.make_source("demo", "USD", "oldshop"), "7"
    )
    assert len({imports.domain.user_id_of(source, "7") for source in (SHOP, *others)}) == 3
    assert imports.domain.user_id_of(SHOP, str(ANNA).upper()) == ANNA
    assert imports.domain.user_id_of(SHOP, ANNA.hex) != ANNA


# actualbudget/actual#5627
async def test_a_user_and_a_reference_of_one_name_are_two_rows(db: database.Database) -> None:
    report, refused = await import_file(db, "user_id,balance,reference\n5,1.00,7\n7,2.00,\n")

    assert (report.imported, refused) == (2, [])


async def test_a_row_that_has_expired_is_refused_in_words(db: database.Database) -> None:
    source = imports.domain.make_source("demo", "PTS", "oldshop")
    rows = ("7,1,2020-01-01", "8,1,0001-01-01T00:00:00+01:00", "9,1,9999-12-31T23:59:59-01:00", "10,1,2099-01-01")

    report, refused = await import_file(db, "user_id,balance,expires_at\n" + "\n".join(rows), source=source)

    assert refused == [(2, "bad_row"), (3, "bad_row"), (4, "bad_row")]
    assert report.imported == 1


@given(amount_minor=st.integers(1, AMOUNT_MINOR_MAX), asset=st.sampled_from(["RUB", "JPY", "TON", "BTC", "PTS"]))
def test_a_balance_is_parsed_to_the_last_unit(amount_minor: int, asset: str) -> None:
    source = imports.domain.make_source("demo", asset, "oldshop")
    written = chart.decimal_of(amount_minor, assets.ASSETS[asset].exponent)

    row = imports.domain.parse_row(source, 2, {"user_id": "7", "balance": written}, now=NOW)
    other = imports.domain.parse_row(source, 2, {"user_id": "7", "balance_minor": str(amount_minor)}, now=NOW)

    assert row is not None
    assert row == other
    assert row.amount_minor == amount_minor
    assert sum(leg.amount_minor for leg in row.command.transfers[0].legs) == 0


async def test_a_row_that_was_refused_is_refused_again(db: database.Database) -> None:
    table = "user_id,balance\n7,1.00\n"
    await import_file(db, table.replace("7", "8"))
    await builders.answer_to(db, builders.account_command(ledger.CloseAccount, wallet("7")))

    first, second = [await import_file(db, table) for _ in range(2)]

    assert first == second
    assert first[1] == [(2, "refused_row")]


async def test_a_file_is_read_as_it_is_imported(db: database.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports.operations, "ROWS_AT_ONCE", 10)
    file = io.StringIO("user_id,balance\n" + "".join(f"{number},1.00\n" for number in range(1, 101)))
    places: list[int] = []
    execute = commit.GroupCommit.execute

    async def noted(self: commit.GroupCommit, command: ledger.LedgerCommand) -> object:
        places.append(file.tell())
        return await execute(self, command)

    monkeypatch.setattr(commit.GroupCommit, "execute", noted)
    await imports.operations.import_file(db, SHOP, file, lambda *_: None)

    assert len(places) == 100
    assert places == sorted(places)
    assert len(set(places)) == 10


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, database_url: str, amqp_url: str) -> None:
    """The environment of an operator's command line."""
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", amqp_url)


async def run(*arguments: str) -> int:
    return await operations.run(main.SERVICE, "import", arguments)


@pytest.mark.rule("LE20")
async def test_an_operator_imports_a_file_and_gets_a_report(
    operator: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "wallets.csv"
    file.write_text("user_id,balance\n7,12.50\n8,-1\n9,0\n", encoding="utf-8-sig")
    options: Sequence[str] = (str(file), "--tenant", "demo", "--asset", "RUB", "--source", "oldshop")

    codes = [await run(*options, "--dry-run"), await run(*options)]
    wrong = [
        await run(*options[:-1], "Old Shop"),
        await run(*options, "--tenant", ""),
        await run(str(tmp_path / "gone.csv"), *options[1:]),
    ]

    printed = capsys.readouterr()
    assert (codes, wrong) == ([1, 1], [1, 1, 2])
    assert printed.out.splitlines() == [
        f"line 3: negative_balance: {imports.domain.NegativeBalance().detail}",
        "to be imported: 1 rows, 12.50 RUB",
        "already there: 0 rows, 0.00 RUB",
        "empty: 1 rows",
        "refused: 1 rows",
        "total: 3 rows",
        f"line 3: negative_balance: {imports.domain.NegativeBalance().detail}",
        "imported: 1 rows, 12.50 RUB",
        "already there: 0 rows, 0.00 RUB",
        "empty: 1 rows",
        "refused: 1 rows",
        "total: 3 rows",
    ]
    assert [line.partition(":")[0] for line in printed.err.splitlines()] == [
        "bad_file",
        "bad_file",
        "FileNotFoundError",
    ]
