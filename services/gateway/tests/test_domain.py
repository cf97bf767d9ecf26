"""Idempotency keys, waits and cursors."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from gateway.domain import commands, cursors


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
def test_the_fingerprint_of_a_body_ignores_white_space_and_order() -> None:
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
def test_the_prefer_header_sets_the_wait_within_bounds(headers: list[str], wait_s: float) -> None:
    assert commands.wait_of(headers, default_s=2) == wait_s


@given(st.tuples(st.text(max_size=1_000), st.integers(), st.uuids()))
def test_a_cursor_decodes_to_the_key_it_was_made_from(position: tuple[str, int, UUID]) -> None:
    cursor = cursors.encode(*position)

    assert cursors.decode(cursor, TypeAdapter(tuple[str, int, UUID])) == position
    assert cursor.isascii()
    assert "=" not in cursor


@given(st.text(max_size=600))
def test_any_other_text_is_an_invalid_cursor(text: str) -> None:
    with pytest.raises(cursors.CursorInvalid):
        cursors.decode(text, TypeAdapter(tuple[UUID]))


@pytest.mark.parametrize(("count", "shown", "has_more"), [(0, 0, False), (2, 2, False), (3, 2, True)])
def test_a_page_has_a_cursor_only_when_there_is_more(count: int, shown: int, *, has_more: bool) -> None:
    items, cursor = cursors.page(range(count), 2, lambda item: (item,))

    assert len(items) == shown
    assert (cursor is not None) is has_more
