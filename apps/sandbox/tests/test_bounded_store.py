"""The bounded store of a provider's objects."""

import dataclasses

import pytest

from sandbox import bounded_store


@dataclasses.dataclass
class Item:
    id: str
    number: int


def test_a_full_store_evicts_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_store, "ITEMS_MAX", 3)
    store: bounded_store.BoundedStore[Item] = bounded_store.BoundedStore()

    for number in range(1, 6):
        store.add(Item(f"item-{number}", number))

    assert [item.number for item in store.newest_first()] == [5, 4, 3]
    assert [item.number for item in store.newest_first(before=4)] == [3]
    assert store.get("item-2") is None
