"""Everything that can be asked of the ledger, settled one by one on books that are locked for all of them.

Each request has an outcome of its own: what it says, or the refusal. An outcome is frozen under the request's key.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import accounts, books, chart, holds, movements, provider, transfers

HoldKey = tuple[TenantId, ledger.HoldId]


Says = Sequence[ledger.Answer | books.Posted]
"""What goes to the outbox, in this order."""


class IdempotencyConflict(errors.Refusal):
    """The same key was used before, with another body."""

    code: ClassVar[str] = "idempotency_conflict"


class Request(NamedTuple):
    """One request: what is asked, and the message that asks it."""

    message: Any
    event_id: UUID


class Key(NamedTuple):
    """What an outcome is frozen under."""

    tenant: TenantId
    key: str


class Earlier(NamedTuple):
    """A request that was settled before: what was asked, and what was answered."""

    message: Any
    answer: ledger.Answer


class Settled(NamedTuple):
    """The outcome of one request: what is said now, the answer among it, and the refusal if it was one.

    `answer` is None where nobody waits for one; `is_new` tells whether it must be frozen.
    """

    says: Says
    answer: ledger.Answer | None = None
    refusal: errors.Refusal | None = None
    is_new: bool = True


@dataclass(slots=True)
class Needs:
    """What must be read and locked before requests can be settled.

    `openings` are accounts to open where they are missing, `reads` those that are only used when they exist;
    `refusals` are for requests that name what there is not. What `captures` take of a hold goes to accounts that only
    the hold can name; `placed` are the parts of those that are asked for here.
    """

    openings: dict[chart.AccountName, chart.Opening] = field(default_factory=dict)
    reads: dict[chart.AccountName, chart.Opening] = field(default_factory=dict)
    hold_ids: set[HoldKey] = field(default_factory=set)
    captures: set[HoldKey] = field(default_factory=set)
    placed: dict[HoldKey, list[holds.Part]] = field(default_factory=dict)
    transfer_ids: set[tuple[TenantId, ledger.TransferId]] = field(default_factory=set)
    keys: list[Key] = field(default_factory=list)
    moved: dict[UUID, provider.Moved] = field(default_factory=dict)
    refusals: dict[UUID, errors.Refusal] = field(default_factory=dict)

    @property
    def natural_keys(self) -> set[provider.NaturalKey]:
        """What must be looked for on the books."""
        return {key for moved in self.moved.values() for key in moved.keys}

    def top_ups(self, known: Collection[provider.NaturalKey]) -> Iterator[tuple[UUID, provider.Moved]]:
        """Give the top-ups of payments that are not known, one for each; a payment may be told of twice."""
        seen = set(known)
        for event_id, moved in self.moved.items():
            if moved.key.kind == "top_up" and moved.key not in seen:
                seen.add(moved.key)
                yield event_id, moved

    def open(self, opening: chart.Opening) -> None:
        """Ask for an account that is opened where it is missing."""
        self.openings[opening.name] = opening

    def read(self, opening: chart.Opening) -> None:
        """Ask for an account that is used when it exists."""
        self.reads[opening.name] = opening

    def hold(self, key: HoldKey, parts: Sequence[holds.Part]) -> None:
        """Ask for the accounts of a hold, those too that a capture pays to."""
        for part in parts:
            self.read(chart.opening(part.name))
            if key in self.captures:
                self.open(holds.revenue_of(part))


@dataclass(slots=True)
class Desk:
    """Everything that the requests of one transaction need, as it was read; and what they made of it.

    `ahead` are the transfers of top-ups that are written already; those left at the end were written in vain.
    """

    book: books.Books
    needs: Needs
    known_holds: dict[HoldKey, holds.Hold] = field(default_factory=dict)
    reversible: dict[tuple[TenantId, ledger.TransferId], transfers.Reversible] = field(default_factory=dict)
    earlier: dict[Key, Earlier] = field(default_factory=dict)
    known: set[provider.NaturalKey] = field(default_factory=set)
    ahead: dict[UUID, movements.Transfer] = field(default_factory=dict)
    frozen: list[tuple[Key, Request, ledger.Answer]] = field(default_factory=list)

    def settle(self, request: Request) -> Settled:
        """Carry out one request, or refuse it and leave no trace but the refusal. Raises UnknownHold, TooEarly."""
        message = request.message
        if isinstance(message, provider.EVENTS):
            return self._follow(request)
        key = Key(message.tenant, message.request_key)
        if earlier := self.earlier.get(key):
            return _again(self, message, earlier)
        mark = self.book.mark()
        try:
            if unreadable := self.needs.refusals.get(request.event_id):
                raise unreadable
            says = _OPERATIONS[type(message)](self, request)
            settled = Settled(says, cast("ledger.Answer", says[-1]))
        except errors.Refusal as refusal:
            self.book.rollback(mark)
            answer = _refused(self, message, refusal)
            settled = Settled((answer,), answer, refusal)
        assert settled.answer is not None
        self.earlier[key] = Earlier(message, settled.answer)
        self.frozen.append((key, request, settled.answer))
        return settled

    def _follow(self, request: Request) -> Settled:
        event_id = request.event_id
        if unreadable := self.needs.refusals.get(event_id):
            return Settled((), refusal=unreadable)
        moved = self.needs.moved[event_id]
        if moved.key in self.known:
            return Settled((), is_new=False)
        if moved.after and moved.after not in self.known:
            raise provider.TooEarly(moved.after.source_key)
        mark = self.book.mark()
        try:
            posted = provider.post(self.book, moved, self.known, self.ahead.get(event_id), event_id=event_id)
        except errors.Refusal as refusal:
            self.book.rollback(mark)
            return Settled((), refusal=refusal)
        self.known.update(moved.keys)
        self.ahead.pop(event_id, None)
        return Settled(posted)

    def changed_holds(self) -> list[holds.Hold]:
        """Give the holds that must be written."""
        return [hold for hold in self.known_holds.values() if hold.figures() != hold.was]

    def hold(self, command: ledger.HoldCommand) -> holds.Hold:
        """Give the hold that a command is about. Raises UnknownHold."""
        hold = self.known_holds.get((command.tenant, command.hold_id))
        if hold is None:
            raise holds.UnknownHold(command.subject)
        return hold


def needs_of(requests: Sequence[Request]) -> Needs:
    """Tell what the requests need. What can't be read at all needs nothing and is refused when it is settled."""
    needs = Needs()
    for request in requests:
        message = request.message
        try:
            if isinstance(message, provider.EVENTS):
                _needs_moved(needs, request)
            else:
                needs.keys.append(Key(message.tenant, message.request_key))
                _NEEDS[type(message)](needs, message)
        except errors.Refusal as refusal:
            needs.refusals[request.event_id] = refusal
    return needs


