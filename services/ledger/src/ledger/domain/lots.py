"""Lots: parts of a balance, each with its own expiry date. The lot that expires first is spent first.

Funds that are held stay on their lots and can't expire; a refund goes back to the lots that were spent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from contracts import ledger

# A refund to a lot that has expired meanwhile becomes a new lot that lasts this long.
GRACE = timedelta(days=14)

_NEVER = datetime.max.replace(tzinfo=UTC)


class LotValues(NamedTuple):
    """The values of a lot that change."""

    left_minor: int = 0
    held_minor: int = 0

    @property
    def free_minor(self) -> int:
        """What is neither spent nor held."""
        return self.left_minor - self.held_minor


EMPTY = LotValues()


@dataclass(slots=True, eq=False)
class Lot:
    """A part of an account's balance, as it is now and as it was loaded. Without `expires_at` it never expires."""

    id: UUID
    account_id: int
    expires_at: datetime | None
    current: LotValues = EMPTY
    loaded: LotValues = EMPTY

    def has_expired(self, at: datetime) -> bool:
        """Tell whether the lot can't be spent any more."""
        return self.expires_at is not None and self.expires_at <= at


class LotAllocation(NamedTuple):
    """The part of an amount that is allocated to one lot."""

    lot: Lot
    amount_minor: int


class LotUse(NamedTuple):
    """What one transfer did to one lot: positive when it was credited, negative when it was spent."""

    transfer_id: ledger.TransferId
    lot_id: UUID
    amount_minor: int


def allocate_free(lots: Iterable[Lot], amount_minor: int, *, at: datetime) -> list[LotAllocation] | None:
    """Allocate an amount to what is free of lots, the first to expire first; None when there is not enough."""
    in_order = sorted(lots, key=lambda lot: (lot.expires_at or _NEVER, lot.id))
    free = [LotAllocation(lot, lot.current.free_minor) for lot in in_order if not lot.has_expired(at)]
    return _first_part(free, amount_minor)


def first_part(allocations: Sequence[LotAllocation], amount_minor: int) -> list[LotAllocation]:
    """Return the allocations of the first part of what is held; the caller checked that there is enough.

    Nothing for an account without lots.
    """
    taken = _first_part(allocations, amount_minor) if allocations else []
    assert taken is not None, "more was taken than was held"
    return taken


def subtract(allocations: Sequence[LotAllocation], taken: Sequence[LotAllocation]) -> list[LotAllocation]:
    """Return the allocations that remain after a part was taken."""
    amounts = {allocation.lot: allocation.amount_minor for allocation in taken}
    remaining = [LotAllocation(lot, amount_minor - amounts.get(lot, 0)) for lot, amount_minor in allocations]
    return [allocation for allocation in remaining if allocation.amount_minor]


def _first_part(allocations: Iterable[LotAllocation], amount_minor: int) -> list[LotAllocation] | None:
    taken = []
    for lot, allocated_minor in allocations:
        part_minor = min(allocated_minor, amount_minor)
        if part_minor > 0:
            taken.append(LotAllocation(lot, part_minor))
            amount_minor -= part_minor
    return None if amount_minor else taken
