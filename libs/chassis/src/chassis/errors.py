"""Two kinds of error: a refusal is an answer with a stable code; everything else is a defect or an outage.

A refusal is defined in the room that raises it and becomes problem+json (RFC 9457) here, in one place.
"""

from typing import Any, ClassVar


class Refusal(Exception):  # noqa: N818 - a business answer, not a failure
    """A business refusal. Its `code` is stable; its text says what the caller can do."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409

    def __init__(self, detail: str | None = None, **fields: Any) -> None:
        """Take what to say beyond the class's own docstring, and values that programs may read."""
        super().__init__(detail or (type(self).__doc__ or "").strip())
        self.fields = fields

    @property
    def detail(self) -> str:
        """What happened, for people."""
        return str(self)


class Unprocessable(Exception):  # noqa: N818 - a verdict about a message
    """A message was understood and can never be carried out; it becomes a dead letter without further tries."""


def problem(*, status: int, code: str, title: str, detail: str, correlation_id: str, **extra: Any) -> dict[str, Any]:
    """Give the body of a problem answer, with the members that every client may rely on."""
    return {
        "type": f"urn:kopilka:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "correlation_id": correlation_id,
        **extra,
    }
