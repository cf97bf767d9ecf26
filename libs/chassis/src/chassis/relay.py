"""Publishes outbox rows: locks slots, reads, publishes pipelined, deletes what was confirmed.

A row is deleted only after its confirm. A row whose outcome is unknown is published again; the inbox of each consumer
skips the copy.
"""

import asyncio
import json
from collections.abc import Sequence

import asyncpg
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError

from chassis import database, dead_letters, failpoints, publisher, telemetry

BATCH = 500
SLOTS_PER_CLAIM = 8  # half of them, so that a second relay finds work under load
ATTEMPTS_MAX = 10
IDLE_MIN_S = 0.02
IDLE_MAX_S = 1  # commits wake the relay; only rows of a process that died before it relayed them wait so long
ERROR_PAUSE_S = 1
BACKOFF_MAX_S = 30

# The lock and the read are two statements: in one, the read's snapshot would predate the lock's hand-over and
# rows that another relay has just deleted would be sent again.
# The commit does not wait for the disk: after a crash of the server deleted rows may be back and are published again.
_LOCK_SLOTS = """
SELECT slot, set_config('synchronous_commit', 'off', true) FROM outbox_slot s
WHERE blocked_until <= now() AND EXISTS (SELECT FROM outbox o WHERE o.slot = s.slot)
ORDER BY random() LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_READ = """
SELECT id, event_id, exchange, event_type, partition_key, slot, headers, payload, attempts
FROM outbox WHERE slot = ANY($1::smallint[]) ORDER BY id LIMIT $2
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_FAILED = """
UPDATE outbox SET attempts = attempts + 1, last_error = left($2, 500) WHERE id = $1
"""
_BLOCK = "UPDATE outbox_slot SET blocked_until = now() + make_interval(secs => $2) WHERE slot = ANY($1::smallint[])"


