"""Messages that can't be handled or published, each with its reason, kept until an operator replays or discards it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis import amqp_properties, database, envelope, outbox, publisher, telemetry

LIST_MAX = 1_000
OUTGOING = "outbox"
"""The consumer of a message that could not be published; no queue has this name."""

_RECORD = """
INSERT INTO dead_letter
  (event_id, consumer, event_type, partition_key, headers, payload, reason, error, attempts, raw_headers)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10)
ON CONFLICT (event_id, consumer) DO UPDATE SET failed_at = now(), resolved_at = NULL, resolution = NULL,
  reason = excluded.reason, error = excluded.error, attempts = excluded.attempts
"""
_RECORD_OUTGOING = f"""
INSERT INTO dead_letter
  (event_id, consumer, event_type, partition_key, headers, payload, reason, error, attempts, exchange, outbox_id)
VALUES ($1, '{OUTGOING}', $2, $3, $4::text::jsonb, $5, 'unpublishable', $6, $7, $8, $9)
ON CONFLICT (event_id, consumer) DO UPDATE SET failed_at = now(), resolved_at = NULL, resolution = NULL,
  error = excluded.error, attempts = excluded.attempts
"""
_LIST = """
SELECT event_id, consumer, event_type, partition_key, reason, error, attempts, failed_at
FROM dead_letter
WHERE resolved_at IS NULL AND ($1::text IS NULL OR event_type = $1) AND ($2::text IS NULL OR partition_key = $2)
  AND ($3::uuid IS NULL OR event_id = $3)
ORDER BY failed_at LIMIT $4
"""
_CONTENT = """
SELECT headers::text AS headers, raw_headers, payload FROM dead_letter WHERE event_id = $1 AND consumer = $2
"""
_RESOLVE = """
UPDATE dead_letter SET resolved_at = now(), resolution = $3
WHERE event_id = $1 AND consumer = $2 AND resolved_at IS NULL
"""
# With its former id a row is read before the later rows of its key that still wait.
_RETURN_TO_OUTBOX = f"""
WITH resolved AS (
  UPDATE dead_letter SET resolved_at = now(), resolution = 'replayed'
  FROM unnest($1::uuid[], $2::smallint[]) AS chosen (id, slot)
  WHERE event_id = chosen.id AND consumer = '{OUTGOING}' AND resolved_at IS NULL
  RETURNING dead_letter.*, chosen.slot
)
INSERT INTO outbox (id, event_id, exchange, event_type, slot, partition_key, headers, payload)
OVERRIDING SYSTEM VALUE
SELECT outbox_id, event_id, exchange, event_type, slot, partition_key, headers::text, payload FROM resolved
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One open dead letter, without its body."""

    event_id: UUID
    consumer: str
    event_type: str
    partition_key: str
    reason: str
    error: str
    attempts: int
    failed_at: datetime


async def record(
    db: database.Database,
    *,
    consumer: str,
    headers: Mapping[str, Any],
    body: bytes,
    reason: str,
    error: BaseException,
) -> None:
    """Store a message that can't be handled, in a transaction of its own. `reason` is a short stable word.

    Headers that no text can hold are stored as their bytes too. A message whose envelope can't be read gets an id that
    follows from its content, so that a copy of it is no second dead letter.
    """
    stored = envelope.ours(headers)
    received = {name: value for name, value in headers.items() if not name.startswith("x-")}
    raw = None if stored == received else amqp_properties.encoded(received)
    try:
        wrapper = envelope.parse(stored)
        event_id, key, attempts = wrapper.id, wrapper.partition_key, wrapper.attempt
    except envelope.Unreadable:
        event_id, key, attempts = _id_of_content(consumer, stored, body), "", 0
    async with db.transaction() as tx:
        await tx.execute(
            _RECORD,
            event_id,
            consumer,
            str(stored.get("ce-type", "unknown"))[:200],
            key,
            json.dumps(stored),
            body,
            reason,
            describe(error),
            attempts,
            raw,
        )
    telemetry.DEAD_LETTERS.labels(consumer, reason).inc()
    telemetry.log.error("dead_letter.recorded", event_id=str(event_id), consumer=consumer, reason=reason)


async def record_outgoing(
    tx: database.Tx, failures: Sequence[tuple[asyncpg.Record, BaseException]], *, attempts: int
) -> None:
    """Store rows of the outbox that can't be published, each with its last error; the caller deletes the rows."""
    rows = [
        (
            row["event_id"],
            row["event_type"],
            row["partition_key"],
            json.dumps(envelope.ours(json.loads(row["headers"]))),
            row["payload"],
            describe(error),
            attempts,
            row["exchange"],
            row["id"],
        )
        for row, error in failures
    ]
    await tx.executemany(_RECORD_OUTGOING, rows)
    telemetry.DEAD_LETTERS.labels(OUTGOING, "unpublishable").inc(len(rows))


