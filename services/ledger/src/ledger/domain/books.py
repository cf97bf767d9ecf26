"""Accounts and balanced transfers, decided in memory on accounts that the caller locked.

What is refused is rolled back, so a refusal changes no account.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, NewType, Protocol
from uuid import UUID

from pydantic_core import to_json

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, TenantId
from ledger.domain import chart, lots, movements

AccountId = NewType("AccountId", int)
State = Literal["open", "frozen", "closed"]


class InsufficientFunds(errors.Refusal):
    """The available balance is smaller than the amount."""

    code: ClassVar[str] = "insufficient_funds"
    status: ClassVar[int] = 402


class BalanceOutOfRange(errors.Refusal):
    """The balance would no longer fit an account."""

    code: ClassVar[str] = "balance_out_of_range"


class AccountFrozen(errors.Refusal):
    """The account is frozen: nothing may be taken from it."""

    code: ClassVar[str] = "account_frozen"


class AccountClosed(errors.Refusal):
    """The account is closed: nothing moves on it any more."""

    code: ClassVar[str] = "account_closed"


Figures = tuple[int, int, int, int, int, State]


@dataclass(slots=True, eq=False)
class Account:
    """One account as it stands. `sequence` counts its postings, `version` every change of it."""

    id: AccountId
    opening: chart.Opening
    overdraft_minor: int
    balance_minor: int = 0
    held_minor: int = 0
    sequence: int = 0
    version: int = 0
    state: State = "open"
    in_lots: list[lots.Lot] = field(default_factory=list)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        """Write once what every line about this account begins with."""
        (_, code, asset), owner_key = self.opening.name, self.opening.owner_key
        self.label = to_json({"code": code, "owner": owner_key, "asset": asset}).decode()[:-1]

    @property
    def available_minor(self) -> int:
        """What may be spent."""
        return self.balance_minor - self.held_minor

    def told(self) -> ledger.AccountState:
        """Give the account as events tell it."""
        name = self.opening.name
        return ledger.AccountState(
            code=name.code,
            owner=self.opening.owner,
            asset=name.asset,
            balance_minor=self.balance_minor,
            held_minor=self.held_minor,
            version=self.version,
        )

    def figures(self) -> Figures:
        """Give everything that may change."""
        return self.overdraft_minor, self.balance_minor, self.held_minor, self.sequence, self.version, self.state

    def reset(self, *figures: *Figures) -> None:
        """Go back to figures that were remembered."""
        self.overdraft_minor, self.balance_minor, self.held_minor, self.sequence, self.version, self.state = figures

    def move(self, amount_minor: int, held_minor: int) -> None:
        """Change balance and held at once; an amount other than zero is a posting.

        Raises InsufficientFunds when it would overdraw, BalanceOutOfRange when it would not fit, AccountFrozen when it
        takes from a frozen account, and AccountClosed. Giving back what was held passes a freeze.
        """
        balance_minor, all_held_minor = self.balance_minor + amount_minor, self.held_minor + held_minor
        is_taking = amount_minor < 0 or held_minor > 0
        if self.state != "open":
            if self.state == "closed":
                raise AccountClosed
            if is_taking:
                raise AccountFrozen
        if not -AMOUNT_MINOR_MAX <= balance_minor <= AMOUNT_MINOR_MAX:
            raise BalanceOutOfRange
        if is_taking and balance_minor - all_held_minor < -self.overdraft_minor:
            raise InsufficientFunds
        assert all_held_minor >= 0, "more was released than held"
        self.balance_minor, self.held_minor = balance_minor, all_held_minor
        self.sequence += amount_minor != 0
        self.version += 1


class Line(NamedTuple):
    """One leg of a posted transfer with what else its account says right after it."""

    account: Account
    posting: movements.Posting
    held_minor: int
    version: int


@dataclass(slots=True)
class Posted:
    """A transfer on the books.

    It goes to the outbox as it is and writes itself as `ledger.TransferPosted`: building and validating the contract's
    five models for each of a batch's hundreds of transfers costs more than the database takes to store them.
    """

    TYPE: ClassVar[str] = ledger.TransferPosted.TYPE

    transfer: movements.Transfer
    lines: list[Line]

    @property
    def KIND(self) -> str:  # noqa: N802 - a class constant of the contracts
        """An event."""
        return ledger.TransferPosted.KIND

    @property
    def sequence(self) -> int:
        """No order: every line has its account's version."""
        return 0

    @property
    def tenant(self) -> TenantId:
        """Whose books these are."""
        return self.transfer.tenant

    @property
    def subject(self) -> str:
        """The transfer's id."""
        return str(self.transfer.id)

    @property
    def partition_key(self) -> str:
        """The user whose money moved."""
        for line in self.lines:
            if line.account.opening.owner_key:
                return f"{self.transfer.tenant}:{line.account.opening.owner_key}"
        return f"{self.transfer.tenant}:system"

    def model_dump_json(self) -> str:
        """Write the event as its contract would."""
        transfer_id, tenant, kind, _, reference, occurred_at, _, reverses = self.transfer
        lines = ",".join(
            [
                f'{{"account":{account.label},"balance_minor":{balance_minor},"held_minor":{held_minor},'
                f'"version":{version}}},"amount_minor":{amount_minor},"sequence":{sequence}}}'
                for account, (_, sequence, _, amount_minor, balance_minor, _), held_minor, version in self.lines
            ]
        )
        undone = f'"{reverses}"' if reverses else "null"
        return (
            f'{{"tenant":{_quoted(tenant)},"transfer_id":"{transfer_id}","kind":"{kind}",'
            f'"reference":{_quoted(reference)},"occurred_at":"{_stamp(occurred_at)}","reverses":{undone},'
            f'"postings":[{lines}]}}'
        )


