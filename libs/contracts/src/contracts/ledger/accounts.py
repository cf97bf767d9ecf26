"""The state of an account, and the commands that change how it may be used."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.ledger import requests
from contracts.message import AMOUNT_MINOR_MAX, Currency, SignedMinor, TenantId, UserId


class AccountState(BaseModel):
    """One account right after a change. `version` grows by one with every change of the balance or of what is held."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    owner: UserId | None
    asset: Currency
    balance_minor: SignedMinor
    held_minor: SignedMinor
    version: int = Field(ge=0)


class AccountCommand(requests.RequestCommand):
    """A command about one account; answered by AccountChanged."""

    account: str = Field(min_length=1, max_length=128)
    asset: Currency


class FreezeAccount(AccountCommand, type="ledger.account.freeze.v1"):
    """Let nothing be taken from an account; holds can still be released."""


class UnfreezeAccount(AccountCommand, type="ledger.account.unfreeze.v1"):
    """Let a frozen account be used again."""


class CloseAccount(AccountCommand, type="ledger.account.close.v1"):
    """Close an empty account for ever."""


class SetOverdraft(AccountCommand, type="ledger.account.limit.v1"):
    """Set how far below zero an account's available balance may go."""

    overdraft_minor: int = Field(strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class AccountAnswer(requests.Answer):
    """An answer that carries the state of one account right after the change."""

    account: AccountState

    @property
    def partition_key(self) -> str:
        """The key of the account's owner."""
        return partition_key_of(self.tenant, self.account)

    @property
    def sequence(self) -> int:
        """The account's version."""
        return self.account.version


class AccountChanged(AccountAnswer, requests.RequestAnswer, type="ledger.account.changed.v1", is_consumed=False):
    """An account as it stands after a command about it."""

    state: Literal["open", "frozen", "closed"]
    overdraft_minor: int = Field(ge=0)

    @property
    def subject(self) -> str:
        """The account's code."""
        return self.account.code


def partition_key_of(tenant: TenantId, *accounts: AccountState) -> str:
    """Give the key that keeps one owner's movements in order; those of the house alone share the tenant's key."""
    owner = next((account.owner for account in accounts if account.owner is not None), None)
    return f"{tenant}:{owner or 'system'}"