class Relay:
    """The relay of one process. Several may run; a slot is locked by one at a time."""

    def __init__(self, db: database.Database, sender: publisher.Publisher) -> None:
        """Take the database of the outbox and the channel to publish on."""
        self._db = db
        self._sender = sender
        self._stopping = False

    async def run(self) -> None:
        """Relay until stopped. A commit of this process wakes it; otherwise it looks after 20 ms to a second."""
        idle_s = IDLE_MIN_S
        while True:  # ends after `stop`, with an empty outbox
            is_last = self._stopping
            self._db.outbox_filled.clear()
            try:
                moved = await self.relay_once()
            except Exception as error:  # noqa: BLE001 - the loop's edge: an outage of either side must not end it
                telemetry.log.warning("relay.failed", error=type(error).__name__)
                moved, idle_s = 0, ERROR_PAUSE_S
            if moved:
                idle_s = IDLE_MIN_S
            # Fewer rows than slots in a claim: no slot was left out, so nothing waits.
            if moved >= (1 if is_last else SLOTS_PER_CLAIM):
                continue
            if is_last:
                return
            await _wait(self._db.outbox_filled, idle_s)
            idle_s = min(idle_s * 2, IDLE_MAX_S)

    def stop(self) -> None:
        """Publish what the outbox holds now, as far as the broker takes it, and end."""
        self._stopping = True
        self._db.outbox_filled.set()

    async def relay_once(self) -> int:
        """Publish one batch; gives the number of confirmed rows. Raises when broker or database is unavailable."""
        await self._sender.open()
        async with self._db.transaction() as tx:
            slots = [row["slot"] for row in await tx.fetch(_LOCK_SLOTS, SLOTS_PER_CLAIM)]
            rows = _next(await tx.fetch(_READ, slots, BATCH)) if slots else []
            if not rows:
                return 0
            failpoints.passed("relay.before_publish")
            outcomes = await self._publish(rows)
            failpoints.passed("relay.after_publish")
            return await self._settle(tx, rows, outcomes)

    async def _publish(self, rows: Sequence[asyncpg.Record]) -> list[BaseException | None]:
        channel = await self._sender.open()
        sends = [
            asyncio.ensure_future(
                publisher.send(
                    channel,
                    exchange=row["exchange"],
                    routing_key=row["event_type"],
                    headers=json.loads(row["headers"]),
                    body=row["payload"],
                    event_type=row["event_type"],
                )
            )
            for row in rows
        ]
        _, late = await asyncio.wait(sends, timeout=publisher.CONFIRM_TIMEOUT_S)
        for send in late:
            send.cancel()
        if late:
            await asyncio.wait(late)
            await self._sender.give_up()
        return [TimeoutError() if send.cancelled() else send.exception() for send in sends]

    async def _settle(
        self,
        tx: database.Tx,
        rows: Sequence[asyncpg.Record],
        outcomes: Sequence[BaseException | None],
    ) -> int:
        """Delete rows that were confirmed before the first failure of their key, and block slots with a failure."""
        confirmed: list[int] = []
        failed: dict[str, asyncpg.Record] = {}
        errors: dict[int, BaseException] = {}
        for row, error in zip(rows, outcomes, strict=True):
            telemetry.OUTBOX_PUBLISHED.labels(self._db.schema, _result_of(error)).inc()
            if error is not None and row["partition_key"] not in failed:
                failed[row["partition_key"]] = row
                errors[row["id"]] = error
            elif error is None and row["partition_key"] not in failed:
                confirmed.append(row["id"])
        await tx.execute(_DELETE, confirmed)
        if failed:
            await self._back_off(tx, list(failed.values()), errors)
        failpoints.passed("relay.before_commit")
        return len(confirmed)

    async def _back_off(
        self, tx: database.Tx, rows: Sequence[asyncpg.Record], errors: dict[int, BaseException]
    ) -> None:
        refused = [row for row in rows if _is_about_the_row(errors[row["id"]])]
        for row in refused:
            await tx.execute(_FAILED, row["id"], dead_letters.describe(errors[row["id"]]))
        if given_up := [row for row in refused if row["attempts"] + 1 >= ATTEMPTS_MAX]:
            failures = [(row, errors[row["id"]]) for row in given_up]
            await dead_letters.record_outgoing(tx, failures, attempts=ATTEMPTS_MAX)
            await tx.execute(_DELETE, [row["id"] for row in given_up])
            for row in given_up:
                telemetry.log.error("relay.dead_lettered", event_id=str(row["event_id"]), type=row["event_type"])
        pause_s = min(0.5 * 2 ** max(row["attempts"] for row in rows), BACKOFF_MAX_S)
        await tx.execute(_BLOCK, sorted({row["slot"] for row in rows}), pause_s)
        telemetry.log.warning("relay.backing_off", rows=len(rows), pause_s=pause_s)


async def measure(db: database.Database) -> None:
    """Set the gauges of the outbox: the number of rows that wait, and the age of the oldest."""
    async with db.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT count(*) AS pending, coalesce(extract(epoch FROM clock_timestamp() - min(enqueued_at)), 0)::float8"
            " AS age_s FROM outbox"
        )
    assert row is not None  # an aggregate always gives a row
    telemetry.OUTBOX_PENDING.labels(db.schema).set(row["pending"])
    telemetry.OUTBOX_AGE.labels(db.schema).set(row["age_s"])


def _next(rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    """Leave out rows behind one of their key that failed before; they wait until it is sent or dead-lettered."""
    stuck: set[str] = set()
    sendable: list[asyncpg.Record] = []
    for row in rows:
        if row["partition_key"] not in stuck:
            sendable.append(row)
        if row["attempts"]:
            stuck.add(row["partition_key"])
    return sendable


def _is_about_the_row(error: BaseException) -> bool:
    # A broken connection or a late confirm is not about the row, which is then tried without end. A return, a refusal
    # and an error of encoding are.
    if isinstance(error, DeliveryError):
        return True
    return not isinstance(error, AMQPError | ChannelInvalidStateError | OSError | TimeoutError)


def _result_of(error: BaseException | None) -> str:
    if error is None:
        return "confirmed"
    if isinstance(error, DeliveryError):
        return "returned"
    return "timeout" if isinstance(error, TimeoutError) else "error"


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
