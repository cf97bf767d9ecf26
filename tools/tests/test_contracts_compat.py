import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def contracts(root: Path, tmp_path: Path) -> Path:
    """A copy of the contracts that a test may break."""
    return shutil.copytree(
        root / "libs/contracts", tmp_path / "contracts", ignore=shutil.ignore_patterns("__pycache__")
    )


def change(contracts: Path, module: str, old: str, new: str) -> None:
    path = contracts / "src/contracts" / module
    text = path.read_text()
    assert old in text, f"{module} no longer has {old!r}"
    path.write_text(text.replace(old, new, 1))


def test_the_committed_contracts_are_kept(run: Any, root: Path) -> None:
    outcome = run("contracts_compat", root / "libs/contracts")

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("module", "old", "new", "complaint"),
    [
        ("payments.py", "    provider_account: str\n", "", "provider_account: the field is gone"),
        ("payments.py", "    reason: str\n", "    reason: str\n    actor: str\n", "actor: the field is newly required"),
        ("payments.py", "    reason: str\n", "    reason: int\n", "the type changed from string to integer"),
        ("payments.py", "    reason: str\n", '    reason: str = ""\n', "reason: the field is no longer required"),
        ("payments.py", "paid_at: Time", "paid_at: str", "the type changed from string date-time to string"),
        ("ledger/accounts.py", "owner: UserId | None", "owner: UserId", "owner: the type changed"),
        (
            "ledger/transfers.py",
            '"top_up", "capture", ',
            '"top_up", ',
            'the choice was narrowed and no longer has "capture"',
        ),
        ("message.py", "strict=True, gt=0,", "strict=True, gt=99,", "exclusiveMinimum was tightened from 0 to 99"),
        ("orders.py", "LINES_MAX = 50", "LINES_MAX = 10", "maxItems was tightened from 50 to 10"),
        ("message.py", "{2,11}$", "{2,2}$", "the pattern changed"),
        ("message.py", 'extra="ignore"', 'extra="forbid"', "unknown fields are now refused"),
        ("gateway.py", 'type="gateway.user.registered.v1"', 'type="gateway.user.registered.v2"', "the message is gone"),
    ],
)
def test_a_broken_promise_is_named(
    run: Any, contracts: Path, *, module: str, old: str, new: str, complaint: str
) -> None:
    change(contracts, module, old, new)

    outcome = run("contracts_compat", contracts)

    assert outcome.returncode == 1
    assert complaint in outcome.stderr


def test_a_broken_promise_cannot_be_committed(run: Any, contracts: Path) -> None:
    schema = contracts / "schemas/payments.payment.canceled.v1.json"
    committed = schema.read_text()
    change(contracts, "payments.py", "    reason: str\n", "    reason: int\n")

    outcome = run("contracts_compat", contracts, "--write")

    assert outcome.returncode == 1
    assert schema.read_text() == committed


def test_an_optional_field_is_compatible_once_it_is_committed(run: Any, contracts: Path) -> None:
    change(contracts, "payments.py", "    reason: str\n", "    reason: str\n    note: str | None = None\n")

    before = run("contracts_compat", contracts)
    written = run("contracts_compat", contracts, "--write")
    after = run("contracts_compat", contracts)

    assert before.returncode == 1
    assert "the schema is new or has grown" in before.stderr
    assert (written.returncode, after.returncode) == (0, 0)


def test_a_field_that_was_added_can_not_be_taken_back(run: Any, contracts: Path) -> None:
    change(contracts, "payments.py", "    reason: str\n", "    reason: str\n    note: str | None = None\n")
    run("contracts_compat", contracts, "--write")
    change(contracts, "payments.py", "    note: str | None = None\n", "")

    outcome = run("contracts_compat", contracts)

    assert outcome.returncode == 1
    assert "note: the field is gone" in outcome.stderr


def test_a_message_without_an_example_is_named(run: Any, contracts: Path) -> None:
    (contracts / "examples/payments.payment.paid.v1.json").unlink()

    outcome = run("contracts_compat", contracts)

    assert outcome.returncode == 1
    assert "payments.payment.paid.v1: write a realistic example" in outcome.stderr


def test_an_example_that_loses_a_field_when_read_is_named(run: Any, contracts: Path) -> None:
    example = contracts / "examples/ledger.hold.release.v1.json"
    example.write_text(example.read_text().replace("{", '{"forgotten": 1,', 1))

    outcome = run("contracts_compat", contracts)

    assert outcome.returncode == 1
    assert "gives something else" in outcome.stderr
