"""Accounts: what may be done to one, by moving value and by an operator."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, NewType

from pydantic_core import to_json

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX
from ledger.domain import chart, lots

AccountId = NewType("AccountId", int)
AccountStatus = Literal["open", "frozen", "closed"]


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


class AccountNotEmpty(errors.Refusal):
    """Only an account without a balance and without holds can be closed."""

    code: ClassVar[str] = "account_not_empty"


class AccountValues(NamedTuple):
    """What may change of an account. `sequence` counts its postings, `version` every change of it."""

    overdraft_minor: int
    balance_minor: int = 0
    held_minor: int = 0
    sequence: int = 0
    version: int = 0
    state: AccountStatus = "open"

    @property
    def available_minor(self) -> int:
        """What may be spent."""
        return self.balance_minor - self.held_minor

    def with_change(self, amount_minor: int, held_minor: int) -> "AccountValues":
        """Change balance and held at once; an amount other than zero is a posting.

        Raises InsufficientFunds when it would overdraw, BalanceOutOfRange when it would not fit, AccountFrozen when it
        takes from a frozen account, and AccountClosed. Giving back what was held passes a freeze.
        """
        limit_minor, balance_minor, all_held_minor, sequence, version, state = self
        balance_minor += amount_minor
        all_held_minor += held_minor
        is_taking = amount_minor < 0 or held_minor > 0
        if state == "closed":
            raise AccountClosed
        if state == "frozen" and is_taking:
            raise AccountFrozen
        if not -AMOUNT_MINOR_MAX <= balance_minor <= AMOUNT_MINOR_MAX:
            raise BalanceOutOfRange
        if is_taking and balance_minor - all_held_minor < -limit_minor:
            raise InsufficientFunds
        assert all_held_minor >= 0, "more was released than held"
        sequence += amount_minor != 0
        return AccountValues(limit_minor, balance_minor, all_held_minor, sequence, version + 1, state)

    def apply(self, command: ledger.AccountCommand) -> "AccountValues":
        """Freeze, unfreeze, close, or set the overdraft. What is so already stays so.

        Raises AccountClosed, AccountNotEmpty, and InsufficientFunds for a limit above what is overdrawn already.
        """
        if self.state == "closed":
            raise AccountClosed
        match command:
            case ledger.FreezeAccount():
                return self._replace(state="frozen")
            case ledger.UnfreezeAccount():
                return self._replace(state="open")
            case ledger.SetOverdraft():
                if self.available_minor < -command.overdraft_minor:
                    raise InsufficientFunds
                return self._replace(overdraft_minor=command.overdraft_minor)
        if self.balance_minor or self.held_minor:
            raise AccountNotEmpty
        return self._replace(state="closed")


@dataclass(slots=True, eq=False)
class Account:
    """One account as it stands, and as it `was` read. `label` is what every line about it begins with."""

    id: AccountId
    definition: chart.AccountDefinition
    current: AccountValues
    own_lots: list[lots.Lot] = field(default_factory=list)
    loaded: AccountValues = field(init=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        """Remember how it was read."""
        self.loaded = self.current
        (_, code, asset), owner_key = self.definition.name, self.definition.owner_key
        self.label = to_json({"code": code, "owner": owner_key, "asset": asset}).decode()[:-1]

    @property
    def is_changed(self) -> bool:
        """Tell whether more changed than postings change: limit, state, what is held, versions besides."""
        now, was = self.current, self.loaded
        return (
            now.held_minor != was.held_minor
            or now.version - now.sequence != was.version - was.sequence
            or now.overdraft_minor != was.overdraft_minor
            or now.state != was.state
        )

    def snapshot(self) -> ledger.AccountState:
        """Give the account as events tell it."""
        _, code, asset = self.definition.name
        _, balance_minor, held_minor, _, version, _ = self.current
        return ledger.AccountState(
            code=code,
            owner=self.definition.owner,
            asset=asset,
            balance_minor=balance_minor,
            held_minor=held_minor,
            version=version,
        )
