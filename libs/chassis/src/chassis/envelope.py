"""The envelope of a message: CloudEvents 1.0 in binary mode, as `ce-` headers of AMQP 0-9-1.

It carries the cause too: the correlation id of the request or timer run that started it all, the id of the message
that led to this one (causation id), and the W3C trace.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils
from asyncpg.pgproto import pgproto

from chassis import errors

ATTEMPT = "kopilka-attempt"
ATTEMPT_MAX = 100  # far above the number of retry delays; a higher one was not written by us
SEQUENCE_MAX = 2**63 - 1  # a bigint holds it
REPLAY = "kopilka-replay"


class Unreadable(errors.Unprocessable):
    """A message whose envelope or body can't be read, or whose type has no handler."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message is published: the correlation id, the id of the message before it, and the W3C traceparent."""

    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The metadata of a message. `id` is a uuid7, the same in every copy and every attempt."""

    id: UUID
    type: str
    source: str
    time: datetime
    subject: str
    tenant: str
    partition_key: str
    sequence: int
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None
    attempt: int = 0

    @property
    def cause(self) -> Cause:
        """The cause of messages that are published while this one is handled."""
        return Cause(self.correlation_id, str(self.id), self.traceparent)

    def headers(self) -> dict[str, str]:
        """Give the headers to send, without the attempt, which belongs to one delivery."""
        return headers_of(
            id=str(self.id),
            type=self.type,
            source=self.source,
            time=stamp(self.time),
            subject=self.subject,
            tenant=self.tenant,
            partition_key=self.partition_key,
            sequence=self.sequence,
            cause=Cause(self.correlation_id, self.causation_id, self.traceparent),
        )


def headers_of(
    *,
    id: str,  # noqa: A002 - the names of CloudEvents
    type: str,  # noqa: A002
    source: str,
    time: str,
    subject: str,
    tenant: str,
    partition_key: str,
    sequence: int,
    cause: Cause,
) -> dict[str, str]:
    """Give the headers of one message; the outbox writes hundreds at once and needs no Envelope between."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-type": type,
        "ce-source": source,
        "ce-time": time,
        "ce-subject": subject,
        "ce-tenant": tenant,
        "ce-partitionkey": partition_key,
        "ce-sequence": str(sequence),
        "ce-correlationid": cause.correlation_id,
    }
    if cause.causation_id:
        headers["ce-causationid"] = cause.causation_id
    if cause.traceparent:
        headers["traceparent"] = cause.traceparent
    return headers


def stamp(time: datetime) -> str:
    """Write a time in UTC as RFC 3339 has it, ending in Z."""
    return time.isoformat().replace("+00:00", "Z")


def parse(headers: Mapping[str, Any]) -> Envelope:
    """Read an envelope from the headers of a delivery. Raises Unreadable naming the header that is wrong, and no more.

    Headers come from outside, and what their values may raise has no end: a time at the end of the calendar overflows,
    a number of thousands of digits is refused by Python. A list of exceptions was never complete.
    """
    try:
        return Envelope(
            id=pgproto.UUID(_text(headers, "ce-id")),
            type=_text(headers, "ce-type"),
            source=_text(headers, "ce-source"),
            time=datetime.fromisoformat(_text(headers, "ce-time")).astimezone(UTC),
            subject=_text(headers, "ce-subject"),
            tenant=_text(headers, "ce-tenant"),
            partition_key=_text(headers, "ce-partitionkey"),
            sequence=_number(headers, "ce-sequence", SEQUENCE_MAX),
            correlation_id=_text(headers, "ce-correlationid"),
            causation_id=_optional(headers, "ce-causationid"),
            traceparent=_optional(headers, "traceparent"),
            attempt=_number(headers, ATTEMPT, ATTEMPT_MAX) if headers.get(ATTEMPT) else 0,
        )
    except Exception as error:
        raise Unreadable(f"envelope: {type(error).__name__}: {str(error)[:200]}") from error


def require_agreement(wrapper: Envelope, message: Any) -> None:
    """Raise Unreadable when a message is of another tenant than its envelope says; a router may have gone by that."""
    tenant = getattr(message, "tenant", wrapper.tenant)
    if tenant != wrapper.tenant:
        raise Unreadable("ce-tenant is not the tenant of the body")


def ours(headers: Mapping[str, Any]) -> dict[str, str | int]:
    """Give the headers of a delivery that may be stored and published again, as texts and whole numbers.

    The broker's own `x-` headers are left out: by `x-death` it drops a message that returns to a queue.
    """
    return {str(_plain(name)): _plain(value) for name, value in headers.items() if not name.startswith("x-")}


_cause: ContextVar[Cause | None] = ContextVar("kopilka_cause", default=None)


def uuid7() -> UUID:
    """Give a new id that grows with time.

    It is of the driver's subclass of UUID, which is read, written and compared in a fraction of the time; a batch does
    that thousands of times.
    """
    new: UUID = pgproto.UUID(str(uuid_utils.uuid7()))
    return new


def now() -> datetime:
    """Give the present time in UTC."""
    return datetime.now(UTC)


def current_cause() -> Cause:
    """Give the cause of the current work, a new one with a correlation id of its own where there is none."""
    return _cause.get() or Cause(correlation_id=str(uuid7()))


def peek_cause() -> Cause | None:
    """Give the cause of the current work, or None without one."""
    return _cause.get()


@contextmanager
def caused_by(cause: Cause) -> Iterator[None]:
    """Give this cause to every message that is put into the outbox inside the block."""
    token = _cause.set(cause)
    try:
        yield
    finally:
        _cause.reset(token)


def _text(headers: Mapping[str, Any], name: str) -> str:
    value = headers[name]
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str) or not value or len(value) > 1_024:
        raise ValueError(f"{name} is not a text of 1 to 1024 characters")
    return value


def _plain(value: Any) -> str | int:
    if isinstance(value, int):
        return value
    text = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
    text = text.encode(errors="replace").decode()  # a lone surrogate has no bytes
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # no text of PostgreSQL can hold a NUL


def _number(headers: Mapping[str, Any], name: str, highest: int) -> int:
    number = int(headers[name])
    if not 0 <= number <= highest:
        raise ValueError(f"{name} is not a number from 0 to {highest}")
    return number


def _optional(headers: Mapping[str, Any], name: str) -> str | None:
    return _text(headers, name) if headers.get(name) else None