class Changeable(Protocol):
    """Something that can be put back to how it stood."""

    def figures(self) -> tuple[Any, ...]: ...
    def reset(self, *figures: Any) -> None: ...


class Books:
    """The locked accounts of one transaction; what was changed and posted is remembered, to be written at once.

    `at` is the moment of recording by the database's clock, never before an earlier posting of the same accounts.
    `new_id` gives ids that grow with time.
    """

    def __init__(self, accounts: Iterable[Account], *, at: datetime, new_id: Callable[[], UUID]) -> None:
        """Open the books on accounts as they were read."""
        self.at, self.new_id = at, new_id
        self.accounts = {account.opening.name: account for account in accounts}
        self.written = movements.Written()
        self._read = {account: account.figures() for account in self.accounts.values()}
        # Things only, no methods of ours: a cycle would leave thousands of values of each batch to the collector.
        self._undo: list[tuple[Changeable, tuple[Any, ...]]] = []

    def account(self, name: chart.AccountName) -> Account:
        """Give an account as it stands now; one that was never opened has nothing, so raises InsufficientFunds."""
        try:
            return self.accounts[name]
        except KeyError:
            raise InsufficientFunds from None

    def changed(self) -> list[Account]:
        """Give the accounts that changed in more than their postings: what is held, the version, the limit, the state.

        A hold that was placed and released changes only the version, of which events have told.
        """
        return [
            account
            for account, (overdraft_minor, _, held_minor, sequence, version, state) in self._read.items()
            if account.held_minor != held_minor
            or account.version - account.sequence != version - sequence
            or account.overdraft_minor != overdraft_minor
            or account.state != state
        ]

    def mark(self) -> int:
        """Give the place to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undo everything since a mark."""
        while len(self._undo) > mark:
            thing, before = self._undo.pop()
            thing.reset(*before)

    def remember(self, thing: Changeable) -> None:
        """Keep how a thing stands that is about to be changed."""
        self._undo.append((thing, thing.figures()))

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
    ) -> movements.Transfer:
        """Give a new transfer; it takes effect now where nothing else is said."""
        new_id = ledger.TransferId(self.new_id())
        return movements.Transfer(
            new_id, tenant, kind, source_key, reference, occurred_at or self.at, event_id, reverses
        )

    def post(
        self,
        transfer: movements.Transfer,
        legs: Sequence[movements.Leg],
        *,
        is_reversal: bool = False,
        is_written: bool = False,
    ) -> Posted:
        """Post one transfer, which is there already where `is_written`. The caller rolls back a refusal's half.

        Raises Unbalanced, FlowNotAllowed unless it is a reversal, and what moving an account raises.
        """
        movements.check_balanced(legs)
        written, undo = self.written, self._undo
        self.remember(written)
        lines = []
        for leg in legs:
            account = self.account(leg.name)
            undo.append((account, account.figures()))
            account.move(leg.amount_minor, leg.held_minor)
            if account.opening.kind == "points":
                self._use_lots(account, leg, transfer)
            posting = movements.Posting(
                account.id, account.sequence, transfer.id, leg.amount_minor, account.balance_minor, self.at
            )
            written.postings.append(posting)
            lines.append(Line(account, posting, account.held_minor, account.version))
        if not is_reversal:
            _check_flows(lines)
        if not is_written:
            written.transfers.append(transfer)
        return Posted(transfer, lines)

    def hold(self, account: Account, amount_minor: int) -> list[lots.Share]:
        """Set an amount aside; gives the lots that it is held on. Raises what moving an account raises."""
        self.remember(account)
        account.move(0, amount_minor)
        if account.opening.kind != "points":
            return []
        shares = self._spendable(account, amount_minor)
        for lot, part_minor in shares:
            self.remember(lot)
            lot.held_minor += part_minor
        return shares

    def give_back(self, account: Account, amount_minor: int, shares: Sequence[lots.Share]) -> None:
        """Release an amount that was held."""
        self.remember(account)
        account.move(0, -amount_minor)
        self.free(shares)

    def free(self, shares: Sequence[lots.Share]) -> None:
        """Let go of lots, after the account itself was told."""
        for lot, part_minor in shares:
            self.remember(lot)
            lot.held_minor -= part_minor

    def _use_lots(self, account: Account, leg: movements.Leg, transfer: movements.Transfer) -> None:
        shares = leg.shares
        if not shares and leg.amount_minor < 0:
            shares = self._spendable(account, -leg.amount_minor)
        elif not shares:
            shares = [lots.Share(lots.Lot(self.new_id(), account.id, leg.expires_at), leg.amount_minor)]
        sign = 1 if leg.amount_minor > 0 else -1
        for lot, part_minor in shares:
            if lot not in account.in_lots:
                account.in_lots.append(lot)  # after a rollback it is an empty lot, which is not written
            self.remember(lot)
            lot.left_minor += sign * part_minor
            if leg.held_minor:
                lot.held_minor -= part_minor
            if lot.left_minor < lot.held_minor:
                raise InsufficientFunds("What came in with this lot is spent already.")
            self.written.uses.append(lots.Use(transfer.id, lot.id, sign * part_minor))

    def _spendable(self, account: Account, amount_minor: int) -> list[lots.Share]:
        shares = lots.spendable(account.in_lots, amount_minor, at=self.at)
        if shares is None:
            raise InsufficientFunds
        return shares


def _stamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _quoted(text: str) -> str:
    return to_json(text).decode()


def _check_flows(lines: Sequence[Line]) -> None:
    """Look at each pair of a debited and a credited account of one asset."""
    for source in lines:
        if source.posting.amount_minor > 0:
            continue
        opening = source.account.opening
        allowed = chart.FLOWS[opening.kind]
        for target in lines:
            other = target.account.opening
            is_credited = target.posting.amount_minor > 0 and other.name.asset == opening.name.asset
            if is_credited and other.kind not in allowed:
                raise chart.FlowNotAllowed(f"{opening.kind} may not be moved to {other.kind}.")