def describe(error: BaseException) -> str:
    """Describe an error without the values of the message, which may be personal data."""
    problems = getattr(error, "errors", None)
    if callable(problems):
        places = (f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['type']}" for p in problems())
        return f"{type(error).__name__}: {'; '.join(places)}"[:500]
    return f"{type(error).__name__}: {error}".replace("\0", "\N{REPLACEMENT CHARACTER}")[:500]


async def find(
    db: database.Database,
    *,
    event_type: str | None = None,
    partition_key: str | None = None,
    event_id: UUID | None = None,
) -> list[DeadLetter]:
    """Give the open dead letters, oldest first, at most a thousand."""
    async with db.transaction() as tx:
        rows = await tx.fetch(_LIST, event_type, partition_key, event_id, LIST_MAX)
    return [DeadLetter(**dict(row)) for row in rows]


async def content(db: database.Database, letter: DeadLetter) -> tuple[dict[str, Any], bytes]:
    """Give the headers and the body of a dead letter, as they were received."""
    async with db.transaction() as tx:
        row = await tx.fetchrow(_CONTENT, letter.event_id, letter.consumer)
    assert row is not None  # dead letters are never deleted
    raw = row["raw_headers"]
    return json.loads(row["headers"]) if raw is None else amqp_properties.decoded(raw), bytes(row["payload"])


async def replay(
    db: database.Database, sender: publisher.Publisher, letters: Sequence[DeadLetter]
) -> list[tuple[DeadLetter, publisher.Refused]]:
    """Send dead letters again under their own ids and mark them resolved; gives those that the broker refused.

    One that was received goes to the queue it came from, one that could not be published back to the outbox. Replaying
    twice is harmless: the inbox keeps one effect. A refused one stays open and does not stop the others.
    """
    refused: list[tuple[DeadLetter, publisher.Refused]] = []
    await _return_to_outbox(db, [letter for letter in letters if letter.consumer == OUTGOING])
    for letter in letters:
        if letter.consumer == OUTGOING:
            continue
        headers, body = await content(db, letter)
        headers.pop(envelope.ATTEMPT, None)
        headers[envelope.REPLAY] = "1"
        try:
            await sender.publish(
                exchange="", routing_key=letter.consumer, headers=headers, body=body, event_type=letter.event_type
            )
        except publisher.Refused as refusal:
            refused.append((letter, refusal))
        else:
            await _resolve(db, letter, "replayed")
    return refused


async def discard(db: database.Database, letters: Sequence[DeadLetter]) -> int:
    """Mark dead letters as resolved without handling them; gives their number."""
    for letter in letters:
        await _resolve(db, letter, "discarded")
    return len(letters)


async def measure(db: database.Database) -> None:
    """Set the gauge of open dead letters."""
    async with db.transaction() as tx:
        count = await tx.fetchval("SELECT count(*) FROM dead_letter WHERE resolved_at IS NULL")
    telemetry.DEAD_LETTERS_OPEN.labels(db.schema).set(count)


def _id_of_content(consumer: str, headers: Mapping[str, Any], body: bytes) -> UUID:
    """Give an id for a message without a readable one: equal for equal content."""
    digest = hashlib.sha256(json.dumps([consumer, headers], sort_keys=True).encode() + body).digest()
    return UUID(bytes=digest[:16], version=5)


async def _return_to_outbox(db: database.Database, letters: Sequence[DeadLetter]) -> None:
    """Put letters back into the outbox in one transaction, so that the relay finds those of one key in their order."""
    async with db.transaction() as tx:
        await tx.execute(
            _RETURN_TO_OUTBOX,
            [letter.event_id for letter in letters],
            [outbox.slot_of(letter.partition_key) for letter in letters],
        )


async def _resolve(db: database.Database, letter: DeadLetter, resolution: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(_RESOLVE, letter.event_id, letter.consumer, resolution)
