"""The ids of messages that a consumer has handled. The claim is the first statement of the handler's transaction.

The table is partitioned by the day in the uuid7, so that an id is unique across partitions and old days can be dropped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis import database, envelope, outbox, telemetry

_CLAIM = """
INSERT INTO inbox (event_id, consumer) SELECT unnest($1::uuid[]), $2 ON CONFLICT DO NOTHING RETURNING event_id
"""

_UNCLAIM = "DELETE FROM inbox WHERE event_id = ANY($1::uuid[]) AND consumer = $2"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came to one queue. The name of the queue is the name of the consumer."""

    queue: str
    envelope: envelope.Envelope


def local(message: outbox.OutboxMessage, queue: str, *, source: str) -> Delivery:
    """Make the delivery of a message that this process hands to its own handler, as if it had come from a queue."""
    cause = envelope.current_cause()
    wrapper = envelope.Envelope(
        id=envelope.uuid7(),
        type=message.TYPE,
        source=source,
        time=envelope.now(),
        subject=message.subject,
        tenant=message.tenant,
        partition_key=message.partition_key,
        sequence=message.sequence,
        correlation_id=cause.correlation_id,
        causation_id=cause.causation_id,
        traceparent=cause.traceparent,
    )
    return Delivery(queue, wrapper)


async def claim(tx: database.Tx, delivery: Delivery) -> bool:
    """Claim a message for handling; False means that it was handled before and must be skipped.

    A concurrent claim of the same message waits for the end of the first one's transaction.
    """
    return bool(await claim_many(tx, [delivery]))


async def claim_many(tx: database.Tx, deliveries: Sequence[Delivery]) -> set[UUID]:
    """Claim several messages at once; gives the ids of those that were not handled before.

    The ids are sorted, because two batches that claim the same ids in different order would deadlock.
    """
    fresh: set[UUID] = set()
    for consumer, claimed in _by_queue(deliveries):
        rows = await tx.fetch(_CLAIM, sorted({delivery.envelope.id for delivery in claimed}), consumer)
        new_ids: set[UUID] = {row[0] for row in rows}
        new = Counter({d.envelope.id: d.envelope.type for d in claimed if d.envelope.id in new_ids}.values())
        for event_type, count in Counter(delivery.envelope.type for delivery in claimed).items():
            telemetry.INBOX_EVENTS.labels(consumer, event_type, "new").inc(new[event_type])
            telemetry.INBOX_EVENTS.labels(consumer, event_type, "duplicate").inc(count - new[event_type])
        fresh |= new_ids
    return fresh


async def unclaim(tx: database.Tx, deliveries: Sequence[Delivery]) -> None:
    """Take back the claims of messages that this transaction could not handle, so that they can be delivered again."""
    for consumer, claimed in _by_queue(deliveries):
        ids = [delivery.envelope.id for delivery in claimed]
        await tx.execute(_UNCLAIM, ids, consumer)


async def maintain(tx: database.Tx) -> int:
    """Create the partitions of the coming days and drop those past retention; gives the number of dropped ones."""
    dropped: int = await tx.fetchval("SELECT inbox_maintain()")
    return dropped


def _by_queue(deliveries: Sequence[Delivery]) -> list[tuple[str, list[Delivery]]]:
    """Sort deliveries by queue; the queues in order too, for the sake of the same deadlock."""
    queues: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        queues.setdefault(delivery.queue, []).append(delivery)
    return sorted(queues.items())
