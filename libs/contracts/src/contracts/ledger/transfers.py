"""Transfers: the commands that request one, and the event of each that was posted."""

from typing import Literal, NewType
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.ledger import accounts, requests
from contracts.message import Currency, Event, Money, PositiveMinor, SignedMinor, Time, UserId

TransferId = NewType("TransferId", UUID)

TransferKind = Literal[
    "top_up", "capture", "transfer", "reversal", "grant", "spend", "fee", "refund", "adjustment", "opening", "expiry",
    "deposit", "dispute",
]  # fmt: skip

RequestedKind = Literal["grant", "spend", "fee", "refund", "adjustment", "opening"]
"""The kinds of transfer that PostTransfers may request; the ledger posts the others by itself."""

TRANSFERS_MAX = 64

LEGS_MAX = 32


class RequestedLeg(BaseModel):
    """One leg of a requested transfer. A credit to an account that keeps lots may expire."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: str = Field(min_length=1, max_length=128)
    asset: Currency
    amount_minor: SignedMinor
    expires_at: Time | None = None


class RequestedTransfer(BaseModel):
    """One requested transfer, which must balance; `occurred_at` may lie in the past."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: RequestedKind
    reference: str = Field(min_length=1, max_length=128)
    legs: tuple[RequestedLeg, ...] = Field(min_length=2, max_length=LEGS_MAX)
    occurred_at: Time | None = None


class PostTransfers(requests.RequestCommand, type="ledger.transfers.post.v1"):
    """Post one transfer or a group, all or none; answered by RequestPosted."""

    transfers: tuple[RequestedTransfer, ...] = Field(min_length=1, max_length=TRANSFERS_MAX)


class TransferFunds(requests.RequestCommand, type="ledger.funds.transfer.v1"):
    """Move money from one user to another; answered by RequestPosted."""

    from_user_id: UserId
    to_user_id: UserId
    amount: Money
    reference: str = Field(min_length=1, max_length=128)


class ReverseTransfer(requests.RequestCommand, type="ledger.transfer.reverse.v1"):
    """Undo a transfer, or a part of it in proportion when an amount is given; answered by RequestPosted."""

    transfer_id: TransferId
    reference: str = Field(min_length=1, max_length=128)
    amount_minor: PositiveMinor | None = None


class RequestPosted(requests.RequestAnswer, type="ledger.request.posted.v1", is_consumed=False):
    """The transfers of a request are posted; each of them is also published as a TransferPosted."""

    transfer_ids: tuple[TransferId, ...]


class PostingLine(BaseModel):
    """One posting of a transfer: credits are positive, debits negative, and the postings of a transfer sum to zero."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: accounts.AccountState
    amount_minor: SignedMinor
    sequence: int = Field(ge=1)


class TransferPosted(Event, type="ledger.transfer.posted.v1"):
    """A balanced transfer is posted, for ever; `reverses` names the transfer that it undoes."""

    transfer_id: TransferId
    kind: TransferKind
    reference: str
    occurred_at: Time
    reverses: TransferId | None = None
    postings: tuple[PostingLine, ...] = Field(min_length=2)

    @property
    def subject(self) -> str:
        """The transfer's id."""
        return str(self.transfer_id)

    @property
    def partition_key(self) -> str:
        """The key of the user whose money moved, so that one person's statement arrives in order."""
        return accounts.partition_key_of(self.tenant, *(line.account for line in self.postings))
