"""Holds: a user's own money, or money and points together, set aside; then captured, released or expired.

A capture is allocated to the parts of a hold in proportion to what they still hold, exact to the last minor unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, NamedTuple, TypedDict
from uuid import UUID

from chassis import errors
from contracts import assets, ledger
from contracts.message import AMOUNT_MINOR_MAX, Money, TenantId, UserId
from ledger.domain import allocation, books, chart, double_entry, lots, posted

HoldStatus = Literal["placed", "captured", "released", "expired", "refused"]
CommandOnHold = ledger.ExtendHold | ledger.CaptureHold | ledger.ReleaseHold
"""The commands on a hold that exists."""


class HoldEnded(errors.Refusal):
    """The hold has ended: it was captured, released or refused, or it has expired."""

    code: ClassVar[str] = "hold_ended"


class CaptureAboveHold(errors.Refusal):
    """No more than what is still held can be captured."""

    code: ClassVar[str] = "capture_above_hold"


class HoldNotExtended(errors.Refusal):
    """A hold can only be made to last longer."""

    code: ClassVar[str] = "hold_not_extended"


class PartsNotHoldable(errors.Refusal):
    """The parts of a hold are of different assets that count in the same unit, and all together still an amount."""

    code: ClassVar[str] = "parts_not_holdable"
    status: ClassVar[int] = 422


class Part(NamedTuple):
    """What is held on one account: at first, and still; `allocations` are its lots, where the account keeps lots."""

    name: chart.AccountName
    amount_minor: int
    left_minor: int = 0
    allocations: Sequence[lots.LotAllocation] = ()


class HoldValues(NamedTuple):
    """The values of a hold that change. Every state but `placed` is final; `ending` is the event that ended it."""

    expires_at: datetime
    parts: Sequence[Part]
    captured_minor: int = 0
    state: HoldStatus = "placed"
    ending: ledger.HoldEnding | None = None

    @property
    def left_minor(self) -> int:
        """What is still held, all parts together."""
        return sum(part.left_minor for part in self.parts)

    @property
    def amounts(self) -> list[int]:
        """What is still held of each part."""
        return [part.left_minor for part in self.parts]


@dataclass(slots=True, eq=False)
class Hold:
    """A hold as it is now and as it was loaded; None for a new one."""

    tenant: TenantId
    id: ledger.HoldId
    owner: UserId
    reference: str
    current: HoldValues
    loaded: HoldValues | None = None


class EventFields(TypedDict):
    """The fields that every event of a hold has."""

    tenant: TenantId
    hold_id: ledger.HoldId
    reference: str
    amount: Money
    occurred_at: datetime
    account: ledger.AccountState
    parts: tuple[ledger.HoldPart, ...]


def from_command(command: ledger.PlaceHold) -> Hold:
    """Make the hold that a command describes; nothing is held yet. Raises UnknownAsset."""
    amounts = [command.amount, *([command.also] if command.also else [])]
    parts = [
        Part(chart.user_account(command.tenant, command.user_id, amount.currency).name, amount.amount_minor)
        for amount in amounts
    ]
    values = HoldValues(command.expires_at, parts)
    return Hold(command.tenant, command.hold_id, command.user_id, command.reference, values)


def place(book: books.Books, hold: Hold) -> ledger.HoldPlaced:
    """Hold all parts or none; the caller rolls a refusal back.

    Raises HoldEnded when its time is over already, PartsNotHoldable, and what holding raises.
    """
    values = hold.current
    if book.now >= values.expires_at:
        raise HoldEnded("The time of the hold was over before it could be placed.")
    is_twice = len({part.name for part in values.parts}) < len(values.parts)
    is_mixed = len({assets.ASSETS[part.name.asset].exponent for part in values.parts}) > 1
    if is_twice or is_mixed or sum(part.amount_minor for part in values.parts) > AMOUNT_MINOR_MAX:
        raise PartsNotHoldable
    parts = [
        part._replace(left_minor=part.amount_minor, allocations=book.hold(book.account(part.name), part.amount_minor))
        for part in values.parts
    ]
    book.change(hold, values._replace(parts=parts))
    return ledger.HoldPlaced(**_event_fields(book, hold, hold.current.amounts), expires_at=values.expires_at)


def extend(book: books.Books, hold: Hold, expires_at: datetime) -> ledger.HoldExtended:
    """Make a hold last longer. Raises HoldEnded, HoldNotExtended."""
    values = _placed(hold, at=book.now)
    if expires_at < values.expires_at:
        raise HoldNotExtended
    book.change(hold, values._replace(expires_at=expires_at))
    return ledger.HoldExtended(**_event_fields(book, hold, values.amounts), expires_at=expires_at)


def capture(
    book: books.Books, hold: Hold, command: ledger.CaptureHold, *, event_id: UUID
) -> tuple[posted.PostedTransfer, ledger.HoldCaptured]:
    """Post what is captured to revenue and release the rest, unless the command keeps it for further captures.

    `event_id` is the message that carries the command. Raises HoldEnded, CaptureAboveHold, and what posting raises.
    """
    values, amount_minor = _placed(hold, at=book.now), command.amount_minor
    if amount_minor > values.left_minor:
        raise CaptureAboveHold(f"Still held are {values.left_minor}, requested were {amount_minor}.")
    is_last = not command.keep_rest or amount_minor == values.left_minor
    amounts = allocation.allocate(amount_minor, values.amounts)
    transfer = book.transfer(hold.tenant, "capture", f"hold:{command.capture_id or hold.id}", hold.reference, event_id)
    legs = []
    for part, part_minor in zip(values.parts, amounts, strict=True):
        if part_minor:
            released_minor = part.left_minor if is_last else part_minor
            taken = lots.first_part(part.allocations, part_minor)
            legs.append(double_entry.Leg(part.name, -part_minor, held_minor=-released_minor, allocations=taken))
            legs.append(double_entry.Leg(revenue_of(part.name).name, part_minor))
    posted_transfer = book.post(transfer, legs)
    parts = [_without(book, *each, is_last=is_last) for each in zip(values.parts, amounts, strict=True)]
    book.change(hold, values._replace(parts=parts, captured_minor=values.captured_minor + amount_minor))
    captured = ledger.HoldCaptured(
        **_event_fields(book, hold, amounts), transfer_id=transfer.id, remaining_minor=hold.current.left_minor
    )
    if is_last:
        book.change(hold, hold.current._replace(state="captured", ending=captured))
    return posted_transfer, captured


def release(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """Release what is still held. For a hold that has ended this returns the event that ended it."""
    return hold.current.ending or _end(book, hold, "released", ledger.HoldReleased)


def expire(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """End a placed hold whose time is over."""
    assert hold.current.state == "placed"
    return _end(book, hold, "expired", ledger.HoldExpired)


def revenue_of(name: chart.AccountName) -> chart.AccountDefinition:
    """Return the account that captures from a user's account are credited to."""
    return chart.system_account(name.tenant, "revenue", name.asset)


