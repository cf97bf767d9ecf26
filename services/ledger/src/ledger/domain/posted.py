"""A posted transfer, as the event that reports it."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, NamedTuple

from pydantic_core import to_json

from contracts import ledger
from contracts.message import TenantId
from ledger.domain import accounts, double_entry


class PostedLeg(NamedTuple):
    """One leg of a posted transfer, and its account right after it."""

    account: accounts.Account
    amount_minor: int
    after: accounts.AccountValues


@dataclass(slots=True)
class PostedTransfer:
    """A posted transfer.

    It goes to the outbox as it is and writes itself as `ledger.TransferPosted`: building and validating the contract's
    five models for each of a batch's hundreds of transfers costs more than the database takes to store them.
    """

    TYPE: ClassVar[str] = ledger.TransferPosted.TYPE
    KIND: ClassVar[Literal["event"]] = "event"
    IS_CONSUMED: ClassVar[bool] = ledger.TransferPosted.IS_CONSUMED
    sequence: ClassVar[int] = 0  # every leg has its account's version

    transfer: double_entry.Transfer
    legs: list[PostedLeg]

    @property
    def tenant(self) -> TenantId:
        """The tenant whose books these are."""
        return self.transfer.tenant

    @property
    def subject(self) -> str:
        """The transfer's id."""
        return str(self.transfer.id)

    @property
    def partition_key(self) -> str:
        """The user whose money moved."""
        owners = [leg.account.definition.owner_key for leg in self.legs]
        return f"{self.transfer.tenant}:{next(filter(None, owners), 'system')}"

    def model_dump_json(self) -> str:
        """Write the event exactly as its contract does; a test compares the two."""
        transfer_id, tenant, kind, _, reference, occurred_at, _, reverses = self.transfer
        postings = ",".join(
            [
                f'{{"account":{{{account.json_fields},"balance_minor":{after.balance_minor},"held_minor":{after.held_minor},'
                f'"version":{after.version}}},"amount_minor":{amount_minor},"sequence":{after.sequence}}}'
                for account, amount_minor, after in self.legs
            ]
        )
        reversed_id = f'"{reverses}"' if reverses else "null"
        return (
            f'{{"tenant":{_quoted(tenant)},"transfer_id":"{transfer_id}","kind":"{kind}",'
            f'"reference":{_quoted(reference)},"occurred_at":"{_timestamp(occurred_at)}","reverses":{reversed_id},'
            f'"postings":[{postings}]}}'
        )


def _timestamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _quoted(text: str) -> str:
    return to_json(text).decode()
