"""Holds that events of payments place and end: what a refund or a dispute may take from its payer's wallet.

Nobody can spend it meanwhile. It is what the wallet has at that moment and no more, and it lasts until the refund or
the dispute is over.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid5

from contracts import ledger
from contracts.message import TenantId, UserId
from ledger.domain import accounts, books, chart, holds

# A hold has a time at which it expires; this one is beyond every refund and dispute.
ENDLESS = datetime(2999, 12, 31, tzinfo=UTC)
# The namespace of the ids of these holds; it never changes, or what is held could not be released.
_NAMES = UUID("2d0b6a5e-7f0b-5a3f-8f0c-9a51c4f7e613")

Key = tuple[TenantId, ledger.HoldId]


class Reservation(NamedTuple):
    """What an event does to the hold of a refund or a dispute, named by `source_key`: place it, or end it."""

    tenant: TenantId
    source_key: str
    owner: UserId
    wallet: chart.AccountDefinition
    amount_minor: int
    reference: str
    is_end: bool = False

    @property
    def key(self) -> Key:
        """The key of the hold."""
        return self.tenant, ledger.HoldId(uuid5(_NAMES, f"{self.tenant}:{self.source_key}"))


def place(book: books.Books, reservation: Reservation) -> tuple[holds.Hold, Sequence[ledger.HoldPlaced]]:
    """Hold what the wallet has of the amount; a hold of nothing is refused at once. Raises what holding raises."""
    held_minor = min(reservation.amount_minor, spendable_minor(book.account(reservation.wallet.name).current))
    if not held_minor:
        return ended(reservation), ()
    hold = _hold(reservation, held_minor)
    return hold, (holds.place(book, hold),)


def ended(reservation: Reservation) -> holds.Hold:
    """Return a hold that holds nothing and never will, so that an event which comes late places none."""
    tenant, hold_id = reservation.key
    reference, code, detail = reservation.reference, "nothing_to_hold", "There is nothing to hold."
    refused = ledger.HoldRefused(tenant=tenant, hold_id=hold_id, reference=reference, code=code, detail=detail)
    hold = _hold(reservation, reservation.amount_minor)
    hold.current = hold.current._replace(state="refused", ending=refused)
    return hold


def spendable_minor(wallet: accounts.AccountValues) -> int:
    """Return what the business may take of a wallet without asking: nothing of one that is frozen or overdrawn."""
    return max(wallet.available_minor, 0) if wallet.state == "open" else 0


def takeable_minor(wallet: accounts.AccountValues, released_minor: int | None) -> int:
    """Return what a wallet may be debited without asking: what was held until now, or else what it has.

    Where an operator allows the wallet a debt, it may also be debited down to that limit.
    """
    if wallet.state != "open":
        return 0
    own_minor = wallet.available_minor if released_minor is None else min(released_minor, wallet.available_minor)
    return max(own_minor, wallet.available_minor + wallet.overdraft_minor if wallet.overdraft_minor else 0, 0)


def _hold(reservation: Reservation, amount_minor: int) -> holds.Hold:
    tenant, hold_id = reservation.key
    values = holds.HoldValues(ENDLESS, [holds.Part(reservation.wallet.name, amount_minor)])
    return holds.Hold(tenant, hold_id, reservation.owner, reservation.reference, values)
