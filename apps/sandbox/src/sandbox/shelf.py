"""A bounded place in memory for what a provider created: the oldest leave when it is full."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

SHELF_MAX = 200_000


class Numbered(Protocol):
    """What can stand on a shelf: numbered in the order of its creation."""

    @property
    def id(self) -> str: ...
    @property
    def number(self) -> int: ...


Item = TypeVar("Item", bound=Numbered)


class Shelf(Generic[Item]):
    """Items by id, and newest first."""

    def __init__(self) -> None:
        self._by_id: dict[str, Item] = {}
        self._by_number: dict[int, Item] = {}
        self._next_number = 1

    @property
    def next_number(self) -> int:
        """The number that the next item must carry."""
        return self._next_number

    def add(self, item: Item) -> None:
        """Put the next item here; the oldest leaves when there is no room."""
        assert item.number == self._next_number, "items are numbered without gaps"
        self._next_number += 1
        self._by_id[item.id] = item
        self._by_number[item.number] = item
        evicted = self._by_number.pop(item.number - SHELF_MAX, None)
        if evicted is not None:
            del self._by_id[evicted.id]

    def get(self, item_id: str) -> Item | None:
        """Find an item; None where it never was here or has left."""
        return self._by_id.get(item_id)

    def newest_first(self, *, before: int | None = None) -> Iterator[Item]:
        """Walk the items from the newest, or from the one created just before number `before`."""
        start = self._next_number if before is None else before
        for number in range(start - 1, self._next_number - len(self._by_number) - 1, -1):
            yield self._by_number[number]

    def forget(self) -> None:
        """Empty the shelf."""
        self._by_id.clear()
        self._by_number.clear()
        self._next_number = 1
