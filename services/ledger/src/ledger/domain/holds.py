"""Holds: a user's own money set aside, then captured, released or expired.

A hold's first answer and its ending are kept with it, so that a repeated command gets what was said the first time.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import Currency, Event, Money, TenantId, UserId
from ledger.domain import books

State = Literal["placed", "captured", "released", "expired", "refused"]
Answer = ledger.HoldPlaced | ledger.HoldRefused
Ending = ledger.HoldCaptured | ledger.HoldReleased | ledger.HoldExpired


class HoldEnded(errors.Refusal):
    """The hold has ended: it was captured, released or refused, or its time is over."""

    code: ClassVar[str] = "hold_ended"


class CaptureAboveHold(errors.Refusal):
    """No more than the hold's amount can be captured."""

    code: ClassVar[str] = "capture_above_hold"


class IdempotencyConflict(errors.Refusal):
    """The same hold was asked for before, with another body."""

    code: ClassVar[str] = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. Every state but `placed` is final.

    `account_id` is None for a hold that was refused, `ending` and `transfer_id` where there is none (yet).
    """

    tenant: TenantId
    id: ledger.HoldId
    owner: UserId
    asset: Currency
    amount_minor: int
    reference: str
    expires_at: datetime
    state: State
    answer: Answer
    account_id: books.AccountId | None = None
    captured_minor: int = 0
    transfer_id: ledger.TransferId | None = None
    ending: Ending | None = None

    @property
    def wallet(self) -> books.Opening:
        """The account that the money is held on."""
        return books.wallet(self.tenant, self.owner, self.asset)

    @property
    def revenue(self) -> books.Opening:
        """The account that a capture goes to."""
        return books.revenue(self.tenant, self.asset)


@dataclass(frozen=True, slots=True)
class Capture:
    """What came of a capture. `transfer` is None when nothing was posted."""

    hold: Hold
    messages: tuple[Event | books.Posted, ...]
    transfer: books.Transfer | None = None


def place(book: books.Books, command: ledger.PlaceHold, *, at: datetime) -> Hold:
    """Set the amount aside, or give a refused hold whose answer says why; either is final for this hold id."""
    try:
        if at >= command.expires_at:
            raise HoldEnded("The time of the hold was over before it could be placed.")
        name = books.wallet(command.tenant, command.user_id, command.amount.currency).name
        account = book.set_aside(name, command.amount.amount_minor)
    except errors.Refusal as refusal:
        return _new(command, "refused", _refused(command, refusal))
    placed = ledger.HoldPlaced(
        tenant=command.tenant,
        hold_id=command.hold_id,
        reference=command.reference,
        amount=command.amount,
        occurred_at=at,
        account=account.state,
        expires_at=command.expires_at,
    )
    return _new(command, "placed", placed, account_id=account.id)


def answer_again(hold: Hold, command: ledger.PlaceHold) -> Answer:
    """Answer a hold that was asked for before: the same body gets the same answer, another body a conflict."""
    asked = {
        "user_id": (hold.owner, command.user_id),
        "amount_minor": (hold.amount_minor, command.amount.amount_minor),
        "currency": (hold.asset, command.amount.currency),
        "reference": (hold.reference, command.reference),
        "expires_at": (hold.expires_at, command.expires_at),
    }
    for field, (before, now) in asked.items():
        if before != now:
            return _refused(command, IdempotencyConflict(f"This hold was asked for before with another {field}."))
    return hold.answer


def capture(
    book: books.Books,
    hold: Hold,
    amount_minor: int,
    *,
    transfer_id: ledger.TransferId,
    event_id: UUID,
    at: datetime,
) -> Capture:
    """Post what is captured from the wallet to revenue and release the rest; a hold is captured once.

    A refusal leaves the hold as it is. `event_id` is the command that asked for it.
    """
    if hold.state == "captured" and hold.captured_minor == amount_minor and hold.ending is not None:
        return Capture(hold, (hold.ending,))
    transfer = books.Transfer(
        transfer_id, hold.tenant, "capture", f"hold:{hold.id}", hold.reference, occurred_at=at, event_id=event_id
    )
    legs = (
        books.Leg(hold.wallet.name, -amount_minor, held_minor=-hold.amount_minor),
        books.Leg(hold.revenue.name, amount_minor),
    )
    try:
        _check_capture(hold, amount_minor, at=at)
        posted = book.post(transfer, legs)
    except errors.Refusal as refusal:
        return Capture(hold, (_capture_refused(hold, refusal),))
    captured = ledger.HoldCaptured(
        tenant=hold.tenant,
        hold_id=hold.id,
        reference=hold.reference,
        amount=Money(amount_minor=amount_minor, currency=hold.asset),
        occurred_at=at,
        account=posted.lines[0][0].state,
        transfer_id=transfer_id,
    )
    ended = replace(hold, state="captured", captured_minor=amount_minor, transfer_id=transfer_id, ending=captured)
    return Capture(ended, (posted, captured), transfer)


def release(book: books.Books, hold: Hold, *, at: datetime) -> tuple[Hold, Event]:
    """Give a hold back to its owner; one that has ended stays as it is and says again how it ended."""
    if hold.state != "placed":
        return hold, hold.ending or hold.answer
    return _give_back(book, hold, "released", ledger.HoldReleased, at=at)


def expire(book: books.Books, hold: Hold, *, at: datetime) -> tuple[Hold, Event]:
    """End a placed hold whose time is over."""
    assert hold.state == "placed"
    return _give_back(book, hold, "expired", ledger.HoldExpired, at=at)


def _give_back(
    book: books.Books,
    hold: Hold,
    state: State,
    event: type[ledger.HoldReleased] | type[ledger.HoldExpired],
    *,
    at: datetime,
) -> tuple[Hold, Event]:
    account = book.set_aside(hold.wallet.name, -hold.amount_minor)
    ending = event(
        tenant=hold.tenant,
        hold_id=hold.id,
        reference=hold.reference,
        amount=Money(amount_minor=hold.amount_minor, currency=hold.asset),
        occurred_at=at,
        account=account.state,
    )
    return replace(hold, state=state, ending=ending), ending


def _check_capture(hold: Hold, amount_minor: int, *, at: datetime) -> None:
    if hold.state == "captured":
        raise IdempotencyConflict("This hold was captured before with another amount_minor.")
    if hold.state != "placed" or at >= hold.expires_at:
        raise HoldEnded
    if amount_minor > hold.amount_minor:
        raise CaptureAboveHold(f"The hold is for {hold.amount_minor}, asked for were {amount_minor}.")


def _new(command: ledger.PlaceHold, state: State, answer: Answer, *, account_id: books.AccountId | None = None) -> Hold:
    return Hold(
        tenant=command.tenant,
        id=command.hold_id,
        owner=command.user_id,
        asset=command.amount.currency,
        amount_minor=command.amount.amount_minor,
        reference=command.reference,
        expires_at=command.expires_at,
        state=state,
        answer=answer,
        account_id=account_id,
    )


def _refused(command: ledger.PlaceHold, refusal: errors.Refusal) -> ledger.HoldRefused:
    return ledger.HoldRefused(
        tenant=command.tenant,
        hold_id=command.hold_id,
        reference=command.reference,
        code=refusal.code,
        detail=refusal.detail,
    )


def _capture_refused(hold: Hold, refusal: errors.Refusal) -> ledger.CaptureRefused:
    return ledger.CaptureRefused(
        tenant=hold.tenant, hold_id=hold.id, reference=hold.reference, code=refusal.code, detail=refusal.detail
    )
