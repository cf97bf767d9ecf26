"""The base classes of the ledger's commands and of the events that answer them."""

from abc import abstractmethod

from pydantic import Field

from contracts.message import Command, Event


class Answer(Event):
    """The answer to one command; the same command again gets the same answer, marked as replayed."""

    is_replayed: bool = False


class LedgerCommand(Command):
    """A command to the ledger; its outcome is kept for ever under `request_key`."""

    @property
    @abstractmethod
    def request_key(self) -> str:
        """The key of the outcome, unique within the tenant."""

    @abstractmethod
    def refused(self, code: str, detail: str) -> Answer:
        """Give the answer that refuses this command."""


class RequestCommand(LedgerCommand):
    """A command whose key the caller chooses; refused by RequestRefused."""

    request_id: str = Field(min_length=1, max_length=128)

    @property
    def subject(self) -> str:
        """The request's id."""
        return self.request_id

    @property
    def request_key(self) -> str:
        """The caller's key."""
        return f"request:{self.request_id}"

    def refused(self, code: str, detail: str) -> "RequestRefused":
        """Give the answer that nothing was done."""
        return RequestRefused(tenant=self.tenant, request_id=self.request_id, code=code, detail=detail)


class RequestAnswer(Answer):
    """The answer to a command whose key the caller chose."""

    request_id: str

    @property
    def subject(self) -> str:
        """The request's id."""
        return self.request_id


class RequestRefused(RequestAnswer, type="ledger.request.refused.v1", is_consumed=False):
    """Nothing was posted or changed, and this key never succeeds later."""

    code: str
    detail: str
