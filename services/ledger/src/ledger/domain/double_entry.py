"""Double entry: transfers, their legs and postings. Plain tuples, because one batch makes thousands of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import chart, lots


class Unbalanced(errors.Refusal):
    """The legs of a transfer sum to zero per asset, name each account once and move something."""

    code: ClassVar[str] = "unbalanced"
    status: ClassVar[int] = 422


class Transfer(NamedTuple):
    """One business movement. `source_key` is its natural key: it is unique per tenant and kind, for ever.

    `occurred_at` is when it took effect, however late its postings are recorded; `reverses` is the transfer that it
    undoes.
    """

    id: ledger.TransferId
    tenant: TenantId
    kind: ledger.TransferKind
    source_key: str
    reference: str
    occurred_at: datetime
    event_id: UUID
    reverses: ledger.TransferId | None = None


class Leg(NamedTuple):
    """What one transfer does to one account: credits are positive; `held_minor` changes along with the balance.

    On an account that keeps lots, `allocations` names the lots. Without them a debit spends the lots that expire first,
    and a credit makes a new lot that expires at `expires_at`.
    """

    name: chart.AccountName
    amount_minor: int
    held_minor: int = 0
    allocations: Sequence[lots.LotAllocation] = ()
    expires_at: datetime | None = None


class Posting(NamedTuple):
    """A leg as a row of the books, with the balance right after it and when it was recorded."""

    account_id: int
    sequence: int
    transfer_id: ledger.TransferId
    amount_minor: int
    balance_after_minor: int
    recorded_at: datetime


def two_legs(
    source: chart.AccountDefinition, destination: chart.AccountDefinition, amount_minor: int
) -> tuple[Leg, Leg]:
    """Return the legs of a transfer from one account to another."""
    return Leg(source.name, -amount_minor), Leg(destination.name, amount_minor)


def check_balanced(legs: Sequence[Leg]) -> None:
    """Raise Unbalanced unless the legs make a transfer."""
    if len(legs) == 2:  # nearly every transfer, so the short way pays
        one, other = legs
        is_zero_sum = one.amount_minor == -other.amount_minor and one.name.asset == other.name.asset
        if not is_zero_sum or not one.amount_minor or one.name == other.name:
            raise Unbalanced
        return
    sums: dict[str, int] = {}
    for leg in legs:
        sums[leg.name.asset] = sums.get(leg.name.asset, 0) + leg.amount_minor
    if any(sums.values()) or not all(leg.amount_minor for leg in legs) or not legs:
        raise Unbalanced
    if len({leg.name for leg in legs}) < len(legs):
        raise Unbalanced