def _needs_moved(needs: Needs, request: Request) -> None:
    moved = needs.moved[request.event_id] = provider.read(request.message)
    for opening in moved.openings:
        needs.open(opening)


def _needs_place(needs: Needs, command: ledger.PlaceHold) -> None:
    key = (command.tenant, command.hold_id)
    needs.hold_ids.add(key)
    parts = needs.placed[key] = holds.asked(command).parts
    needs.hold(key, parts)


def _needs_hold(needs: Needs, command: ledger.HoldCommand) -> None:
    key = (command.tenant, command.hold_id)
    needs.hold_ids.add(key)
    if isinstance(command, ledger.CaptureHold):
        needs.captures.add(key)
        needs.hold(key, needs.placed.get(key, ()))


def _needs_post(needs: Needs, command: ledger.PostTransfers) -> None:
    legs = [leg for transfer in command.transfers for leg in transfer.legs]
    for opening in [chart.opening(chart.AccountName(command.tenant, leg.account, leg.asset)) for leg in legs]:
        needs.open(opening)


def _needs_send(needs: Needs, command: ledger.TransferFunds) -> None:
    needs.read(chart.funds(command.tenant, command.from_user_id, command.amount.currency))
    needs.open(chart.funds(command.tenant, command.to_user_id, command.amount.currency))


def _needs_reverse(needs: Needs, command: ledger.ReverseTransfer) -> None:
    needs.transfer_ids.add((command.tenant, command.transfer_id))


def _needs_account(needs: Needs, command: ledger.AccountCommand) -> None:
    needs.open(chart.opening(chart.AccountName(command.tenant, command.account, command.asset)))


def _place(desk: Desk, request: Request) -> Says:
    command = request.message
    hold = desk.known_holds[command.tenant, command.hold_id] = holds.asked(command)
    return (holds.place(desk.book, hold),)


def _extend(desk: Desk, request: Request) -> Says:
    return (holds.extend(desk.book, desk.hold(request.message), request.message.expires_at),)


