"""Messages to publish, written in the transaction of the change they are about and kept until the broker confirms.

Rows are inserted after the aggregate's row lock, so that the order of ids is the order of commits for each key.
"""

from binascii import crc32
from collections.abc import Sequence
from typing import ClassVar, Protocol
from uuid import UUID

from pydantic_core import to_json

from chassis import database, envelope, topology

SLOTS = 16
# From this number of rows on, COPY's extra round trip costs less than encoding the rows as arrays.
COPY_FROM = 16

_COLUMNS = ("event_id", "exchange", "event_type", "slot", "partition_key", "headers", "payload")
_INSERT = """
INSERT INTO outbox (event_id, exchange, event_type, slot, partition_key, headers, payload)
SELECT event_id, exchange, event_type, slot, partition_key, headers, payload
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::bytea[])
  WITH ORDINALITY AS row(event_id, exchange, event_type, slot, partition_key, headers, payload, position)
ORDER BY position
"""

Row = tuple[UUID, str, str, int, str, str, bytes]
"""One row of the outbox, in the order of its columns."""


class OutboxMessage(Protocol):
    """A message of the contracts, as far as the outbox uses it."""

    TYPE: ClassVar[str]
    IS_CONSUMED: ClassVar[bool]

    @property
    def tenant(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def partition_key(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def KIND(self) -> str: ...  # noqa: N802 - a class constant of the contracts

    def model_dump_json(self) -> str: ...


async def put(
    tx: database.Tx, messages: Sequence[OutboxMessage], *, causes: Sequence[envelope.Cause] | None = None
) -> list[UUID]:
    """Publish messages when this transaction commits, in this order for each partition key; gives their ids.

    `causes` has one cause for each message where a batch handles many; without it all have the current one.
    """
    return await put_rows(tx, rows_of(tx, messages, causes=causes))


def rows_of(
    tx: database.Tx, messages: Sequence[OutboxMessage], *, causes: Sequence[envelope.Cause] | None = None
) -> list[Row]:
    """Build the rows of messages without writing them, so that a caller can do it before it holds locks."""
    time, service = envelope.stamp(envelope.now()), database.of(tx).schema
    reasons = causes or [envelope.current_cause()] * len(messages)
    return [_row(service, message, time, cause) for message, cause in zip(messages, reasons, strict=True)]


async def put_rows(tx: database.Tx, rows: Sequence[Row]) -> list[UUID]:
    """Insert rows that `rows_of` built; see `put`."""
    if not rows:
        return []
    home = database.of(tx)
    if len(rows) < COPY_FROM:
        await tx.execute(_INSERT, *zip(*rows, strict=True))
    else:
        await tx.copy_records_to_table("outbox", records=rows, columns=_COLUMNS)
    database.on_commit(tx, home.outbox_filled.set)
    return [row[0] for row in rows]


def exchange_of(message: OutboxMessage | type[OutboxMessage]) -> str:
    """Give the exchange to which a message or its kind is published."""
    if not message.IS_CONSUMED:
        return topology.UNCONSUMED
    return topology.EVENTS if message.KIND == "event" else topology.COMMANDS


def slot_of(partition_key: str) -> int:
    """Give the slot of a key; one slot is relayed by one process at a time."""
    return crc32(partition_key.encode()) % SLOTS


def _row(service: str, message: OutboxMessage, time: str, cause: envelope.Cause) -> Row:
    key, event_id = message.partition_key, envelope.uuid7()
    headers = envelope.headers_of(
        id=str(event_id),
        type=message.TYPE,
        source=f"/kopilka/{service}",
        time=time,
        subject=message.subject,
        tenant=message.tenant,
        partition_key=key,
        sequence=message.sequence,
        cause=cause,
    )
    return (
        event_id,
        exchange_of(message),
        message.TYPE,
        slot_of(key),
        key,
        to_json(headers).decode(),
        message.model_dump_json().encode(),
    )
