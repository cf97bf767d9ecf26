"""Planned faults: which requests of which provider fail, and how. `recording` applies them."""

import dataclasses
import fnmatch
import re

from sandbox import errors

PLANNED_MAX = 1000
SLOW_MS_MAX = 60_000

_FAULT = re.compile(
    r"(?P<kind>timeout_before|timeout_after_commit|drop)"
    r"|slow:(?P<slow_ms>[0-9]{1,5})"
    r"|(?P<http>http|http_after_commit):(?P<status>[45][0-9]{2})(?::(?P<retry_after_s>[0-9]{1,5}))?"
)


class UnknownFault(errors.ControlError):
    """A fault is one of timeout_before, timeout_after_commit, drop, slow:MS (up to 60000),
    http:STATUS (400-599), http:STATUS:RETRY_AFTER_S, http_after_commit:STATUS.
    """


class TooManyFaults(errors.ControlError):
    """There are too many planned faults; clear them first."""

    status = 409


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail; `kind` is timeout_before, timeout_after_commit, drop, slow, http or http_after_commit."""

    kind: str
    slow_s: float = 0.0
    status: int = 0
    retry_after_s: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Parse the text form of a fault; raises UnknownFault."""
        match = _FAULT.fullmatch(text)
        if match is None or int(match["slow_ms"] or 0) > SLOW_MS_MAX:
            raise UnknownFault(" ".join((UnknownFault.__doc__ or "").split()))
        if match["kind"]:
            return cls(match["kind"])
        if match["slow_ms"]:
            return cls("slow", slow_s=int(match["slow_ms"]) / 1000)
        retry_after = match["retry_after_s"]
        return cls(match["http"], status=int(match["status"]), retry_after_s=int(retry_after) if retry_after else None)


@dataclasses.dataclass(slots=True)
class _Planned:
    target: str
    method: str | None
    pattern: str | None
    fault: Fault
    count: int


class Faults:
    """The planned faults, applied in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def plan(self, target: str, fault: Fault, *, route: str | None, count: int) -> None:
        """Make the next `count` requests to `target` fail, or only those that match `route`.

        A route is a path below the provider's base with `*` as wildcard, optionally after a method:
        `/payments`, `POST /payments`, `/payments/*/capture`, `sendMessage`. Raises TooManyFaults.
        """
        if len(self._planned) >= PLANNED_MAX:
            raise TooManyFaults(TooManyFaults.__doc__)
        method, _, path = (route or "").rpartition(" ")
        pattern = path.strip("/").lower() or None
        self._planned.append(_Planned(target, method.upper() or None, pattern, fault, count))

    def take(self, target: str, method: str, route: str) -> Fault | None:
        """Consume and return the fault planned for this request, or None."""
        for planned in self._planned:
            if planned.target == target and planned.method in {None, method} and _matches(planned, route):
                planned.count -= 1
                if planned.count == 0:
                    self._planned.remove(planned)
                return planned.fault
        return None

    def reset(self) -> None:
        """Remove all planned faults."""
        self._planned.clear()


def _matches(planned: _Planned, route: str) -> bool:
    return planned.pattern is None or fnmatch.fnmatchcase(route.strip("/").lower(), planned.pattern)
