"""What the ledger hears and says: holds on a user's own money, and every movement that was posted."""

from datetime import datetime
from typing import Literal, NewType
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.message import Command, Currency, Event, Money, PositiveMinor, SignedMinor, TenantId, UserId

HoldId = NewType("HoldId", UUID)
TransferId = NewType("TransferId", UUID)

TransferKind = Literal["top_up", "capture"]


class AccountState(BaseModel):
    """One account right after a movement. `version` grows by one with every change of balance or held."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    owner: UserId | None
    asset: Currency
    balance_minor: SignedMinor
    held_minor: SignedMinor
    version: int = Field(ge=0)


class PostingLine(BaseModel):
    """One leg of a transfer: credits are positive, debits negative; the legs of a transfer sum to zero."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: AccountState
    amount_minor: SignedMinor
    sequence: int = Field(ge=1)


class TransferPosted(Event, type="ledger.transfer.posted.v1"):
    """A balanced movement is on the books for ever."""

    transfer_id: TransferId
    kind: TransferKind
    reference: str
    occurred_at: datetime
    postings: tuple[PostingLine, ...] = Field(min_length=2)

    @property
    def subject(self) -> str:
        """The transfer's id."""
        return str(self.transfer_id)

    @property
    def partition_key(self) -> str:
        """The user whose money moved, so that one person's statement arrives in order."""
        return partition_key_of(self.tenant, *(line.account for line in self.postings))


class PlaceHold(Command, type="ledger.hold.place.v1"):
    """Set a user's own money aside; answered by HoldPlaced or HoldRefused."""

    hold_id: HoldId
    user_id: UserId
    amount: Money
    reference: str = Field(min_length=1, max_length=128)
    expires_at: datetime

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class CaptureHold(Command, type="ledger.hold.capture.v1"):
    """Turn a hold into revenue; answered by HoldCaptured or CaptureRefused."""

    hold_id: HoldId
    amount_minor: PositiveMinor

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class ReleaseHold(Command, type="ledger.hold.release.v1"):
    """Give a hold back to its owner; answered by HoldReleased. Releasing an ended hold changes nothing."""

    hold_id: HoldId

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class HoldEvent(Event):
    """What every event of a hold carries: the hold, and the account right after it."""

    hold_id: HoldId
    reference: str
    amount: Money
    occurred_at: datetime
    account: AccountState

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)

    @property
    def partition_key(self) -> str:
        """The user whose money is held."""
        return partition_key_of(self.tenant, self.account)

    @property
    def sequence(self) -> int:
        """The account's version."""
        return self.account.version


class HoldPlaced(HoldEvent, type="ledger.hold.placed.v1"):
    """The amount is set aside: still the owner's balance, no longer available."""

    expires_at: datetime


class HoldCaptured(HoldEvent, type="ledger.hold.captured.v1"):
    """`amount` was taken from the hold and posted; what was left of the hold is released."""

    transfer_id: TransferId


class HoldReleased(HoldEvent, type="ledger.hold.released.v1"):
    """`amount` is available to its owner again."""


class HoldExpired(HoldEvent, type="ledger.hold.expired.v1"):
    """Nobody captured the hold in time; `amount` is available to its owner again."""


class HoldRefusal(Event):
    """What every refusal carries: a stable code, and the hold that it is about."""

    hold_id: HoldId
    reference: str
    code: str
    detail: str

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class HoldRefused(HoldRefusal, type="ledger.hold.refused.v1"):
    """Nothing is held; a refused hold id never succeeds later."""


class CaptureRefused(HoldRefusal, type="ledger.hold.capture_refused.v1"):
    """Nothing was captured: the hold has ended or is too small."""


def partition_key_of(tenant: TenantId, *accounts: AccountState) -> str:
    """Give the key that orders one owner's movements; system-only movements are ordered by tenant."""
    owner = next((account.owner for account in accounts if account.owner is not None), None)
    return f"{tenant}:{owner or 'system'}"
