"""A batch: the requests of one transaction, settled one after the other on books that are locked for all of them.

Each request has an outcome of its own: what it posted and answered, or its refusal.
"""

from dataclasses import dataclass, field
from typing import assert_never, cast
from uuid import UUID

from chassis import errors
from contracts import ledger
from ledger.domain import books, chart, double_entry, holds, provider, requests, requirements, reservations, transfers


@dataclass(slots=True)
class Batch:
    """The unit of work of one transaction: what its requests require, as loaded, and what settling them changed.

    `prewrites` are the transfers of payments whose rows are written already, by event id; settling a request takes its
    own away. `new_outcomes` are the outcomes to store.
    """

    book: books.Books
    required: requirements.Requirements
    holds_by_key: dict[requirements.HoldKey, holds.Hold] = field(default_factory=dict)
    reversible: dict[requirements.TransferKey, transfers.ReversibleTransfer] = field(default_factory=dict)
    settled: dict[requests.RequestKey, requests.SettledCommand] = field(default_factory=dict)
    posted_keys: set[provider.NaturalKey] = field(default_factory=set)
    prewrites: dict[UUID, double_entry.Transfer] = field(default_factory=dict)
    new_outcomes: dict[requests.RequestKey, requests.SettledCommand] = field(default_factory=dict)

    def settle(self, request: requests.Request) -> requests.Outcome:
        """Execute a request, or refuse it and roll back all but the refusal. Raises PrerequisiteMissing."""
        message = request.message
        if isinstance(message, provider.Event):
            return self._settle_event(request.event_id)
        key = requests.RequestKey(message.tenant, message.request_key)
        if earlier := self.settled.get(key):
            return self._replay(message, earlier)
        savepoint = self.book.savepoint()
        try:
            events = self._execute(message, request.event_id)
            outcome = requests.Outcome(events, cast("ledger.Answer", events[-1]))
        except errors.Refusal as refusal:
            self.book.rollback_to(savepoint)
            outcome = self._refuse(message, refusal)
            if isinstance(message, ledger.PlaceHold) and (hold := self.holds_by_key.get((key.tenant, message.hold_id))):
                ending = cast("ledger.HoldRefused", outcome.answer)
                hold.current = hold.current._replace(state="refused", ending=ending)
        assert outcome.answer is not None
        self.settled[key] = self.new_outcomes[key] = requests.SettledCommand(message, outcome.answer)
        return outcome

    def _settle_event(self, event_id: UUID) -> requests.Outcome:
        if refusal := self.required.refusals.get(event_id):
            return requests.Outcome(refusal=refusal)
        plan, savepoint = self.required.plans[event_id], self.book.savepoint()
        if plan.requires and plan.requires not in self.posted_keys:
            raise requests.PrerequisiteMissing(plan.requires.source_key)
        original = self._original(plan.reversal) if plan.reversal else None
        reservation = plan.reservation
        held = self.holds_by_key.get(reservation.key) if reservation else None
        released_minor = held.current.left_minor if held and reservation and reservation.is_end else None
        ended: requests.Events = ()
        placed: requests.Events = ()
        try:
            if reservation and reservation.is_end and held and held.current.state == "placed":
                ended = [holds.release(self.book, held)]
            prewritten = self.prewrites.get(event_id)
            posted_transfers = provider.post(
                self.book,
                plan,
                self.posted_keys,
                prewritten,
                original=original,
                released_minor=released_minor,
                event_id=event_id,
            )
            if reservation and held is None:
                if reservation.is_end:
                    held = reservations.ended(reservation)
                else:
                    held, placed = reservations.place(self.book, reservation)
        except errors.Refusal as refusal:
            self.book.rollback_to(savepoint)
            return requests.Outcome(refusal=refusal)
        self.posted_keys.update(plan.natural_keys)
        self.prewrites.pop(event_id, None)
        if reservation and held:
            self.holds_by_key[reservation.key] = held
        return requests.Outcome([*ended, *posted_transfers, *placed])

    def _execute(self, command: requests.Command, event_id: UUID) -> requests.Events:
        """Execute a command; the last of the events that it returns is the answer."""
        book = self.book
        if refusal := self.required.refusals.get(event_id):
            raise refusal
        match command:
            case ledger.PlaceHold():
                hold = self.holds_by_key[command.tenant, command.hold_id] = holds.from_command(command)
                return (holds.place(book, hold),)
            case ledger.ExtendHold():
                return (holds.extend(book, self._hold(command), command.expires_at),)
            case ledger.CaptureHold():
                return holds.capture(book, self._hold(command), command, event_id=event_id)
            case ledger.ReleaseHold():
                return (holds.release(book, self._hold(command)),)
            case ledger.AccountCommand():
                account = self.book.account(chart.AccountName(command.tenant, command.account, command.asset))
                book.change(account, account.current.apply(command))
                return (
                    ledger.AccountChanged(
                        tenant=command.tenant,
                        request_id=command.request_id,
                        account=account.snapshot(),
                        state=account.current.state,
                        overdraft_minor=account.current.overdraft_minor,
                    ),
                )
            case ledger.PostTransfers():
                posted_transfers = transfers.post(book, command, event_id=event_id)
            case ledger.TransferFunds():
                posted_transfers = [transfers.transfer_funds(book, command, event_id=event_id)]
            case ledger.ReverseTransfer():
                original = self.reversible.get((command.tenant, command.transfer_id))
                posted_transfers = [transfers.reverse(book, original, command, event_id=event_id)]
            case _:
                assert_never(command)
        ids = tuple(each.transfer.id for each in posted_transfers)
        answer = ledger.RequestPosted(tenant=command.tenant, request_id=command.request_id, transfer_ids=ids)
        return (*posted_transfers, answer)

    def _original(self, reversal: provider.PlannedReversal) -> transfers.ReversibleTransfer | None:
        """Return the transfer to reverse; None when that is done, or there is none.

        Raises PrerequisiteMissing for one that this very batch posts: it is not loaded yet.
        """
        if reversal.key in self.posted_keys or reversal.original not in self.posted_keys:
            return None
        for each in self.reversible.values():
            if provider.NaturalKey(*each.transfer[1:4]) == reversal.original:
                return each
        raise requests.PrerequisiteMissing(reversal.original.source_key)

    def _hold(self, command: holds.CommandOnHold) -> holds.Hold:
        hold = self.holds_by_key.get((command.tenant, command.hold_id))
        if hold is None:
            raise requests.PrerequisiteMissing(command.subject)
        return hold

    def _replay(self, command: requests.Command, earlier: requests.SettledCommand) -> requests.Outcome:
        """Answer a command that was settled before: the same body gets the same answer, another body a conflict."""
        if isinstance(command, type(earlier.command)):
            field_name = _first_difference(earlier.command.model_dump(), command.model_dump())
        else:
            field_name = "type"
        if field_name is not None:
            conflict = requests.IdempotencyConflict(f"This key was used before with another {field_name}.")
            return self._refuse(command, conflict)
        answer = earlier.answer.model_copy(update={"is_replayed": True})
        return requests.Outcome((answer,), answer)

    def _refuse(self, command: requests.Command, refusal: errors.Refusal) -> requests.Outcome:
        """Answer a command with a refusal. Commands on a hold do not know its reference, which their answers carry."""
        answer: ledger.Answer = command.refused(refusal.code, refusal.detail)
        if isinstance(command, holds.CommandOnHold):
            answer = answer.model_copy(update={"reference": self._hold(command).reference})
        return requests.Outcome((answer,), answer, refusal)


def _first_difference(before: object, after: object, name: str = "body") -> str | None:
    """Return the name of the innermost field that differs first; None when nothing does."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(before.get(key), after.get(key), str(key)) for key in {**after, **before}]
    elif isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        pairs = [(*pair, name) for pair in zip(before, after, strict=True)]
    else:
        return None if before == after else name
    return next(filter(None, (_first_difference(*pair) for pair in pairs)), None)
