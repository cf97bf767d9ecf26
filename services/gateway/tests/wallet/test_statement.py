"""How the ledger's events become statement lines."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts import ledger
from gateway.wallet.domain import statement

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.rule("W3")
def test_only_the_users_postings_of_a_transfer_become_statement_lines(build: Any) -> None:
    user_id = str(uuid4())

    top_up = statement.changes_of(build.transfer(build.account(user_id, 1, 5), 5, "payment:1"), recorded_at=NOW)
    held = statement.changes_of(
        build.hold(ledger.HoldPlaced, build.account(user_id, 2, 5, 3), 3, "order:1"), recorded_at=NOW
    )

    assert [(change.kind, change.amount_minor, change.held_after_minor) for change in top_up] == [("credit", 5, 0)]
    assert [(change.kind, change.amount_minor, change.held_after_minor) for change in held] == [("hold", 0, 3)]
    assert {str(change.user_id) for change in top_up + held} == {user_id}


@pytest.mark.parametrize(
    ("kind", "amount_minor", "line"),
    [
        ("top_up", 5, "credit"),
        ("grant", 5, "credit"),
        ("opening", 5, "credit"),
        ("transfer", 5, "credit"),
        ("transfer", -5, "debit"),
        ("capture", -5, "capture"),
        ("spend", -5, "debit"),
        ("fee", -5, "debit"),
        ("expiry", -5, "debit"),
        ("adjustment", -5, "debit"),
        ("refund", 5, "refund"),
        ("refund", -5, "refund"),
        ("reversal", 5, "refund"),
        ("reversal", -5, "debit"),
    ],
)
def test_the_kind_of_a_line_follows_the_kind_of_its_transfer(
    build: Any, kind: ledger.TransferKind, amount_minor: int, line: str
) -> None:
    transfer = build.transfer(build.account(str(uuid4()), 1, 0), amount_minor, "order:1", kind=kind)

    (change,) = statement.changes_of(transfer, recorded_at=NOW)

    assert (change.kind, change.amount_minor) == (line, amount_minor)


@pytest.mark.parametrize(
    ("event", "amounts", "lines"),
    [
        (ledger.HoldPlaced, (3, 2), [("RUB", "hold"), ("PTS", "hold")]),
        (ledger.HoldReleased, (3, 2), [("RUB", "release"), ("PTS", "release")]),
        (ledger.HoldExpired, (3, 0), [("RUB", "release")]),
        (ledger.HoldExtended, (3, 2), []),
        (ledger.HoldCaptured, (3, 2), []),
        (ledger.HoldCaptured, (3, 0), [("PTS", "release")]),
    ],
)
def test_each_changed_part_of_a_hold_is_a_line(
    build: Any, event: type[ledger.HoldEvent], amounts: tuple[int, int], lines: list[tuple[str, str]]
) -> None:
    wallet = build.account(str(uuid4()), 2, 5, 3)
    points = wallet.model_copy(update={"asset": "PTS", "version": 7})
    parts = tuple(
        ledger.HoldPart(account=account, amount_minor=amount_minor)
        for account, amount_minor in zip((wallet, points), amounts, strict=True)
    )
    more = {"expires_at": NOW, "transfer_id": uuid4()}
    held = event.model_validate(
        {**build.hold(ledger.HoldPlaced, wallet, 5, "order:1").model_dump(), "parts": parts, **more}
    )

    changes = statement.changes_of(held, recorded_at=NOW)

    assert [(change.asset, change.kind) for change in changes] == lines
    assert all((change.amount_minor, change.held_after_minor) == (0, 3) for change in changes)


def test_the_latest_change_of_each_account_is_found_in_any_order(build: Any) -> None:
    users = sorted(str(uuid4()) for _ in range(2))
    changes = [
        change
        for version in (2, 3, 1)
        for user_id in reversed(users)
        for change in statement.changes_of(
            build.transfer(build.account(user_id, version, version), 1, "payment:1"), recorded_at=NOW
        )
    ]

    latest = statement.latest(changes)

    assert [(str(change.user_id), change.version) for change in latest] == [(user_id, 3) for user_id in users]


@pytest.mark.parametrize(
    ("kind", "reference", "is_order"),
    [
        ("capture", f"order:{UUID(int=1)}", True),
        ("top_up", f"order:{UUID(int=1)}", False),
        ("capture", f"payment:{UUID(int=1)}", False),
        ("capture", "order:1", False),
    ],
)
def test_a_captured_order_is_found_by_its_reference(
    build: Any, kind: ledger.TransferKind, reference: str, *, is_order: bool
) -> None:
    transfer = build.transfer(build.account(str(uuid4()), 1, 0), -1, reference, kind=kind)

    found = statement.captured_order(statement.changes_of(transfer, recorded_at=NOW)[0])

    assert found == (UUID(int=1) if is_order else None)
