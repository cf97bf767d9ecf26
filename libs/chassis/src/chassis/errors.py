"""The errors that mean something to a caller; every other one is a defect, or an outage as `database.is_outage` has it.

A `Refusal` is the answer to a request and becomes problem+json (RFC 9457). An `Unprocessable` message becomes a dead
letter at once. Defects and outages are retried.
"""

from typing import Any, ClassVar


class Refusal(Exception):  # noqa: N818 - a business answer, not a failure
    """A business refusal with a stable `code`. The docstring of the subclass is the text for people."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409

    def __init__(self, detail: str | None = None, **fields: Any) -> None:
        """Take a text in place of the docstring, and fields for programs."""
        super().__init__(detail or (type(self).__doc__ or "").strip())
        self.fields = fields

    @property
    def detail(self) -> str:
        """The text for people."""
        return str(self)


class Unprocessable(Exception):  # noqa: N818 - a property of the message
    """A message that can never be handled; it becomes a dead letter without further attempts."""


def problem(*, status: int, code: str, title: str, detail: str, correlation_id: str, **extra: Any) -> dict[str, Any]:
    """Give the body of a problem+json answer, with the members that every problem has."""
    return {
        "type": f"urn:kopilka:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "correlation_id": correlation_id,
        **extra,
    }
