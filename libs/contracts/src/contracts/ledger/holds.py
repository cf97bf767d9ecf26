"""Holds on a user's own money: the commands about one, and the events and refusals that answer them."""

from typing import ClassVar, NewType
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.ledger import accounts, requests, transfers
from contracts.message import AMOUNT_MINOR_MAX, Message, Money, PositiveMinor, Time, UserId

HoldId = NewType("HoldId", UUID)


class AboutHold(Message):
    """A message about one hold."""

    hold_id: HoldId

    @property
    def subject(self) -> str:
        """The hold's id."""
        return str(self.hold_id)


class HoldRefusal(AboutHold, requests.Answer):
    """A refused command about a hold: a stable code, and what the hold is for."""

    reference: str
    code: str
    detail: str


class HoldRefused(HoldRefusal, type="ledger.hold.refused.v1"):
    """Nothing is held; a refused hold id never succeeds later."""


class CaptureRefused(HoldRefusal, type="ledger.hold.capture_refused.v1"):
    """Nothing was captured: the hold has ended or is too small."""


class ExtensionRefused(HoldRefusal, type="ledger.hold.extension_refused.v1", is_consumed=False):
    """The hold was not extended; it expires when it would have."""


class HoldCommand(AboutHold, requests.LedgerCommand):
    """A command about one hold. It does not carry what the hold is for; the ledger adds that to a refusal."""

    REFUSAL: ClassVar[type[HoldRefusal]] = HoldRefused

    def refused(self, code: str, detail: str) -> HoldRefusal:
        """Give the answer that nothing was done."""
        return self.REFUSAL(tenant=self.tenant, hold_id=self.hold_id, reference="", code=code, detail=detail)


class PlaceHold(HoldCommand, type="ledger.hold.place.v1"):
    """Reserve a user's own money; answered by HoldPlaced or HoldRefused.

    `also` is a second amount, such as points, of an asset with as many decimals; both are held or neither.
    """

    user_id: UserId
    amount: Money
    reference: str = Field(min_length=1, max_length=128)
    expires_at: Time
    also: Money | None = None

    @property
    def request_key(self) -> str:
        """The hold's key."""
        return f"hold:{self.hold_id}"

    def refused(self, code: str, detail: str) -> HoldRefusal:
        """Give the answer that nothing is held."""
        return super().refused(code, detail).model_copy(update={"reference": self.reference})


class ExtendHold(HoldCommand, type="ledger.hold.extend.v1"):
    """Make a hold last longer; answered by HoldExtended or ExtensionRefused."""

    REFUSAL = ExtensionRefused

    expires_at: Time

    @property
    def request_key(self) -> str:
        """A key for each new time of expiry."""
        return f"extend:{self.hold_id}:{self.expires_at.isoformat()}"


class CaptureHold(HoldCommand, type="ledger.hold.capture.v1"):
    """Turn a hold into revenue; answered by HoldCaptured or CaptureRefused.

    What is not captured is released, unless `keep_rest` keeps it for further captures, each with its own `capture_id`.
    The amount is taken from the parts of the hold in proportion.
    """

    REFUSAL = CaptureRefused

    amount_minor: PositiveMinor
    capture_id: UUID | None = None
    keep_rest: bool = False

    @property
    def request_key(self) -> str:
        """The key of the capture, or of the hold where there is only one capture."""
        return f"capture:{self.capture_id or self.hold_id}"


class ReleaseHold(HoldCommand, type="ledger.hold.release.v1"):
    """Release a hold; answered by HoldReleased. Releasing an ended hold changes nothing."""

    @property
    def request_key(self) -> str:
        """The hold's key."""
        return f"release:{self.hold_id}"


class HoldPart(BaseModel):
    """The amount of one part of a hold, and its account right after."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: accounts.AccountState
    amount_minor: int = Field(strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class HoldEvent(AboutHold, accounts.AccountAnswer):
    """An event of a hold: the amount of all its parts, and the first part's account right after.

    `parts` has each part by itself where there are two.
    """

    reference: str
    amount: Money
    occurred_at: Time
    parts: tuple[HoldPart, ...] = ()


class HoldPlaced(HoldEvent, type="ledger.hold.placed.v1"):
    """The amount is reserved: it is still in the owner's balance and no longer available."""

    expires_at: Time


class HoldExtended(HoldEvent, type="ledger.hold.extended.v1", is_consumed=False):
    """The hold lasts longer; `amount` is what it still holds."""

    expires_at: Time


class HoldCaptured(HoldEvent, type="ledger.hold.captured.v1"):
    """`amount` was taken from the hold and posted; `remaining_minor` is still held, and anything else is released."""

    transfer_id: transfers.TransferId
    remaining_minor: int = Field(default=0, strict=True, ge=0, le=AMOUNT_MINOR_MAX)


class HoldReleased(HoldEvent, type="ledger.hold.released.v1"):
    """`amount` is available to its owner again."""


class HoldExpired(HoldEvent, type="ledger.hold.expired.v1"):
    """The hold was not captured in time; `amount` is available to its owner again."""


HoldEnding = HoldCaptured | HoldReleased | HoldExpired | HoldRefused
