"""The messages that the ledger settles, and the outcome of one.

The outcome of a command is stored under the command's key for ever: the same key is answered the same again.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, get_args
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import accounts, holds, posted, provider

Command = (
    ledger.PlaceHold
    | holds.CommandOnHold
    | ledger.PostTransfers
    | ledger.TransferFunds
    | ledger.ReverseTransfer
    | accounts.CommandOnAccount
)
COMMANDS: tuple[type[Command], ...] = get_args(Command)
Message = Command | provider.Event
Events = Sequence[ledger.Answer | posted.PostedTransfer]
"""What goes to the outbox, in this order."""


class IdempotencyConflict(errors.Refusal):
    """The same key was used before, with another body."""

    code: ClassVar[str] = "idempotency_conflict"


class PrerequisiteMissing(Exception):  # noqa: N818 - the message can succeed later, so it is no refusal and no defect
    """The hold or payment that a message is about is not known yet. Its own message may be late, so try again later."""


class Request(NamedTuple):
    """A message to settle, and the id that it was delivered with."""

    message: Message
    event_id: UUID


class RequestKey(NamedTuple):
    """The key that a command's outcome is stored under."""

    tenant: TenantId
    key: str


class SettledCommand(NamedTuple):
    """A command that was settled before, and its answer."""

    command: Command
    answer: ledger.Answer


class Outcome(NamedTuple):
    """The outcome of one request: the events to publish, the answer among them, and the refusal if it was refused.

    `answer` is None for events of payments, which need none.
    """

    events: Events = ()
    answer: ledger.Answer | None = None
    refusal: errors.Refusal | None = None
