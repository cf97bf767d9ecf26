"""A bounded in-memory store of the objects that a provider created; the oldest are evicted when it is full."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

ITEMS_MAX = 200_000


class Numbered(Protocol):
    """An object that can be stored: it has an id and a number in the order of creation."""

    @property
    def id(self) -> str: ...
    @property
    def number(self) -> int: ...


Item = TypeVar("Item", bound=Numbered)


class BoundedStore(Generic[Item]):
    """Objects that can be found by id and listed newest first."""

    def __init__(self) -> None:
        self._by_id: dict[str, Item] = {}
        self._by_number: dict[int, Item] = {}
        self._next_number = 1

    @property
    def next_number(self) -> int:
        """The number that the next item must carry."""
        return self._next_number

    def add(self, item: Item) -> None:
        """Add the next item; the oldest is evicted when the store is full."""
        assert item.number == self._next_number, "items are numbered without gaps"
        self._next_number += 1
        self._by_id[item.id] = item
        self._by_number[item.number] = item
        evicted = self._by_number.pop(item.number - ITEMS_MAX, None)
        if evicted is not None:
            del self._by_id[evicted.id]

    def get(self, item_id: str) -> Item | None:
        """Return an item, or None when it is unknown or was evicted."""
        return self._by_id.get(item_id)

    def newest_first(self, *, before: int | None = None) -> Iterator[Item]:
        """Iterate over the items from the newest, or from the one created just before number `before`."""
        start = self._next_number if before is None else before
        for number in range(start - 1, self._next_number - len(self._by_number) - 1, -1):
            yield self._by_number[number]

    def reset(self) -> None:
        """Remove all items."""
        self._by_id.clear()
        self._by_number.clear()
        self._next_number = 1
