"""The command line of the books."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
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
        code = await operations.run(main.SERVICE, name, arguments)
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

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

    assert (code, answer) == (2, {})


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
    code, answer = await typed("account", "freeze", "treasure", "RUB")

    assert (code, answer["code"]) == (1, "unknown_account")


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