def _end(
    book: books.Books, hold: Hold, state: HoldStatus, event: type[ledger.HoldReleased] | type[ledger.HoldExpired]
) -> ledger.HoldEnding:
    values = hold.current
    parts = [_without(book, part, 0, is_last=True) for part in values.parts]
    ending = event(**_event_fields(book, hold, values.amounts))
    book.change(hold, values._replace(parts=parts, state=state, ending=ending))
    return ending


def _without(book: books.Books, part: Part, taken_minor: int, *, is_last: bool) -> Part:
    """Return a part less what was captured of it; after the last capture its rest is released."""
    remaining = lots.subtract(part.allocations, lots.first_part(part.allocations, taken_minor))
    if not is_last:
        return part._replace(left_minor=part.left_minor - taken_minor, allocations=remaining)
    if not taken_minor and part.left_minor:  # no posting lowered what is held of the account
        book.release(book.account(part.name), part.left_minor, remaining)
    else:
        book.release_lots(remaining)
    return part._replace(left_minor=0, allocations=())


def _placed(hold: Hold, *, at: datetime) -> HoldValues:
    if hold.current.state != "placed" or at >= hold.current.expires_at:
        raise HoldEnded
    return hold.current


def _event_fields(book: books.Books, hold: Hold, amounts: Sequence[int]) -> EventFields:
    """Return the fields that every event of a hold has; `amounts` is what the event did to each part."""
    parts = [
        ledger.HoldPart(account=book.account(part.name).snapshot(), amount_minor=amount_minor)
        for part, amount_minor in zip(hold.current.parts, amounts, strict=True)
    ]
    return {
        "tenant": hold.tenant,
        "hold_id": hold.id,
        "reference": hold.reference,
        "amount": Money(amount_minor=sum(amounts), currency=hold.current.parts[0].name.asset),
        "occurred_at": book.at,
        "account": parts[0].account,
        "parts": tuple(parts) if len(parts) > 1 else (),
    }
