"""Commands: the idempotency key that gives a request one effect, and how long its client waits for the answer."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, JsonValue

from chassis import errors
from contracts import message

KEY_MAX_CHARS = 255
WAIT_MAX_S = 10

# The IETF draft has a quoted string, most clients send the bare text. Both are the same key.
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
_BARE = re.compile(r"[\x21\x23-\x7e]+")
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,4})\"?\s*(?=$|[,;])", re.IGNORECASE)


class IdempotencyKeyRequired(errors.Refusal):
    """Send an Idempotency-Key header, so that this request can be repeated safely."""

    code = "idempotency_key_required"
    status = 400


class IdempotencyKeyInvalid(errors.Refusal):
    """The Idempotency-Key must be one header of 1 to 255 visible ASCII characters, quoted or bare."""

    code = "idempotency_key_invalid"
    status = 400


class IdempotencyKeyReused(errors.Refusal):
    """This Idempotency-Key was used for another request; a new request needs a new key."""

    code = "idempotency_key_reused"
    status = 422


@dataclass(frozen=True, slots=True)
class Answer:
    """The final answer to a command, stored so that a repetition gets the same."""

    status: int
    body: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Command:
    """One request that changes something. Its id is also the id of what it creates."""

    id: UUID
    tenant: message.TenantId
    user_id: message.UserId
    operation: str
    key: str
    fingerprint: bytes
    answer: Answer | None = None
    is_replay: bool = False


def key_of(headers: Sequence[str]) -> str:
    """Return the key of a request from its Idempotency-Key headers.

    Raises IdempotencyKeyRequired without one, and IdempotencyKeyInvalid for a malformed or a second one.
    """
    if not headers:
        raise IdempotencyKeyRequired
    value = headers[0].strip()
    quoted = _QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if len(headers) > 1 or len(key) > KEY_MAX_CHARS or not (quoted or _BARE.fullmatch(value)):
        raise IdempotencyKeyInvalid
    return key


def fingerprint_of(body: BaseModel) -> bytes:
    """Return a hash of the parsed body, which does not depend on white space and the order of members.

    Optional members that are not there are not hashed, so a release that adds one takes a repetition for what it is.
    """
    return hashlib.sha256(body.model_dump_json(exclude_none=True).encode()).digest()


def wait_of(headers: Sequence[str], *, default_s: float) -> float:
    """Return the seconds to wait for the answer: `Prefer: wait=N` of RFC 7240, at most 10, else the default."""
    match = _WAIT.search(",".join(headers))
    return min(float(match[1]), WAIT_MAX_S) if match else default_s
