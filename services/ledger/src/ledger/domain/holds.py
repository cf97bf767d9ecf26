"""Holds: a user's own money, or money and points together, set aside; then captured, released or expired.

What is captured is shared between the parts of a hold in proportion to what they still hold, to the last unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import assets, ledger
from contracts.message import AMOUNT_MINOR_MAX, Money, TenantId, UserId
from ledger.domain import allocation, books, chart, double_entry, lots, posted

HoldStatus = Literal["placed", "captured", "released", "expired", "refused"]


class HoldEnded(errors.Refusal):
    """The hold has ended: it was captured, released or refused, or its time is over."""

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
    """What is held on one account: at first, and still; `shares` are the lots it is held on, where there are lots."""

    name: chart.AccountName
    amount_minor: int
    left_minor: int = 0
    shares: Sequence[lots.LotAllocation] = ()


class HoldValues(NamedTuple):
    """What may change of a hold. Every state but `placed` is final; `ending` is what was said when it ended."""

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
    """One hold, as it stands and as it `was` read; a new one was not."""

    tenant: TenantId
    id: ledger.HoldId
    owner: UserId
    reference: str
    current: HoldValues
    loaded: HoldValues | None = None


def from_command(command: ledger.PlaceHold) -> Hold:
    """Read a command as a hold that holds nothing yet. Raises UnknownAsset."""
    amounts = [command.amount, *([command.also] if command.also else [])]
    parts = [
        Part(chart.user_account(command.tenant, command.user_id, amount.currency).name, amount.amount_minor)
        for amount in amounts
    ]
    figures = HoldValues(command.expires_at, parts)
    return Hold(command.tenant, command.hold_id, command.user_id, command.reference, figures)


def place(book: books.Books, hold: Hold) -> ledger.HoldPlaced:
    """Set all parts aside or none.

    Raises HoldEnded when its time is over already, PartsNotHoldable, and what holding raises.
    """
    now = hold.current
    if book.at >= now.expires_at:
        raise HoldEnded("The time of the hold was over before it could be placed.")
    is_twice = len({part.name for part in now.parts}) < len(now.parts)
    is_mixed = len({assets.ASSETS[part.name.asset].exponent for part in now.parts}) > 1
    if is_twice or is_mixed or sum(part.amount_minor for part in now.parts) > AMOUNT_MINOR_MAX:
        raise PartsNotHoldable
    parts = [
        part._replace(left_minor=part.amount_minor, shares=book.hold(book.account(part.name), part.amount_minor))
        for part in now.parts
    ]
    book.change(hold, now._replace(parts=parts))
    return ledger.HoldPlaced(**_event_fields(book, hold, hold.current.amounts), expires_at=now.expires_at)


def extend(book: books.Books, hold: Hold, expires_at: datetime) -> ledger.HoldExtended:
    """Make a hold last longer. Raises HoldEnded, HoldNotExtended."""
    now = _open(hold, at=book.at)
    if expires_at < now.expires_at:
        raise HoldNotExtended
    book.change(hold, now._replace(expires_at=expires_at))
    return ledger.HoldExtended(**_event_fields(book, hold, now.amounts), expires_at=expires_at)


def capture(
    book: books.Books, hold: Hold, command: ledger.CaptureHold, *, event_id: UUID
) -> tuple[posted.PostedTransfer, ledger.HoldCaptured]:
    """Post what is captured to revenue; the rest is released, unless the command keeps it for further captures.

    Raises HoldEnded, CaptureAboveHold, and what posting raises. `event_id` is the command that asked for it.
    """
    now, amount_minor = _open(hold, at=book.at), command.amount_minor
    if amount_minor > now.left_minor:
        raise CaptureAboveHold(f"Still held are {now.left_minor}, asked for were {amount_minor}.")
    is_last = not command.keep_rest or amount_minor == now.left_minor
    amounts = allocation.allocate(amount_minor, now.amounts)
    transfer = book.transfer(hold.tenant, "capture", f"hold:{command.capture_id or hold.id}", hold.reference, event_id)
    legs = []
    for part, taken_minor in zip(now.parts, amounts, strict=True):
        if taken_minor:
            freed_minor = part.left_minor if is_last else taken_minor
            taken = lots.part_of(part.shares, taken_minor)
            legs.append(double_entry.Leg(part.name, -taken_minor, held_minor=-freed_minor, shares=taken))
            legs.append(double_entry.Leg(revenue_of(part.name).name, taken_minor))
    on_books = book.post(transfer, legs)
    parts = [_without(book, *each, is_last=is_last) for each in zip(now.parts, amounts, strict=True)]
    book.change(hold, now._replace(parts=parts, captured_minor=now.captured_minor + amount_minor))
    said = ledger.HoldCaptured(
        **_event_fields(book, hold, amounts), transfer_id=transfer.id, remaining_minor=hold.current.left_minor
    )
    if is_last:
        book.change(hold, hold.current._replace(state="captured", ending=said))
    return on_books, said


def release(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """Give what is still held back to its owner; a hold that has ended says again how it ended."""
    return hold.current.ending or _give_back(book, hold, "released", ledger.HoldReleased)


def expire(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """End a placed hold whose time is over."""
    assert hold.current.state == "placed"
    return _give_back(book, hold, "expired", ledger.HoldExpired)


def revenue_of(name: chart.AccountName) -> chart.AccountDefinition:
    """Give the account that captures of what is held on an account pay to."""
    return chart.system_account(name.tenant, "revenue", name.asset)


def _give_back(
    book: books.Books, hold: Hold, state: HoldStatus, event: type[ledger.HoldReleased] | type[ledger.HoldExpired]
) -> ledger.HoldEnding:
    now = hold.current
    parts = [_without(book, part, 0, is_last=True) for part in now.parts]
    ending = event(**_event_fields(book, hold, now.amounts))
    book.change(hold, now._replace(parts=parts, state=state, ending=ending))
    return ending


def _without(book: books.Books, part: Part, taken_minor: int, *, is_last: bool) -> Part:
    """Give a part of which something was taken, and free the rest when nothing more will be."""
    rest = lots.without(part.shares, lots.part_of(part.shares, taken_minor))
    if not is_last:
        return part._replace(left_minor=part.left_minor - taken_minor, shares=rest)
    if not taken_minor and part.left_minor:  # nothing was posted here, so the freeing is a change of its own
        book.give_back(book.account(part.name), part.left_minor, rest)
    else:
        book.free(rest)
    return part._replace(left_minor=0, shares=())


def _open(hold: Hold, *, at: datetime) -> HoldValues:
    if hold.current.state != "placed" or at >= hold.current.expires_at:
        raise HoldEnded
    return hold.current


def _event_fields(book: books.Books, hold: Hold, amounts: Sequence[int]) -> dict[str, object]:
    """Give what every event of a hold carries, `amounts` being what it did to each part."""
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
