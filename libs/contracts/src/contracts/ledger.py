"""What the ledger hears and says: every movement that is asked for and posted, and holds on a user's own money."""

from abc import abstractmethod
from datetime import datetime
from typing import ClassVar, Literal, NewType
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.message import (
    AMOUNT_MINOR_MAX,
    Command,
    Currency,
    Event,
    Message,
    Money,
    PositiveMinor,
    SignedMinor,
    TenantId,
    UserId,
)

HoldId = NewType("HoldId", UUID)
TransferId = NewType("TransferId", UUID)

TransferKind = Literal[
    "top_up", "capture", "transfer", "reversal", "grant", "spend", "fee", "refund", "adjustment", "opening", "expiry",
    "deposit", "dispute",
]  # fmt: skip
AskedKind = Literal["grant", "spend", "fee", "refund", "adjustment", "opening"]
"""The kinds of transfer that a command may ask for; the others follow from what happened."""

TRANSFERS_MAX = 64
LEGS_MAX = 32


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
    """A balanced movement is on the books for ever; `reverses` names the transfer that it undoes."""

    transfer_id: TransferId
    kind: TransferKind
    reference: str
    occurred_at: datetime
    reverses: TransferId | None = None
    postings: tuple[PostingLine, ...] = Field(min_length=2)

    @property
    def subject(self) -> str:
        """The transfer's id."""
        return str(self.transfer_id)

    @property
    def partition_key(self) -> str:
        """The user whose money moved, so that one person's statement arrives in order."""
        return partition_key_of(self.tenant, *(line.account for line in self.postings))


class Answer(Event):
    """An answer to one command; the same command again gets the same one, marked as replayed."""

    is_replayed: bool = False


class LedgerCommand(Command):
    """What every command to the ledger has: a key that its outcome is frozen under, for ever."""

    @property
    @abstractmethod
    def request_key(self) -> str:
        """The key, unique in its tenant."""

    @abstractmethod
    def refused(self, code: str, detail: str) -> Answer:
        """Give the answer that refuses this command."""


class AboutHold(Message):
    """What everything about one hold has in common."""

    hold_id: HoldId

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class HoldRefusal(AboutHold, Answer):
    """What every refusal carries: a stable code, and what the hold is for."""

    reference: str
    code: str
    detail: str


class HoldRefused(HoldRefusal, type="ledger.hold.refused.v1"):
    """Nothing is held; a refused hold id never succeeds later."""


class CaptureRefused(HoldRefusal, type="ledger.hold.capture_refused.v1"):
    """Nothing was captured: the hold has ended or is too small."""


class ExtensionRefused(HoldRefusal, type="ledger.hold.extension_refused.v1"):
    """The hold ends when it did."""


class HoldCommand(AboutHold, LedgerCommand):
    """A command about one hold. It does not know what the hold is for; whoever refuses it adds that."""

    REFUSAL: ClassVar[type[HoldRefusal]] = HoldRefused

    def refused(self, code: str, detail: str) -> HoldRefusal:
        """Give the answer that nothing was done."""
        return self.REFUSAL(tenant=self.tenant, hold_id=self.hold_id, reference="", code=code, detail=detail)


class PlaceHold(HoldCommand, type="ledger.hold.place.v1"):
    """Set a user's own money aside; answered by HoldPlaced or HoldRefused.

    `also` is held with it, both or neither: points, say, counted in the same unit as the amount.
    """

    user_id: UserId
    amount: Money
    reference: str = Field(min_length=1, max_length=128)
    expires_at: AwareDatetime
    also: Money | None = None

    @property
    def request_key(self) -> str:
        """The hold's own."""
        return f"hold:{self.hold_id}"

    def refused(self, code: str, detail: str) -> HoldRefusal:
        """Give the answer that nothing is held."""
        return super().refused(code, detail).model_copy(update={"reference": self.reference})


class ExtendHold(HoldCommand, type="ledger.hold.extend.v1"):
    """Make a hold last longer; answered by HoldExtended or ExtensionRefused."""

    REFUSAL = ExtensionRefused

    expires_at: AwareDatetime

    @property
    def request_key(self) -> str:
        """One for each new end."""
        return f"extend:{self.hold_id}:{self.expires_at.isoformat()}"


class CaptureHold(HoldCommand, type="ledger.hold.capture.v1"):
    """Turn a hold into revenue; answered by HoldCaptured or CaptureRefused.

    The rest is released, unless `keep_rest` keeps it for further captures; each of several has a `capture_id`. The
    amount is shared between the parts of the hold in proportion.
    """

    REFUSAL = CaptureRefused

    amount_minor: PositiveMinor
    capture_id: UUID | None = None
    keep_rest: bool = False

    @property
    def request_key(self) -> str:
        """The capture's own, or the hold's where there is only one."""
        return f"capture:{self.capture_id or self.hold_id}"


class ReleaseHold(HoldCommand, type="ledger.hold.release.v1"):
    """Give a hold back to its owner; answered by HoldReleased. Releasing an ended hold changes nothing."""

    @property
    def request_key(self) -> str:
        """The hold's own."""
        return f"release:{self.hold_id}"


