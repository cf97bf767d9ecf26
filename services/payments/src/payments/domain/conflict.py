"""The two ways to say no: a fact that differs from what we asked for, and a request that can't be carried out."""

from typing import Any


class Conflict(Exception):  # noqa: N818 - a verdict about a fact
    """A fact differs from what we asked for; it is kept as a finding and changes nothing."""

    def __init__(self, what: str, *, expected: object, found: object) -> None:
        """Name what differs, with both values; none of them is personal."""
        super().__init__(f"{what} differs")
        self.kind = f"{what}_mismatch"
        self.details: dict[str, Any] = {"expected": _plain(expected), "found": _plain(found)}


class Refused(Exception):  # noqa: N818 - a verdict about a command
    """A command can't be carried out. `code` is stable, `detail` is for people."""

    def __init__(self, code: str, detail: str) -> None:
        """Take the code and the words."""
        super().__init__(detail)
        self.code, self.detail = code, detail


def _plain(value: object) -> Any:
    return value if isinstance(value, int | str | None) else str(value)
