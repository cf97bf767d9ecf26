"""Holds: a user's own money, or money and points together, set aside; then captured, released or expired.

What is captured is shared between the parts of a hold in proportion to what they still hold, to the last unit.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, Currency, Money, TenantId, UserId
from ledger.domain import books, chart, lots, movements, shares

State = Literal["placed", "captured", "released", "expired", "refused"]


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


class UnknownHold(Exception):  # noqa: N818 - a state of the command, not a failure of ours
    """Nobody asked for this hold yet. Its PlaceHold may be on its way, so what follows it is tried again later."""


@dataclass(slots=True)
class Part:
    """What is held on one account: at first, and still; `shares` are the lots it is held on, where there are lots."""

    name: chart.AccountName
    amount_minor: int
    left_minor: int = 0
    shares: list[lots.Share] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Hold:
    """One hold. Every state but `placed` is final; `ending` is what was said when it ended, or None.

    `was` is how it stood when it was read, None for a new one.
    """

    tenant: TenantId
    id: ledger.HoldId
    owner: UserId
    reference: str
    expires_at: datetime
    parts: list[Part]
    captured_minor: int = 0
    state: State = "placed"
    ending: ledger.HoldEnding | None = None
    was: tuple[object, ...] | None = None

    @property
    def asset(self) -> Currency:
        """The asset that amounts of the whole hold are told in."""
        return self.parts[0].name.asset

    @property
    def left_minor(self) -> int:
        """What is still held, all parts together."""
        return sum(part.left_minor for part in self.parts)

    def figures(self) -> tuple[object, ...]:
        """Give everything that may change."""
        parts = tuple((part.left_minor, part.shares) for part in self.parts)
        return self.expires_at, parts, self.captured_minor, self.state, self.ending

    def reset(
        self,
        expires_at: datetime,
        parts: tuple[tuple[int, list[lots.Share]], ...],
        captured_minor: int,
        state: State,
        ending: ledger.HoldEnding | None,
    ) -> None:
        """Go back to figures that were remembered."""
        self.expires_at, self.captured_minor, self.state, self.ending = expires_at, captured_minor, state, ending
        for part, (left_minor, part_shares) in zip(self.parts, parts, strict=True):
            part.left_minor, part.shares = left_minor, part_shares


def asked(command: ledger.PlaceHold) -> Hold:
    """Read a command as a hold that holds nothing yet. Raises UnknownAsset."""
    amounts = [command.amount, *([command.also] if command.also else [])]
    parts = [
        Part(chart.funds(command.tenant, command.user_id, amount.currency).name, amount.amount_minor)
        for amount in amounts
    ]
    return Hold(command.tenant, command.hold_id, command.user_id, command.reference, command.expires_at, parts)


def place(book: books.Books, hold: Hold) -> ledger.HoldPlaced:
    """Set all parts aside or none.

    Raises HoldEnded when its time is over already, PartsNotHoldable, and what holding raises.
    """
    if book.at >= hold.expires_at:
        raise HoldEnded("The time of the hold was over before it could be placed.")
    if len({part.name for part in hold.parts}) < len(hold.parts):
        raise PartsNotHoldable
    if sum(part.amount_minor for part in hold.parts) > AMOUNT_MINOR_MAX:
        raise PartsNotHoldable
    if len({chart.ASSETS[part.name.asset].exponent for part in hold.parts}) > 1:
        raise PartsNotHoldable
    book.remember(hold)
    for part in hold.parts:
        part.shares = book.hold(book.account(part.name), part.amount_minor)
        part.left_minor = part.amount_minor
    return ledger.HoldPlaced(
        **_said(book, hold, [part.amount_minor for part in hold.parts]), expires_at=hold.expires_at
    )


def extend(book: books.Books, hold: Hold, expires_at: datetime) -> ledger.HoldExtended:
    """Make a hold last longer. Raises HoldEnded, HoldNotExtended."""
    _check_open(hold, at=book.at)
    if expires_at < hold.expires_at:
        raise HoldNotExtended
    book.remember(hold)
    hold.expires_at = expires_at
    return ledger.HoldExtended(**_said(book, hold, [part.left_minor for part in hold.parts]), expires_at=expires_at)


def capture(
    book: books.Books, hold: Hold, command: ledger.CaptureHold, *, event_id: UUID
) -> tuple[books.Posted, ledger.HoldCaptured]:
    """Post what is captured to revenue; the rest is released, unless the command keeps it for further captures.

    Raises HoldEnded, CaptureAboveHold, and what posting raises. `event_id` is the command that asked for it.
    """
    _check_open(hold, at=book.at)
    if command.amount_minor > hold.left_minor:
        raise CaptureAboveHold(f"Still held are {hold.left_minor}, asked for were {command.amount_minor}.")
    book.remember(hold)
    is_last = not command.keep_rest or command.amount_minor == hold.left_minor
    amounts = shares.split(command.amount_minor, [part.left_minor for part in hold.parts])
    transfer = book.transfer(hold.tenant, "capture", f"hold:{command.capture_id or hold.id}", hold.reference, event_id)
    legs: list[movements.Leg] = []
    for part, amount_minor in zip(hold.parts, amounts, strict=True):
        if amount_minor:
            legs += _legs(part, amount_minor, freed_minor=part.left_minor if is_last else amount_minor)
    posted = book.post(transfer, legs)
    for part, amount_minor in zip(hold.parts, amounts, strict=True):
        _settle(book, part, amount_minor, is_last=is_last)
    hold.captured_minor += command.amount_minor
    said = ledger.HoldCaptured(**_said(book, hold, amounts), transfer_id=transfer.id, remaining_minor=hold.left_minor)
    if is_last:
        hold.state, hold.ending = "captured", said
    return posted, said


def release(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """Give what is still held back to its owner; a hold that has ended says again how it ended."""
    return hold.ending or _give_back(book, hold, "released", ledger.HoldReleased)


def expire(book: books.Books, hold: Hold) -> ledger.HoldEnding:
    """End a placed hold whose time is over."""
    assert hold.state == "placed"
    return _give_back(book, hold, "expired", ledger.HoldExpired)


def revenue_of(part: Part) -> chart.Opening:
    """Give the account that captures of a part pay to."""
    return chart.system(part.name.tenant, "revenue", part.name.asset)


def _give_back(
    book: books.Books, hold: Hold, state: State, event: type[ledger.HoldReleased] | type[ledger.HoldExpired]
) -> ledger.HoldEnding:
    book.remember(hold)
    amounts = [part.left_minor for part in hold.parts]
    for part in hold.parts:
        if part.left_minor:
            book.give_back(book.account(part.name), part.left_minor, part.shares)
        part.left_minor, part.shares = 0, []
    hold.state, hold.ending = state, event(**_said(book, hold, amounts))
    return hold.ending


def _settle(book: books.Books, part: Part, amount_minor: int, *, is_last: bool) -> None:
    """Take what was captured out of a part, and the rest too when nothing more will be captured."""
    rest = lots.without(part.shares, lots.part_of(part.shares, amount_minor if part.shares else 0))
    if not is_last:
        part.left_minor, part.shares = part.left_minor - amount_minor, rest
        return
    if not amount_minor and part.left_minor:  # nothing was posted here, so the freeing is a change of its own
        book.give_back(book.account(part.name), part.left_minor, rest)
    else:
        book.free(rest)
    part.left_minor, part.shares = 0, []


def _legs(part: Part, amount_minor: int, *, freed_minor: int) -> tuple[movements.Leg, movements.Leg]:
    taken = lots.part_of(part.shares, amount_minor) if part.shares else ()
    return (
        movements.Leg(part.name, -amount_minor, held_minor=-freed_minor, shares=taken),
        movements.Leg(revenue_of(part).name, amount_minor),
    )


def _check_open(hold: Hold, *, at: datetime) -> None:
    if hold.state != "placed" or at >= hold.expires_at:
        raise HoldEnded


def _said(book: books.Books, hold: Hold, amounts: list[int]) -> dict[str, object]:
    """Give what every event of a hold carries, `amounts` being what it did to each part."""
    accounts = [book.account(part.name).told() for part in hold.parts]
    parts = [
        ledger.HoldPart(account=account, amount_minor=amount_minor)
        for account, amount_minor in zip(accounts, amounts, strict=True)
    ]
    return {
        "tenant": hold.tenant,
        "hold_id": hold.id,
        "reference": hold.reference,
        "amount": Money(amount_minor=sum(amounts), currency=hold.asset),
        "occurred_at": book.at,
        "account": accounts[0],
        "parts": tuple(parts) if len(parts) > 1 else (),
    }
