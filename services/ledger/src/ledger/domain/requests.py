"""Everything that can be asked of the ledger, settled one by one on books that are locked for all of them.

Each request has an outcome of its own: what it says, or the refusal. An outcome is frozen under the request's key.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import books, chart, double_entry, holds, posted, provider, transfers

COMMANDS = (
    ledger.PlaceHold,
    ledger.ExtendHold,
    ledger.CaptureHold,
    ledger.ReleaseHold,
    ledger.PostTransfers,
    ledger.TransferFunds,
    ledger.ReverseTransfer,
    ledger.FreezeAccount,
    ledger.UnfreezeAccount,
    ledger.CloseAccount,
    ledger.SetOverdraft,
)

HoldKey = tuple[TenantId, ledger.HoldId]
TransferKey = tuple[TenantId, ledger.TransferId]
Openings = Mapping[chart.AccountName, chart.AccountDefinition]
Events = Sequence[ledger.Answer | posted.PostedTransfer]
"""What goes to the outbox, in this order."""


class IdempotencyConflict(errors.Refusal):
    """The same key was used before, with another body."""

    code: ClassVar[str] = "idempotency_conflict"


class PrerequisiteMissing(Exception):  # noqa: N818 - a state of the request, not a failure of ours
    """What this is about is not there yet. It comes by another message, which may be late; so try again later."""


class Request(NamedTuple):
    """One request: what is asked, and the message that asks it."""

    message: Any
    event_id: UUID


class RequestKey(NamedTuple):
    """What an outcome is frozen under."""

    tenant: TenantId
    key: str


class SettledRequest(NamedTuple):
    """A request that was settled before: what was asked, and what was answered."""

    message: Any
    answer: ledger.Answer


class Outcome(NamedTuple):
    """The outcome of one request: what is said now, the answer among it, and the refusal if it was one.

    `answer` is None where nobody waits for one.
    """

    events: Events = ()
    answer: ledger.Answer | None = None
    refusal: errors.Refusal | None = None


@dataclass(slots=True)
class Requirements:
    """What must be read and locked before requests can be settled.

    `openings` are accounts to open where they are missing, `reads` those that are only used when they exist, among them
    those that funds are `held` on; `refusals` are for requests that name what there is not.
    """

    openings: dict[chart.AccountName, chart.AccountDefinition] = field(default_factory=dict)
    reads: dict[chart.AccountName, chart.AccountDefinition] = field(default_factory=dict)
    held: set[chart.AccountName] = field(default_factory=set)
    is_capturing: bool = False
    hold_ids: set[HoldKey] = field(default_factory=set)
    transfer_ids: set[TransferKey] = field(default_factory=set)
    keys: list[RequestKey] = field(default_factory=list)
    moved: dict[UUID, provider.Moved] = field(default_factory=dict)
    refusals: dict[UUID, errors.Refusal] = field(default_factory=dict)

    @property
    def natural_keys(self) -> set[provider.NaturalKey]:
        """What must be looked for on the books."""
        return {key for moved in self.moved.values() for key in moved.keys}

    def top_ups(self, known: Collection[provider.NaturalKey]) -> Iterator[tuple[UUID, provider.Move]]:
        """Give the top-ups of payments that are not known, one for each; a payment may be told of twice."""
        seen = set(known)
        for event_id, moved in self.moved.items():
            for move in moved.moves[:1]:
                if move.key.kind == "top_up" and move.key not in seen:
                    seen.add(move.key)
                    yield event_id, move

    def read(self, *openings: chart.AccountDefinition) -> None:
        """Ask for accounts that are used when they exist."""
        self.reads.update((opening.name, opening) for opening in openings)

    def open(self, *openings: chart.AccountDefinition) -> None:
        """Ask for accounts that are opened where they are missing."""
        self.openings.update((opening.name, opening) for opening in openings)

    def hold_on(self, names: Collection[chart.AccountName]) -> None:
        """Ask for the accounts of a hold, and in time for those that captures of it would pay to."""
        self.read(*map(chart.definition_of, names))
        self.held.update(names)

    def complete(self) -> None:
        """Ask for the accounts that captures pay to, once all holds are known; only these can name them."""
        if self.is_capturing:
            self.open(*map(holds.revenue_of, self.held))

    def add(self, request: Request) -> None:
        """Add what a request needs. Raises UnknownAsset, UnknownAccount, and then it needs nothing."""
        message = request.message
        if isinstance(message, provider.EVENTS):
            moved = self.moved[request.event_id] = provider.read(message)
            self.open(*moved.openings)
            return
        self.keys.append(RequestKey(message.tenant, message.request_key))
        match message:
            case ledger.PlaceHold():
                self.hold_on([part.name for part in holds.from_command(message).current.parts])
                self.hold_ids.add((message.tenant, message.hold_id))
            case ledger.HoldCommand():
                self.hold_ids.add((message.tenant, message.hold_id))
                self.is_capturing |= isinstance(message, ledger.CaptureHold)
            case ledger.PostTransfers():
                names = [(leg.account, leg.asset) for transfer in message.transfers for leg in transfer.legs]
                self.open(*[chart.definition_of(chart.AccountName(message.tenant, *name)) for name in names])
            case ledger.TransferFunds():
                self.read(chart.user_account(message.tenant, message.from_user_id, message.amount.currency))
                self.open(chart.user_account(message.tenant, message.to_user_id, message.amount.currency))
            case ledger.ReverseTransfer():
                self.transfer_ids.add((message.tenant, message.transfer_id))
            case ledger.AccountCommand():
                self.open(chart.definition_of(chart.AccountName(message.tenant, message.account, message.asset)))


def requirements_of(requests: Sequence[Request]) -> Requirements:
    """Tell what the requests need. What can't be read at all needs nothing and is refused when it is settled."""
    needs = Requirements()
    for request in requests:
        try:
            needs.add(request)
        except errors.Refusal as refusal:
            needs.refusals[request.event_id] = refusal
    return needs