def _capture(desk: Desk, request: Request) -> Says:
    return holds.capture(desk.book, desk.hold(request.message), request.message, event_id=request.event_id)


def _release(desk: Desk, request: Request) -> Says:
    return (holds.release(desk.book, desk.hold(request.message)),)


def _post(desk: Desk, request: Request) -> Says:
    return _said(request, transfers.post(desk.book, request.message, event_id=request.event_id))


def _send(desk: Desk, request: Request) -> Says:
    return _said(request, [transfers.send(desk.book, request.message, event_id=request.event_id)])


def _reverse(desk: Desk, request: Request) -> Says:
    command = request.message
    undone = desk.reversible.get((command.tenant, command.transfer_id))
    return _said(request, [transfers.reverse(desk.book, undone, command, event_id=request.event_id)])


def _change(desk: Desk, request: Request) -> Says:
    return (accounts.change(desk.book, request.message),)


def _said(request: Request, posted: Sequence[books.Posted]) -> Says:
    answer = ledger.RequestPosted(
        tenant=request.message.tenant,
        request_id=request.message.request_id,
        transfer_ids=tuple(each.transfer.id for each in posted),
    )
    return (*posted, answer)


def _again(desk: Desk, message: Any, earlier: Earlier) -> Settled:
    """Answer a request that was settled before: the same body gets the same answer, another body a conflict."""
    if isinstance(message, type(earlier.message)):
        field_name = _difference(earlier.message.model_dump(), message.model_dump())
    else:
        field_name = "type"
    if field_name is None:
        answer = earlier.answer.model_copy(update={"is_replayed": True})
        return Settled((answer,), answer, is_new=False)
    refusal = IdempotencyConflict(f"This key was used before with another {field_name}.")
    answer = _refusal_of(desk, message, refusal)
    return Settled((answer,), answer, refusal, is_new=False)


def _refused(desk: Desk, message: Any, refusal: errors.Refusal) -> ledger.Answer:
    answer = _refusal_of(desk, message, refusal)
    if isinstance(message, ledger.PlaceHold):
        hold = desk.known_holds.get((message.tenant, message.hold_id))
        if hold is not None:
            hold.state, hold.ending = "refused", cast("ledger.HoldRefused", answer)
    return answer


def _refusal_of(desk: Desk, message: Any, refusal: errors.Refusal) -> ledger.Answer:
    """Give the answer that refuses a message; commands on a hold do not know its reference, which answers carry."""
    answer: ledger.Answer = message.refused(refusal.code, refusal.detail)
    if isinstance(message, ledger.HoldCommand) and not isinstance(message, ledger.PlaceHold):
        return answer.model_copy(update={"reference": desk.hold(message).reference})
    return answer


def _difference(before: Any, now: Any, name: str = "body") -> str | None:
    """Give the name of the first field that differs, the innermost; None when nothing does."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(before.get(key), now.get(key), key) for key in {**now, **before}]
    elif isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        pairs = [(*pair, name) for pair in zip(before, now, strict=True)]
    else:
        return None if before == now else name
    return next(filter(None, (_difference(*pair) for pair in pairs)), None)


_NEEDS: dict[type[Any], Callable[[Needs, Any], None]] = {
    ledger.PlaceHold: _needs_place,
    ledger.ExtendHold: _needs_hold,
    ledger.CaptureHold: _needs_hold,
    ledger.ReleaseHold: _needs_hold,
    ledger.PostTransfers: _needs_post,
    ledger.TransferFunds: _needs_send,
    ledger.ReverseTransfer: _needs_reverse,
    ledger.FreezeAccount: _needs_account,
    ledger.UnfreezeAccount: _needs_account,
    ledger.CloseAccount: _needs_account,
    ledger.SetOverdraft: _needs_account,
}
_OPERATIONS: dict[type[Any], Callable[[Desk, Request], Says]] = {
    ledger.PlaceHold: _place,
    ledger.ExtendHold: _extend,
    ledger.CaptureHold: _capture,
    ledger.ReleaseHold: _release,
    ledger.PostTransfers: _post,
    ledger.TransferFunds: _send,
    ledger.ReverseTransfer: _reverse,
    ledger.FreezeAccount: _change,
    ledger.UnfreezeAccount: _change,
    ledger.CloseAccount: _change,
    ledger.SetOverdraft: _change,
}
COMMANDS = tuple(_OPERATIONS)
