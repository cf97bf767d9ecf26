"""The command line of the books."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis import database, operations
from ledger import main

USER = UUID(int=1)
WALLET = f"user:{USER}:wallet"

Type = Callable[..., Awaitable[tuple[int, dict[str, object]]]]


@pytest.fixture
def typed(
    db: database.Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Type:
    """Return a function that runs a command and returns its exit code and output."""
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://not-used/")

    async def run(name: str, *arguments: str) -> tuple[int, dict[str, object]]:
        try:
            code = await operations.run(main.SERVICE, name, arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else {"error": printed.err}

    return run


@pytest.fixture
def gift(tmp_path: Path) -> str:
    """A file with a grant of 500 to a user."""
    legs = [
        {"account": "promotion", "asset": "RUB", "amount_minor": -500},
        {"account": WALLET, "asset": "RUB", "amount_minor": 500},
    ]
    file = tmp_path / "gift.json"
    file.write_text(json.dumps({"transfers": [{"kind": "grant", "reference": "welcome", "legs": legs}]}))
    return str(file)


def change(file: str, how: Callable[[Any], None]) -> None:
    content = json.loads(Path(file).read_text())
    how(content)
    Path(file).write_text(json.dumps(content))


async def balance(db: database.Database) -> int | None:
    async with db.transaction() as tx:
        found: int | None = await tx.fetchval("SELECT balance_minor FROM account WHERE owner = $1", USER)
    return found


async def test_a_file_is_posted_once_under_its_request_id(db: database.Database, typed: Type, gift: str) -> None:
    first = await typed("post", gift, "--request-id", "gift-1")
    again = await typed("post", gift, "--request-id", "gift-1")

    assert first[0] == again[0] == 0
    assert first[1]["transfer_ids"] == again[1]["transfer_ids"]
    assert (first[1]["is_replayed"], again[1]["is_replayed"]) == (False, True)
    assert await balance(db) == 500


async def test_a_dry_run_of_a_file_prints_the_outcome_and_posts_nothing(
    db: database.Database, typed: Type, gift: str
) -> None:
    code, answer = await typed("post", gift, "--dry-run")

    assert code == 0
    assert len(answer["transfer_ids"]) == 1  # type: ignore[arg-type]
    assert await balance(db) is None


async def test_a_file_that_is_not_a_group_of_transfers_is_refused_with_the_reason(
    typed: Type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nonsense.json"
    file.write_text('{"transfers": [{"kind": "gift"}]}')

    code, answer = await typed("post", str(file))

    assert code == 2
    assert "transfers.0.reference: Field required" in str(answer["error"])


# getlago/lago-api#5870, LerianStudio/midaz#1974
async def test_the_fields_of_a_file_count_and_a_contradiction_is_refused(
    db: database.Database, typed: Type, gift: str
) -> None:
    change(gift, lambda content: content.update(tenant="another", request_id="gift-7"))

    first, again = await typed("post", gift), await typed("post", gift)
    same = await typed("post", gift, "--tenant", "another", "--request-id", "gift-7")
    other_tenant = await typed("post", gift, "--tenant", "demo")
    other_id = await typed("post", gift, "--request-id", "gift-8")

    assert [code for code, _ in (first, again, same, other_tenant, other_id)] == [0, 0, 0, 2, 2]
    assert (again[1]["is_replayed"], same[1]["is_replayed"]) == (True, True)
    assert other_tenant[1]["error"] == "--tenant contradicts the file\n"
    assert other_id[1]["error"] == "--request-id contradicts the file\n"
    async with db.transaction() as tx:
        assert await tx.fetchval("SELECT array_agg(DISTINCT tenant) FROM account") == ["another"]


# lone surrogates, NULs and the ends of time, in what a file says
@pytest.mark.parametrize(
    "changed",
    [
        {"reference": "a\x00b"},
        {"occurred_at": "0001-01-01T00:00:00+01:00"},
        {"occurred_at": "9999-12-31T23:59:59-01:00"},
        {"occurred_at": "yesterday"},
    ],
)
async def test_nonsense_in_a_file_is_one_line(typed: Type, gift: str, changed: dict[str, str]) -> None:
    change(gift, lambda content: content["transfers"][0].update(changed))

    code, answer = await typed("post", gift)

    assert code in {1, 2}
    assert "Traceback" not in str(answer)
    assert "defect" not in str(answer)


async def test_a_transfer_is_reversed_in_parts_and_no_further(db: database.Database, typed: Type, gift: str) -> None:
    _, posted = await typed("post", gift)
    transfer_id = str(posted["transfer_ids"][0])  # type: ignore[index]

    part, _ = await typed("reverse", transfer_id, "--amount-minor", "200")
    rest, _ = await typed("reverse", transfer_id)
    more, refused = await typed("reverse", transfer_id)

    assert (part, rest, more) == (0, 0, 1)
    assert refused["code"] == "already_reversed"
    assert await balance(db) == 0


async def test_the_reversal_of_an_unknown_transfer_is_refused(typed: Type) -> None:
    code, answer = await typed("reverse", str(uuid4()))

    assert (code, answer["code"]) == (1, "unknown_transfer")


@pytest.mark.rule("LE17")
async def test_an_account_is_frozen_unfrozen_emptied_and_closed(db: database.Database, typed: Type, gift: str) -> None:
    _, posted = await typed("post", gift)
    transfer_id = str(posted["transfer_ids"][0])  # type: ignore[index]

    frozen = await typed("account", "freeze", WALLET, "RUB")
    taken = await typed("reverse", transfer_id)
    full = await typed("account", "close", WALLET, "RUB")
    await typed("account", "unfreeze", WALLET, "RUB")
    await typed("reverse", transfer_id)
    closed = await typed("account", "close", WALLET, "RUB")
    late = await typed("post", gift)

    assert (frozen[0], frozen[1]["state"]) == (0, "frozen")
    assert (taken[0], taken[1]["code"]) == (1, "account_frozen")
    assert (full[0], full[1]["code"]) == (1, "account_not_empty")
    assert (closed[0], closed[1]["state"]) == (0, "closed")
    assert (late[0], late[1]["code"]) == (1, "account_closed")


async def test_a_limit_lets_an_account_be_overdrawn_by_its_amount(typed: Type, gift: str) -> None:
    await typed("post", gift)

    code, answer = await typed("account", "limit", WALLET, "RUB", "--overdraft-minor", "1000")
    negative, _ = await typed("account", "limit", WALLET, "RUB", "--overdraft-minor", "-1")

    assert (code, answer["overdraft_minor"]) == (0, 1_000)
    assert negative == 2


async def test_an_account_that_is_not_in_the_chart_is_refused(typed: Type) -> None:
    code, answer = await typed("account", "freeze", "treasure", "RUB", "--open")

    assert (code, answer["code"]) == (1, "unknown_account")


@pytest.mark.parametrize("action", ["freeze", "unfreeze", "close"])
async def test_a_mistyped_account_is_not_opened(db: database.Database, typed: Type, action: str) -> None:
    code, answer = await typed("account", action, WALLET, "RUB")

    assert code == 2
    assert "was never opened" in str(answer["error"])
    assert await balance(db) is None


async def test_an_account_is_opened_when_that_is_meant(typed: Type) -> None:
    code, answer = await typed("account", "freeze", WALLET, "RUB", "--open")

    assert (code, answer["state"]) == (0, "frozen")


@pytest.mark.parametrize("arguments", [("freeze", WALLET, "RUB", "--overdraft-minor", "5"), ("limit", WALLET, "RUB")])
async def test_an_option_that_does_nothing_or_is_missing_is_refused(typed: Type, arguments: tuple[str, ...]) -> None:
    code, answer = await typed("account", *arguments)

    assert code == 2
    assert "limit needs --overdraft-minor" in str(answer["error"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("no json", "the file: Invalid JSON"),
        ("[]", "the file: Input should be an object"),
        ("{}", "transfers: Field required"),
        ('{"transfers": [{"kind": "grant"}]}', "transfers.0.reference: Field required"),
        ('{"transfers": []}', "transfers: Tuple should have at least 1 item"),
    ],
)
async def test_a_refused_file_names_the_field_that_is_wrong(
    content: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "group.json"
    file.write_text(content)
    monkeypatch.setattr(operations, "own_database", None)  # nobody is asked

    code = await operations.run(main.SERVICE, "post", [str(file)])

    assert code == 2
    assert capsys.readouterr().err.startswith(expected)
