"""What every command to the ledger has, and the answer that refuses one."""

from abc import abstractmethod

from pydantic import Field

from contracts.message import Command, Event


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


class RequestAnswer(Answer):
    """An answer to a command with a key of the caller's own."""

    request_id: str

    @property
    def subject(self) -> str:
        """The request's id."""
        return self.request_id


class RequestRefused(RequestAnswer, type="ledger.request.refused.v1"):
    """Nothing was done; this key never succeeds later."""

    code: str
    detail: str
