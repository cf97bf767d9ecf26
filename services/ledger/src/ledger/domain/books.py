"""The books of one transaction: the arithmetic of postings, holds and lots, in memory on accounts that are locked.

A refusal is rolled back to a savepoint, so it changes no account.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from contracts import ledger
from contracts.message import TenantId
from ledger.domain import accounts, chart, double_entry, lots, posted

Values = TypeVar("Values")


class Changeable(Protocol[Values]):
    """Something whose changing values are one immutable tuple, so that undoing a change is assigning the old one."""

    current: Values


Savepoint = tuple[int, int, int, int]
"""A point to roll back to: the number of changes, transfers, postings and uses of lots until then."""


class Books:
    """The locked accounts of one transaction, and what was posted and changed on them.

    `at` is the moment of recording by the database's clock, never before an earlier posting of the same accounts. `now`
    is the clock itself, by which holds and lots end: one that was ahead for a moment must not end what comes after it.
    `new_id` makes ids that grow with time.
    """

    def __init__(
        self,
        loaded: Iterable[accounts.Account],
        *,
        at: datetime,
        new_id: Callable[[], UUID],
        now: datetime | None = None,
    ) -> None:
        """Open the books on accounts as they were loaded; without `now` the clock is where the recording is."""
        self.at, self.now, self.new_id = at, now or at, new_id
        self.accounts = {account.definition.name: account for account in loaded}
        self.transfers: list[double_entry.Transfer] = []
        self.postings: list[double_entry.Posting] = []
        self.lot_uses: list[lots.LotUse] = []
        # Values only, no bound methods: a cycle would leave thousands of objects of each batch to the collector.
        self._undo: list[tuple[Changeable[object], object]] = []

    def account(self, name: chart.AccountName) -> accounts.Account:
        """Return an account. One that was never opened has no funds, so this raises InsufficientFunds."""
        try:
            return self.accounts[name]
        except KeyError:
            raise accounts.InsufficientFunds from None

    def savepoint(self) -> Savepoint:
        """Return the point to roll back to."""
        return len(self._undo), len(self.transfers), len(self.postings), len(self.lot_uses)

    def rollback_to(self, savepoint: Savepoint) -> None:
        """Undo everything since a savepoint."""
        changes, transfers, postings, lot_uses = savepoint
        while len(self._undo) > changes:
            changed, before = self._undo.pop()
            changed.current = before
        del self.transfers[transfers:], self.postings[postings:], self.lot_uses[lot_uses:]

    def change(self, changed: Changeable[Values], values: Values) -> None:
        """Assign new values, and remember the old ones for a rollback."""
        self._undo.append((changed, changed.current))  # type: ignore[arg-type]  # each goes back to its own values
        changed.current = values

    def transfer(
        self,
        tenant: TenantId,
        kind: ledger.TransferKind,
        source_key: str,
        reference: str,
        event_id: UUID,
        *,
        occurred_at: datetime | None = None,
        reverses: ledger.TransferId | None = None,
    ) -> double_entry.Transfer:
        """Make a transfer with a new id; without `occurred_at` it takes effect when it is recorded."""
        new_id = ledger.TransferId(self.new_id())
        return double_entry.Transfer(
            new_id, tenant, kind, source_key, reference, occurred_at or self.at, event_id, reverses
        )

    def post(
        self,
        transfer: double_entry.Transfer,
        legs: Sequence[double_entry.Leg],
        *,
        is_reversal: bool = False,
        is_prewritten: bool = False,
    ) -> posted.PostedTransfer:
        """Post one transfer; with `is_prewritten` its row is in the database already. The caller rolls a refusal back.

        Raises Unbalanced, FlowNotAllowed unless it is a reversal, and what changing an account raises.
        """
        double_entry.check_balanced(legs)
        posted_legs = []
        for leg in legs:
            account, amount_minor = self.account(leg.name), leg.amount_minor
            after = account.current.with_change(amount_minor, leg.held_minor)
            self.change(account, after)
            if account.definition.kind == "points":
                self._use_lots(account, leg, transfer)
            self.postings.append(
                double_entry.Posting(
                    account.id, after.sequence, transfer.id, amount_minor, after.balance_minor, self.at
                )
            )
            posted_legs.append(posted.PostedLeg(account, amount_minor, after))
        if not is_reversal:
            _check_flows(posted_legs)
        if not is_prewritten:
            self.transfers.append(transfer)
        return posted.PostedTransfer(transfer, posted_legs)

    def hold(self, account: accounts.Account, amount_minor: int) -> list[lots.LotAllocation]:
        """Hold an amount; returns the lots it is allocated to. Raises what changing an account raises."""
        self.change(account, account.current.with_change(0, amount_minor))
        allocations = self._allocate_free(account, amount_minor) if account.definition.kind == "points" else []
        self._change_lots(allocations, left=0, held=1)
        return allocations

    def release(self, account: accounts.Account, amount_minor: int, allocations: Sequence[lots.LotAllocation]) -> None:
        """Release an amount that was held, and its lots."""
        self.change(account, account.current.with_change(0, -amount_minor))
        self.release_lots(allocations)

    def release_lots(self, allocations: Sequence[lots.LotAllocation]) -> None:
        """Release lots alone, where a posting has lowered what is held of the account."""
        self._change_lots(allocations, left=0, held=-1)

    def _use_lots(self, account: accounts.Account, leg: double_entry.Leg, transfer: double_entry.Transfer) -> None:
        allocations, sign = leg.allocations, 1 if leg.amount_minor > 0 else -1
        if not allocations and sign < 0:
            allocations = self._allocate_free(account, -leg.amount_minor)
        elif not allocations:
            lot = lots.Lot(self.new_id(), account.id, leg.expires_at)
            allocations = [lots.LotAllocation(lot, leg.amount_minor)]
        self._change_lots(allocations, left=sign, held=-1 if leg.held_minor else 0)
        for lot, part_minor in allocations:
            if lot not in account.own_lots:
                account.own_lots.append(lot)  # after a rollback it is an empty lot, which is not written
            if lot.current.free_minor < 0:
                raise accounts.InsufficientFunds("What was credited with this lot is spent already.")
            self.lot_uses.append(lots.LotUse(transfer.id, lot.id, sign * part_minor))

    def _change_lots(self, allocations: Iterable[lots.LotAllocation], *, left: int, held: int) -> None:
        for lot, part_minor in allocations:
            left_minor, held_minor = lot.current
            self.change(lot, lots.LotValues(left_minor + left * part_minor, held_minor + held * part_minor))

    def _allocate_free(self, account: accounts.Account, amount_minor: int) -> list[lots.LotAllocation]:
        allocations = lots.allocate_free(account.own_lots, amount_minor, at=self.now)
        if allocations is None:
            raise accounts.InsufficientFunds
        return allocations


def _check_flows(legs: Sequence[posted.PostedLeg]) -> None:
    """Check each pair of a debited and a credited account of one asset against the chart."""
    for debit in legs:
        if debit.amount_minor > 0:
            continue
        source = debit.account.definition
        for credit in legs:
            destination = credit.account.definition
            is_credited = credit.amount_minor > 0 and destination.name.asset == source.name.asset
            if is_credited and destination.kind not in chart.FLOWS[source.kind]:
                raise chart.FlowNotAllowed(f"{source.kind} may not be moved to {destination.kind}.")
