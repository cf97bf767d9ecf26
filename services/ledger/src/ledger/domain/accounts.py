"""Accounts: how postings, holds and an operator's commands change one, and what they must not do to it."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, NewType, assert_never

from pydantic_core import to_json

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX
from ledger.domain import chart, lots

AccountId = NewType("AccountId", int)
AccountStatus = Literal["open", "frozen", "closed"]
CommandOnAccount = ledger.FreezeAccount | ledger.UnfreezeAccount | ledger.CloseAccount | ledger.SetOverdraft


class InsufficientFunds(errors.Refusal):
    """The available balance is smaller than the amount."""

    code: ClassVar[str] = "insufficient_funds"
    status: ClassVar[int] = 402


class BalanceOutOfRange(errors.Refusal):
    """The balance would no longer fit an account."""

    code: ClassVar[str] = "balance_out_of_range"


class AccountFrozen(errors.Refusal):
    """The account is frozen: nothing can be taken from it."""

    code: ClassVar[str] = "account_frozen"


class AccountClosed(errors.Refusal):
    """The account is closed: it accepts no postings and no holds."""

    code: ClassVar[str] = "account_closed"


class AccountNotEmpty(errors.Refusal):
    """Only an account without a balance and without holds can be closed."""

    code: ClassVar[str] = "account_not_empty"


class AccountValues(NamedTuple):
    """The values of an account that change. `sequence` counts its postings, `version` all changes of balance or held.

    `overdraft_minor` is how far below zero the available balance may go.
    """

    overdraft_minor: int
    balance_minor: int = 0
    held_minor: int = 0
    sequence: int = 0
    version: int = 0
    state: AccountStatus = "open"

    @property
    def available_minor(self) -> int:
        """The balance less what is held: what can be spent."""
        return self.balance_minor - self.held_minor

    def with_change(self, amount_minor: int, held_minor: int) -> "AccountValues":
        """Return the values after a change of balance and held; an amount other than zero is a posting.

        Raises InsufficientFunds when the account would be overdrawn beyond its limit, BalanceOutOfRange when the
        balance would not fit a row, AccountFrozen when funds are taken from a frozen account, and AccountClosed.
        A frozen account can still be credited, and its holds released.
        """
        overdraft_minor, balance_minor, all_held_minor, sequence, version, state = self
        balance_minor += amount_minor
        all_held_minor += held_minor
        is_taking = amount_minor < 0 or held_minor > 0
        if state == "closed":
            raise AccountClosed
        if state == "frozen" and is_taking:
            raise AccountFrozen
        if not -AMOUNT_MINOR_MAX <= balance_minor <= AMOUNT_MINOR_MAX:
            raise BalanceOutOfRange
        if is_taking and balance_minor - all_held_minor < -overdraft_minor:
            raise InsufficientFunds
        assert all_held_minor >= 0, "more was released than held"
        sequence += amount_minor != 0
        return AccountValues(overdraft_minor, balance_minor, all_held_minor, sequence, version + 1, state)

    def apply(self, command: CommandOnAccount) -> "AccountValues":
        """Return the values after an operator's command. Freezing a frozen account changes nothing, and so on.

        Raises AccountClosed, AccountNotEmpty, and InsufficientFunds for a limit that is exceeded already.
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
            case ledger.CloseAccount():
                if self.balance_minor or self.held_minor:
                    raise AccountNotEmpty
                return self._replace(state="closed")
            case _:
                assert_never(command)


@dataclass(slots=True, eq=False)
class Account:
    """An account: its values as they are now and as they were loaded, and its lots where it keeps any.

    `json_fields` are the fields that never change, as JSON members without braces. They are encoded once for all events
    of a batch; `posted` puts them into each.
    """

    id: AccountId
    definition: chart.AccountDefinition
    current: AccountValues
    own_lots: list[lots.Lot] = field(default_factory=list)
    loaded: AccountValues = field(init=False)
    json_fields: str = field(init=False)

    def __post_init__(self) -> None:
        """Remember the values as loaded, and encode what never changes."""
        self.loaded = self.current
        (_, code, asset), owner_key = self.definition.name, self.definition.owner_key
        self.json_fields = to_json({"code": code, "owner": owner_key, "asset": asset}).decode()[1:-1]

    @property
    def is_changed(self) -> bool:
        """Whether more has changed than postings change: the limit, the state, what is held, or the version alone."""
        current, loaded = self.current, self.loaded
        return (
            current.held_minor != loaded.held_minor
            or current.version - current.sequence != loaded.version - loaded.sequence
            or current.overdraft_minor != loaded.overdraft_minor
            or current.state != loaded.state
        )

    def snapshot(self) -> ledger.AccountState:
        """Return the account as events carry it."""
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
