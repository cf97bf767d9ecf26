"""Lots: holdings of an asset that may expire, each with its own date. The soonest to expire is spent first.

What is held stays on its lots and can't expire; what comes back goes to the lots that it came from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from contracts import ledger

# What comes back to a lot that has expired meanwhile can be spent for so long.
GRACE = timedelta(days=14)

_NEVER = datetime.max.replace(tzinfo=UTC)


class LotValues(NamedTuple):
    """What may change of a lot."""

    left_minor: int = 0
    held_minor: int = 0

    @property
    def free_minor(self) -> int:
        """What is neither spent nor held."""
        return self.left_minor - self.held_minor


NOTHING = LotValues()


@dataclass(slots=True, eq=False)
class Lot:
    """A part of one account's balance, as it stands and as it `was` read. It never expires without `expires_at`."""

    id: UUID
    account_id: int
    expires_at: datetime | None
    current: LotValues = NOTHING
    loaded: LotValues = NOTHING

    def is_over(self, at: datetime) -> bool:
        """Tell whether the lot can't be spent any more."""
        return self.expires_at is not None and self.expires_at <= at


class LotAllocation(NamedTuple):
    """A part of one lot."""

    lot: Lot
    amount_minor: int


class LotUse(NamedTuple):
    """What one transfer did to one lot: positive when it filled it, negative when it spent from it."""

    transfer_id: ledger.TransferId
    lot_id: UUID
    amount_minor: int


def spendable(lots: Iterable[Lot], amount_minor: int, *, at: datetime) -> list[LotAllocation] | None:
    """Choose what to spend or hold, soonest to expire first; None when the lots do not have it."""
    soonest_first = sorted(lots, key=lambda lot: (lot.expires_at or _NEVER, lot.id))
    return _take(
        [LotAllocation(lot, lot.current.free_minor) for lot in soonest_first if not lot.is_over(at)], amount_minor
    )


def part_of(shares: Sequence[LotAllocation], amount_minor: int) -> list[LotAllocation]:
    """Give the first part of what is held on lots, where there are any; there must be enough."""
    taken = _take(shares, amount_minor) if shares else []
    assert taken is not None, "more was taken than was held"
    return taken


def without(shares: Sequence[LotAllocation], taken: Sequence[LotAllocation]) -> list[LotAllocation]:
    """Give what is still held after a part was taken."""
    amounts = {share.lot: share.amount_minor for share in taken}
    rest = [LotAllocation(lot, amount_minor - amounts.get(lot, 0)) for lot, amount_minor in shares]
    return [share for share in rest if share.amount_minor]


def _take(shares: Iterable[LotAllocation], amount_minor: int) -> list[LotAllocation] | None:
    taken = []
    for lot, there_minor in shares:
        part_minor = min(there_minor, amount_minor)
        if part_minor > 0:
            taken.append(LotAllocation(lot, part_minor))
            amount_minor -= part_minor
    return None if amount_minor else taken
