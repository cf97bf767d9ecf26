"""The gateway's decisions, without any door: keys, waits, cursors, tokens, and what a movement means."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from contracts import ledger, message
from gateway.domain import commands, cursors, sessions, statement

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = "x" * 32
TENANT = message.TenantId("demo")


class Body(BaseModel):
    a: int
    b: str


@pytest.mark.rule("GW8")
@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("k1", "k1"),
        ('"k1"', "k1"),
        ('"two words"', "two words"),
        ('"a\\"b\\\\"', 'a"b\\'),
        (" k1 ", "k1"),
        ("a,b", "a,b"),
    ],
)
def test_a_key_is_the_same_quoted_and_bare(header: str, key: str) -> None:
    assert commands.key_of([header]) == key


@pytest.mark.rule("GW8")
def test_a_body_is_told_by_what_it_means() -> None:
    one = Body.model_validate_json('{"a": 1, "b": "x"}')

    assert commands.fingerprint_of(one) == commands.fingerprint_of(Body.model_validate_json('{ "b":"x","a":1 }'))
    assert commands.fingerprint_of(one) != commands.fingerprint_of(Body.model_validate_json('{"a": 1, "b": "y"}'))


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ([], 2),
        (["wait=5"], 5),
        (["respond-async, wait=0"], 0),
        (["return=minimal", 'Wait = "7"'], 7),
        (["wait=9999"], 10),
        (["wait=99999"], 2),
        (["wait=-1"], 2),
        (["wait=soon"], 2),
        (["nowait=5"], 2),
    ],
)
def test_a_client_may_say_how_long_it_waits_within_bounds(headers: list[str], wait_s: float) -> None:
    assert commands.wait_of(headers, default_s=2) == wait_s


@given(st.tuples(st.text(max_size=1_000), st.integers(), st.uuids()))
def test_a_cursor_gives_back_the_position_it_was_made_from(position: tuple[str, int, UUID]) -> None:
    cursor = cursors.encode(*position)

    assert cursors.decode(cursor, TypeAdapter(tuple[str, int, UUID])) == position
    assert cursor.isascii()
    assert "=" not in cursor


@given(st.text(max_size=600))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(cursors.CursorInvalid):
        cursors.decode(text, TypeAdapter(tuple[UUID]))


@pytest.mark.parametrize(("count", "shown", "has_more"), [(0, 0, False), (2, 2, False), (3, 2, True)])
def test_a_page_has_a_cursor_only_when_there_is_more(count: int, shown: int, *, has_more: bool) -> None:
    items, cursor = cursors.page(range(count), 2, lambda item: (item,))

    assert len(items) == shown
    assert (cursor is not None) is has_more


def test_a_token_speaks_for_its_session_until_it_expires() -> None:
    session = sessions.Session(TENANT, message.UserId(uuid4()))
    token = sessions.issue(session, secret=SECRET, now=NOW, ttl_s=60)

    assert sessions.read(token, tenant=TENANT, secret=SECRET, now=NOW + timedelta(seconds=59)) == session
    with pytest.raises(sessions.TokenExpired):
        sessions.read(token, tenant=TENANT, secret=SECRET, now=NOW + timedelta(seconds=60))


def test_a_token_of_another_tenant_or_secret_is_invalid() -> None:
    session = sessions.Session(TENANT, message.UserId(uuid4()))
    token = sessions.issue(session, secret=SECRET, now=NOW, ttl_s=60)

    for tenant, secret in ((message.TenantId("other"), SECRET), (TENANT, "y" * 32)):
        with pytest.raises(sessions.TokenInvalid):
            sessions.read(token, tenant=tenant, secret=secret, now=NOW)


@pytest.mark.rule("W3")
def test_only_a_users_side_of_a_movement_is_on_a_statement(facts: Any) -> None:
    user_id = str(uuid4())

    top_up = statement.changes_of(facts.transfer(facts.account(user_id, 1, 5), 5, "payment:1"), recorded_at=NOW)
    held = statement.changes_of(
        facts.hold(ledger.HoldPlaced, facts.account(user_id, 2, 5, 3), 3, "order:1"), recorded_at=NOW
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
def test_a_transfer_is_a_line_of_what_it_was_to_its_owner(
    facts: Any, kind: ledger.TransferKind, amount_minor: int, line: str
) -> None:
    transfer = facts.transfer(facts.account(str(uuid4()), 1, 0), amount_minor, "order:1", kind=kind)

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
def test_each_part_of_a_hold_that_moved_is_a_line_of_its_own(
    facts: Any, event: type[ledger.HoldEvent], amounts: tuple[int, int], lines: list[tuple[str, str]]
) -> None:
    wallet = facts.account(str(uuid4()), 2, 5, 3)
    points = wallet.model_copy(update={"asset": "PTS", "version": 7})
    parts = tuple(
        ledger.HoldPart(account=account, amount_minor=amount_minor)
        for account, amount_minor in zip((wallet, points), amounts, strict=True)
    )
    more = {"expires_at": NOW, "transfer_id": uuid4()}
    held = event.model_validate(
        {**facts.hold(ledger.HoldPlaced, wallet, 5, "order:1").model_dump(), "parts": parts, **more}
    )

    changes = statement.changes_of(held, recorded_at=NOW)

    assert [(change.asset, change.kind) for change in changes] == lines
    assert all((change.amount_minor, change.held_after_minor) == (0, 3) for change in changes)


def test_the_latest_change_of_each_account_is_found_whatever_the_order(facts: Any) -> None:
    users = sorted(str(uuid4()) for _ in range(2))
    changes = [
        change
        for version in (2, 3, 1)
        for user_id in reversed(users)
        for change in statement.changes_of(
            facts.transfer(facts.account(user_id, version, version), 1, "payment:1"), recorded_at=NOW
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
def test_a_captured_order_is_known_by_its_reference(
    facts: Any, kind: ledger.TransferKind, reference: str, *, is_order: bool
) -> None:
    transfer = facts.transfer(facts.account(str(uuid4()), 1, 0), -1, reference, kind=kind)

    found = statement.captured_order(statement.changes_of(transfer, recorded_at=NOW)[0])

    assert found == (UUID(int=1) if is_order else None)
