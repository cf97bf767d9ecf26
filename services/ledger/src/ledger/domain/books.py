"""Accounts and balanced transfers, decided in memory on accounts that the caller locked.

What is refused is rolled back, so a refusal changes no account.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from contracts import ledger
from contracts.message import TenantId
from ledger.domain import accounts, chart, double_entry, lots
from ledger.domain.posted import PostedLeg, PostedTransfer


class Changeable(Protocol):
    """Something whose changing figures are one value, so that putting it back is to give it the value of before."""

    current: Any


class Books:
    """The locked accounts of one transaction; what was changed and posted is remembered, to be written at once.

    `at` is the moment of recording by the database's clock, never before an earlier posting of the same accounts.
    `new_id` gives ids that grow with time.
    """

    def __init__(self, opened: Iterable[accounts.Account], *, at: datetime, new_id: Callable[[], UUID]) -> None:
        """Open the books on accounts as they were read."""
        self.at, self.new_id = at, new_id
        self.accounts = {account.definition.name: account for account in opened}
        self.transfers: list[double_entry.Transfer] = []
        self.postings: list[double_entry.Posting] = []
        self.uses: list[lots.LotUse] = []
        # Things only, no methods of ours: a cycle would leave thousands of values of each batch to the collector.
        self._undo: list[tuple[Changeable, Any]] = []

    def account(self, name: chart.AccountName) -> accounts.Account:
        """Give an account as it stands now; one that was never opened has nothing, so raises InsufficientFunds."""
        try:
            return self.accounts[name]
        except KeyError:
            raise accounts.InsufficientFunds from None

    def savepoint(self) -> tuple[int, int, int, int]:
        """Give the place to roll back to."""
        return len(self._undo), len(self.transfers), len(self.postings), len(self.uses)

    def rollback_to(self, savepoint: tuple[int, int, int, int]) -> None:
        """Undo everything since a mark."""
        undone, transfers, postings, uses = savepoint
        while len(self._undo) > undone:
            thing, before = self._undo.pop()
            thing.current = before
        del self.transfers[transfers:], self.postings[postings:], self.uses[uses:]

    def change(self, thing: Changeable, values: Any) -> None:
        """Give a thing new figures, and remember those of before."""
        self._undo.append((thing, thing.current))
        thing.current = values

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
        """Give a new transfer; it takes effect now where nothing else is said."""
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
        is_written: bool = False,
    ) -> PostedTransfer:
        """Post one transfer, which is there already where `is_written`. The caller rolls back a refusal's half.

        Raises Unbalanced, FlowNotAllowed unless it is a reversal, and what moving an account raises.
        """
        double_entry.check_balanced(legs)
        lines = []
        for leg in legs:
            account, amount_minor = self.account(leg.name), leg.amount_minor
            now = account.current.with_change(amount_minor, leg.held_minor)
            self.change(account, now)
            if account.definition.kind == "points":
                self._use_lots(account, leg, transfer)
            self.postings.append(
                double_entry.Posting(account.id, now.sequence, transfer.id, amount_minor, now.balance_minor, self.at)
            )
            lines.append(PostedLeg(account, amount_minor, now))
        if not is_reversal:
            _check_flows(lines)
        if not is_written:
            self.transfers.append(transfer)
        return PostedTransfer(transfer, lines)

    def hold(self, account: accounts.Account, amount_minor: int) -> list[lots.LotAllocation]:
        """Set an amount aside; gives the lots that it is held on. Raises what moving an account raises."""
        self.change(account, account.current.with_change(0, amount_minor))
        shares = self._spendable(account, amount_minor) if account.definition.kind == "points" else []
        self._change_lots(shares, left=0, held=1)
        return shares

    def give_back(self, account: accounts.Account, amount_minor: int, shares: Sequence[lots.LotAllocation]) -> None:
        """Release an amount that was held."""
        self.change(account, account.current.with_change(0, -amount_minor))
        self.free(shares)

    def free(self, shares: Sequence[lots.LotAllocation]) -> None:
        """Let go of lots, after the account itself was told."""
        self._change_lots(shares, left=0, held=-1)

    def _use_lots(self, account: accounts.Account, leg: double_entry.Leg, transfer: double_entry.Transfer) -> None:
        shares, sign = leg.shares, 1 if leg.amount_minor > 0 else -1
        if not shares and sign < 0:
            shares = self._spendable(account, -leg.amount_minor)
        elif not shares:
            shares = [lots.LotAllocation(lots.Lot(self.new_id(), account.id, leg.expires_at), leg.amount_minor)]
        self._change_lots(shares, left=sign, held=-1 if leg.held_minor else 0)
        for lot, part_minor in shares:
            if lot not in account.own_lots:
                account.own_lots.append(lot)  # after a rollback it is an empty lot, which is not written
            if lot.current.free_minor < 0:
                raise accounts.InsufficientFunds("What came in with this lot is spent already.")
            self.uses.append(lots.LotUse(transfer.id, lot.id, sign * part_minor))

    def _change_lots(self, shares: Iterable[lots.LotAllocation], *, left: int, held: int) -> None:
        for lot, part_minor in shares:
            left_minor, held_minor = lot.current
            self.change(lot, lots.LotValues(left_minor + left * part_minor, held_minor + held * part_minor))

    def _spendable(self, account: accounts.Account, amount_minor: int) -> list[lots.LotAllocation]:
        shares = lots.spendable(account.own_lots, amount_minor, at=self.at)
        if shares is None:
            raise accounts.InsufficientFunds
        return shares


def _check_flows(lines: Sequence[PostedLeg]) -> None:
    """Look at each pair of a debited and a credited account of one asset."""
    for source in lines:
        if source.amount_minor > 0:
            continue
        opening = source.account.definition
        for target in lines:
            other = target.account.definition
            is_credited = target.amount_minor > 0 and other.name.asset == opening.name.asset
            if is_credited and other.kind not in chart.FLOWS[opening.kind]:
                raise chart.FlowNotAllowed(f"{opening.kind} may not be moved to {other.kind}.")