@dataclass(slots=True)
class Batch:
    """Everything that the requests of one transaction need, as it was read; and what they made of it.

    `ahead` are the transfers of top-ups that are written already; those left at the end were written in vain.
    """

    book: books.Books
    needs: Requirements
    known_holds: dict[HoldKey, holds.Hold] = field(default_factory=dict)
    reversible: dict[TransferKey, transfers.ReversibleTransfer] = field(default_factory=dict)
    earlier: dict[RequestKey, SettledRequest] = field(default_factory=dict)
    known: set[provider.NaturalKey] = field(default_factory=set)
    ahead: dict[UUID, double_entry.Transfer] = field(default_factory=dict)
    frozen: list[tuple[RequestKey, Request, ledger.Answer]] = field(default_factory=list)

    def settle(self, request: Request) -> Outcome:
        """Carry out one request, or refuse it and leave no trace but the refusal. Raises PrerequisiteMissing."""
        message, savepoint = request.message, self.book.savepoint()
        if isinstance(message, provider.EVENTS):
            return self._follow(request)
        key = RequestKey(message.tenant, message.request_key)
        if earlier := self.earlier.get(key):
            return self._again(message, earlier)
        try:
            says = self._carry_out(request)
            settled = Outcome(says, cast("ledger.Answer", says[-1]))
        except errors.Refusal as refusal:
            self.book.rollback_to(savepoint)
            settled = self._refused(message, refusal)
            if isinstance(message, ledger.PlaceHold) and (hold := self.known_holds.get((key.tenant, message.hold_id))):
                hold.current = hold.current._replace(state="refused", ending=cast("ledger.HoldRefused", settled.answer))
        assert settled.answer is not None
        self.earlier[key] = SettledRequest(message, settled.answer)
        self.frozen.append((key, request, settled.answer))
        return settled

    def _follow(self, request: Request) -> Outcome:
        event_id, savepoint = request.event_id, self.book.savepoint()
        if unreadable := self.needs.refusals.get(event_id):
            return Outcome(refusal=unreadable)
        moved = self.needs.moved[event_id]
        if moved.after and moved.after not in self.known:
            raise PrerequisiteMissing(moved.after.source_key)
        try:
            done = provider.post(self.book, moved, self.known, self.ahead.get(event_id), event_id=event_id)
        except errors.Refusal as refusal:
            self.book.rollback_to(savepoint)
            return Outcome(refusal=refusal)
        self.known.update(moved.keys)
        self.ahead.pop(event_id, None)
        return Outcome(done)

    def _carry_out(self, request: Request) -> Events:
        book, command, event_id = self.book, request.message, request.event_id
        if unreadable := self.needs.refusals.get(event_id):
            raise unreadable
        match command:
            case ledger.PlaceHold():
                hold = self.known_holds[command.tenant, command.hold_id] = holds.from_command(command)
                return (holds.place(book, hold),)
            case ledger.ExtendHold():
                return (holds.extend(book, self._hold(command), command.expires_at),)
            case ledger.CaptureHold():
                return holds.capture(book, self._hold(command), command, event_id=event_id)
            case ledger.ReleaseHold():
                return (holds.release(book, self._hold(command)),)
            case ledger.AccountCommand():
                return (self._change(command),)
            case ledger.PostTransfers():
                done = transfers.post(book, command, event_id=event_id)
            case ledger.TransferFunds():
                done = [transfers.transfer_funds(book, command, event_id=event_id)]
            case ledger.ReverseTransfer():
                undone = self.reversible.get((command.tenant, command.transfer_id))
                done = [transfers.reverse(book, undone, command, event_id=event_id)]
        ids = tuple(each.transfer.id for each in done)
        return (*done, ledger.RequestPosted(tenant=command.tenant, request_id=command.request_id, transfer_ids=ids))

    def _change(self, command: ledger.AccountCommand) -> ledger.AccountChanged:
        account = self.book.account(chart.AccountName(command.tenant, command.account, command.asset))
        self.book.change(account, account.current.apply(command))
        return ledger.AccountChanged(
            tenant=command.tenant,
            request_id=command.request_id,
            account=account.snapshot(),
            state=account.current.state,
            overdraft_minor=account.current.overdraft_minor,
        )

    def _hold(self, command: ledger.HoldCommand) -> holds.Hold:
        hold = self.known_holds.get((command.tenant, command.hold_id))
        if hold is None:
            raise PrerequisiteMissing(command.subject)
        return hold

    def _again(self, message: Any, earlier: SettledRequest) -> Outcome:
        """Answer a request that was settled before: the same body gets the same answer, another body a conflict."""
        if isinstance(message, type(earlier.message)):
            field_name = _difference(earlier.message.model_dump(), message.model_dump())
        else:
            field_name = "type"
        if field_name is not None:
            return self._refused(message, IdempotencyConflict(f"This key was used before with another {field_name}."))
        answer = earlier.answer.model_copy(update={"is_replayed": True})
        return Outcome((answer,), answer)

    def _refused(self, message: Any, refusal: errors.Refusal) -> Outcome:
        """Refuse a message; commands on a hold do not know its reference, which answers carry."""
        answer: ledger.Answer = message.refused(refusal.code, refusal.detail)
        if isinstance(message, ledger.HoldCommand) and not isinstance(message, ledger.PlaceHold):
            answer = answer.model_copy(update={"reference": self._hold(message).reference})
        return Outcome((answer,), answer, refusal)


def _difference(before: Any, now: Any, name: str = "body") -> str | None:
    """Give the name of the first field that differs, the innermost; None when nothing does."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(before.get(key), now.get(key), key) for key in {**now, **before}]
    elif isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        pairs = [(*pair, name) for pair in zip(before, now, strict=True)]
    else:
        return None if before == now else name
    return next(filter(None, (_difference(*pair) for pair in pairs)), None)