class RequestCommand(LedgerCommand):
    """A command with a key of the caller's own choice; refused by RequestRefused."""

    request_id: str = Field(min_length=1, max_length=128)

    @property
    def subject(self) -> str:
        """The request's id."""
        return self.request_id

    @property
    def request_key(self) -> str:
        """The caller's own."""
        return f"request:{self.request_id}"

    def refused(self, code: str, detail: str) -> "RequestRefused":
        """Give the answer that nothing was done."""
        return RequestRefused(tenant=self.tenant, request_id=self.request_id, code=code, detail=detail)


class AskedLeg(BaseModel):
    """One leg of a transfer that is asked for. A credit to an account that keeps lots may expire."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: str = Field(min_length=1, max_length=128)
    asset: Currency
    amount_minor: SignedMinor
    expires_at: AwareDatetime | None = None


class AskedTransfer(BaseModel):
    """One balanced transfer that is asked for; `occurred_at` may lie in the past."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: AskedKind
    reference: str = Field(min_length=1, max_length=128)
    legs: tuple[AskedLeg, ...] = Field(min_length=2, max_length=LEGS_MAX)
    occurred_at: AwareDatetime | None = None


class PostTransfers(RequestCommand, type="ledger.transfers.post.v1"):
    """Post one transfer or a group, all or none; answered by RequestPosted."""

    transfers: tuple[AskedTransfer, ...] = Field(min_length=1, max_length=TRANSFERS_MAX)


class TransferFunds(RequestCommand, type="ledger.funds.transfer.v1"):
    """Move money from one user to another; answered by RequestPosted."""

    from_user_id: UserId
    to_user_id: UserId
    amount: Money
    reference: str = Field(min_length=1, max_length=128)


class ReverseTransfer(RequestCommand, type="ledger.transfer.reverse.v1"):
    """Undo a transfer, or a part of it in proportion when an amount is given; answered by RequestPosted."""

    transfer_id: TransferId
    reference: str = Field(min_length=1, max_length=128)
    amount_minor: PositiveMinor | None = None


class AccountCommand(RequestCommand):
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
    """Say how far below zero an account's available balance may go."""

    overdraft_minor: int = Field(strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class AccountAnswer(Answer):
    """An answer that tells an account right after it."""

    account: AccountState

    @property
    def partition_key(self) -> str:
        """The account's owner."""
        return partition_key_of(self.tenant, self.account)

    @property
    def sequence(self) -> int:
        """The account's version."""
        return self.account.version


class RequestAnswer(Answer):
    """An answer to a command with a key of the caller's own."""

    request_id: str

    @property
    def subject(self) -> str:
        """The request's id."""
        return self.request_id


class RequestPosted(RequestAnswer, type="ledger.request.posted.v1"):
    """What a request asked for is on the books; each transfer is told by a TransferPosted of its own."""

    transfer_ids: tuple[TransferId, ...]


class RequestRefused(RequestAnswer, type="ledger.request.refused.v1"):
    """Nothing was done; this key never succeeds later."""

    code: str
    detail: str


class AccountChanged(AccountAnswer, RequestAnswer, type="ledger.account.changed.v1"):
    """An account as it stands after a command about it."""

    state: Literal["open", "frozen", "closed"]
    overdraft_minor: int = Field(ge=0)

    @property
    def subject(self) -> str:
        """The account's code."""
        return self.account.code


class HoldPart(BaseModel):
    """What happened to one part of a hold, and its account right after."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: AccountState
    amount_minor: int = Field(strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class HoldEvent(AboutHold, AccountAnswer):
    """What every event of a hold carries: the amount of all its parts, and its first account right after it.

    `parts` tells them apart where there are two.
    """

    reference: str
    amount: Money
    occurred_at: datetime
    parts: tuple[HoldPart, ...] = ()


class HoldPlaced(HoldEvent, type="ledger.hold.placed.v1"):
    """The amount is set aside: still the owner's balance, no longer available."""

    expires_at: datetime


class HoldExtended(HoldEvent, type="ledger.hold.extended.v1"):
    """The hold lasts longer; `amount` is what it still holds."""

    expires_at: datetime


class HoldCaptured(HoldEvent, type="ledger.hold.captured.v1"):
    """`amount` was taken from the hold and posted; `remaining_minor` is still held, the rest is released."""

    transfer_id: TransferId
    remaining_minor: int = Field(default=0, strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class HoldReleased(HoldEvent, type="ledger.hold.released.v1"):
    """`amount` is available to its owner again."""


class HoldExpired(HoldEvent, type="ledger.hold.expired.v1"):
    """Nobody captured the hold in time; `amount` is available to its owner again."""


HoldEnding = HoldCaptured | HoldReleased | HoldExpired | HoldRefused


def partition_key_of(tenant: TenantId, *accounts: AccountState) -> str:
    """Give the key that orders one owner's movements; system-only movements are ordered by tenant."""
    owner = next((account.owner for account in accounts if account.owner is not None), None)
    return f"{tenant}:{owner or 'system'}"
