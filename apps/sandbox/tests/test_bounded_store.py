"""The bounded memory of payments and refunds."""

import dataclasses

import pytest

from sandbox import bounded_store


@dataclasses.dataclass
class Thing:
    id: str
    number: int


def test_the_oldest_leave_a_full_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_store, "ITEMS_MAX", 3)
    things: bounded_store.BoundedStore[Thing] = bounded_store.BoundedStore()

    for number in range(1, 6):
        things.add(Thing(f"thing-{number}", number))

    assert [thing.number for thing in things.newest_first()] == [5, 4, 3]
    assert [thing.number for thing in things.newest_first(before=4)] == [3]
    assert things.get("thing-2") is None
