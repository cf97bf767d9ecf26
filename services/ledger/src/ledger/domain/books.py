"""Accounts and balanced transfers, decided in memory on accounts that the caller locked.

Whatever is refused changes no account. The values are tuples, because one batch makes thousands of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, NamedTuple, NewType
from uuid import UUID

from pydantic_core import to_json

from chassis import errors
from contracts import ledger, payments
from contracts.message import AMOUNT_MINOR_MAX, Currency, TenantId, UserId

AccountId = NewType("AccountId", int)


class InsufficientFunds(errors.Refusal):
    """The available balance is smaller than the amount."""

    code: ClassVar[str] = "insufficient_funds"
    status: ClassVar[int] = 402


class BalanceOutOfRange(errors.Refusal):
    """The balance would no longer fit an account."""

    code: ClassVar[str] = "balance_out_of_range"


class AccountName(NamedTuple):
    """What an account is found by."""

    tenant: TenantId
    code: str
    asset: Currency


class Opening(NamedTuple):
    """What an account is opened with when it is needed for the first time.

    `overdraft_minor` is how far below zero its available balance may go.
    """

    name: AccountName
    owner: UserId | None
    overdraft_minor: int


class Account(NamedTuple):
    """One account as it stands. `sequence` counts its postings, `version` every change of balance or held."""

    id: AccountId
    name: AccountName
    owner: UserId | None
    overdraft_minor: int
    balance_minor: int
    held_minor: int
    sequence: int
    version: int

    @property
    def state(self) -> ledger.AccountState:
        """The account as events tell it."""
        return ledger.AccountState(
            code=self.name.code,
            owner=self.owner,
            asset=self.name.asset,
            balance_minor=self.balance_minor,
            held_minor=self.held_minor,
            version=self.version,
        )

    def changed(self, *, amount_minor: int = 0, held_minor: int = 0) -> "Account":
        """Give the account after one change; an amount other than zero is a posting.

        Raises InsufficientFunds when it would overdraw, BalanceOutOfRange when it would not fit.
        """
        balance_minor, all_held_minor = self.balance_minor + amount_minor, self.held_minor + held_minor
        if abs(balance_minor) > AMOUNT_MINOR_MAX:
            raise BalanceOutOfRange
        if balance_minor - all_held_minor < -self.overdraft_minor:
            raise InsufficientFunds
        assert all_held_minor >= 0, "more was released than held"
        return Account(
            self.id,
            self.name,
            self.owner,
            self.overdraft_minor,
            balance_minor,
            all_held_minor,
            self.sequence + (amount_minor != 0),
            self.version + 1,
        )


class Transfer(NamedTuple):
    """One business movement. `source_key` is its natural key: per tenant and kind it can happen once, for ever."""

    id: ledger.TransferId
    tenant: TenantId
    kind: ledger.TransferKind
    source_key: str
    reference: str
    occurred_at: datetime
    event_id: UUID


class Leg(NamedTuple):
    """What one transfer does to one account: credits are positive; `held_minor` changes along with the balance."""

    name: AccountName
    amount_minor: int
    held_minor: int = 0


class Posting(NamedTuple):
    """One leg on the books, with the balance right after it."""

    account_id: AccountId
    sequence: int
    transfer_id: ledger.TransferId
    amount_minor: int
    balance_after_minor: int


@dataclass(frozen=True, slots=True)
class Posted:
    """A transfer on the books, with each account right after it and what it was moved by.

    It goes to the outbox as it is and writes itself as `ledger.TransferPosted`: building and validating the contract's
    five models for each of a batch's hundreds of transfers costs more than the database takes to store them.
    """

    TYPE: ClassVar[str] = ledger.TransferPosted.TYPE

    transfer: Transfer
    lines: tuple[tuple[Account, int], ...]

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
        owner = next((account.owner for account, _ in self.lines if account.owner is not None), "system")
        return f"{self.tenant}:{owner}"

    def model_dump_json(self) -> str:
        """Write the event as its contract would."""
        transfer = self.transfer
        return to_json(
            {
                "tenant": transfer.tenant,
                "transfer_id": transfer.id,
                "kind": transfer.kind,
                "reference": transfer.reference,
                "occurred_at": transfer.occurred_at,
                "postings": [
                    {
                        "account": {
                            "code": account.name.code,
                            "owner": account.owner,
                            "asset": account.name.asset,
                            "balance_minor": account.balance_minor,
                            "held_minor": account.held_minor,
                            "version": account.version,
                        },
                        "amount_minor": amount_minor,
                        "sequence": account.sequence,
                    }
                    for account, amount_minor in self.lines
                ],
            }
        ).decode()


class Books:
    """The locked accounts of one transaction; what was changed and posted is remembered, to be written at once."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        """Open the books on accounts as they were read."""
        self._accounts = {account.name: account for account in accounts}
        self._before = dict(self._accounts)
        self.postings: list[Posting] = []

    def add(self, opened: Iterable[Account]) -> None:
        """Take in accounts that were opened after these books."""
        for account in opened:
            self._accounts[account.name] = self._before[account.name] = account

    def account(self, name: AccountName) -> Account | None:
        """Give an account as it stands now, or None when it was never opened."""
        return self._accounts.get(name)

    def changed(self) -> list[Account]:
        """Give the accounts that no longer stand as they were read."""
        return [account for name, account in self._accounts.items() if account is not self._before[name]]

    def post(self, transfer: Transfer, legs: Sequence[Leg]) -> Posted:
        """Post one transfer, all legs or none; the legs sum to zero per asset and name each account once.

        Raises InsufficientFunds or BalanceOutOfRange.
        """
        _assert_balanced(legs)
        after = [self._accounts[name].changed(amount_minor=amount, held_minor=held) for name, amount, held in legs]
        for account, leg in zip(after, legs, strict=True):
            self._accounts[account.name] = account
            self.postings.append(
                Posting(account.id, account.sequence, transfer.id, leg.amount_minor, account.balance_minor)
            )
        return Posted(transfer, tuple(zip(after, [leg.amount_minor for leg in legs], strict=True)))

    def set_aside(self, name: AccountName, amount_minor: int) -> Account:
        """Hold an amount, or give it back when negative. Raises InsufficientFunds, also for an account never opened."""
        account = self._accounts.get(name)
        if account is None:
            raise InsufficientFunds
        self._accounts[name] = account.changed(held_minor=amount_minor)
        return self._accounts[name]


class TopUp(NamedTuple):
    """A paid payment as the ledger sees it: from the provider's clearing account to the payer's wallet."""

    transfer: Transfer
    clearing: Opening
    wallet: Opening
    amount_minor: int

    @property
    def legs(self) -> tuple[Leg, Leg]:
        """The debit of the clearing account and the credit of the wallet."""
        return Leg(self.clearing.name, -self.amount_minor), Leg(self.wallet.name, self.amount_minor)


def wallet(tenant: TenantId, user_id: UserId, asset: Currency) -> Opening:
    """Give a user's own account in one asset; it can't be overdrawn."""
    return Opening(AccountName(tenant, f"user:{user_id}:wallet", asset), user_id, 0)


@lru_cache(maxsize=1_024)  # a few accounts stand behind every top-up of a batch
def clearing(tenant: TenantId, provider: str, provider_account: str, asset: Currency) -> Opening:
    """Give the account of what a provider owes us; it goes below zero by all that it ever took in."""
    return Opening(AccountName(tenant, f"clearing:{provider}:{provider_account}", asset), None, AMOUNT_MINOR_MAX)


def revenue(tenant: TenantId, asset: Currency) -> Opening:
    """Give the account of what was sold."""
    return Opening(AccountName(tenant, "revenue", asset), None, 0)


def top_up(event: payments.PaymentPaid, *, transfer_id: ledger.TransferId, event_id: UUID) -> TopUp:
    """Read a paid payment as a transfer; the payment's id is its natural key, whatever event carries it."""
    tenant, asset, key = event.tenant, event.amount.currency, f"payment:{event.payment_id}"
    return TopUp(
        Transfer(transfer_id, tenant, "top_up", key, key, event.paid_at, event_id),
        clearing(tenant, event.provider, event.provider_account, asset),
        wallet(tenant, event.user_id, asset),
        event.amount.amount_minor,
    )


def _assert_balanced(legs: Sequence[Leg]) -> None:
    left_over = dict.fromkeys([leg.name.asset for leg in legs], 0)
    for name, amount_minor, _ in legs:
        left_over[name.asset] += amount_minor
    assert not any(left_over.values()), "the legs of a transfer sum to zero per asset"
    assert len({leg.name for leg in legs}) == len(legs), "a transfer names an account once"
