"""The failure policy of message handlers: retry at once, retry later, or dead letter.

A serialization failure or deadlock is retried at once; an outage is waited for; any other failure goes through the
retry queues, whose delays grow, and ends as a dead letter. A message is acknowledged when one of these is durable.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from chassis import database, dead_letters, envelope, errors, failpoints, publisher, telemetry, topology

QUICK_RETRIES = 3
OUTAGE_WAIT_S = 60  # far below the broker's 30 minutes for an unacknowledged message
OUTAGE_PAUSE_S = 1


@contextmanager
def validation_errors_are_defects() -> Iterator[None]:
    """Turn a ValidationError inside a handler into a defect: the message was read, so it is about our own data."""
    try:
        yield
    except ValidationError as defect:
        raise RuntimeError("the handler could not read its own data") from defect


class FailurePolicy:
    """The failure policy of one process."""

    def __init__(self, db: database.Database, sender: publisher.Publisher) -> None:
        """Take the database of the dead letters and the channel that retries are published on."""
        self._db = db
        self._sender = sender

    async def with_retries(self, attempt: Callable[[], Awaitable[Any]]) -> None:
        """Run a handler; repeat it at once after a lost race, and after pauses while the database is unavailable.

        Raises any other error of the handler, a lost race after three retries, and an outage after a minute.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + OUTAGE_WAIT_S
        races = 0
        while True:
            try:
                await attempt()
            except Exception as error:
                if database.is_transient(error) and races < QUICK_RETRIES:
                    races += 1
                    await asyncio.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - jitter, not a secret
                elif database.is_outage(error) and loop.time() < give_up_at:
                    telemetry.log.warning("handler.waits_for_database", error=type(error).__name__)
                    await asyncio.sleep(OUTAGE_PAUSE_S)
                else:
                    raise
            else:
                return

    async def retry_or_dead_letter(self, queue: str, headers: Mapping[str, Any], body: bytes, error: Exception) -> None:
        """Publish a failed message to its next retry queue, or store a dead letter. Returns when either is durable.

        Raises publisher.Unavailable, or an outage of the database, when neither can be had now.
        """
        if _final_reason(error) is not None:
            await self.dead_letter(queue, headers, body, error)
            return
        try:
            wrapper = envelope.parse(headers)
            if wrapper.attempt >= len(topology.RETRY_DELAYS):
                await self.dead_letter(queue, headers, body, error, reason="retries_exhausted")
                return
            await self._retry_later(queue, wrapper, headers, body, error)
        except (envelope.Unreadable, publisher.Refused) as refusal:
            await self.dead_letter(queue, headers, body, refusal)

    async def dead_letter(
        self, queue: str, headers: Mapping[str, Any], body: bytes, error: Exception, *, reason: str | None = None
    ) -> None:
        """Store a dead letter at once; without a `reason` that of the error, for one of reading `unreadable`."""
        reason = reason or _final_reason(error) or "unreadable"
        await dead_letters.record(self._db, consumer=queue, headers=headers, body=body, reason=reason, error=error)

    async def _retry_later(
        self, queue: str, wrapper: envelope.Envelope, headers: Mapping[str, Any], body: bytes, error: Exception
    ) -> None:
        step = topology.RETRY_DELAYS[wrapper.attempt][0]
        telemetry.RETRIES.labels(queue, step).inc()
        telemetry.log.warning(
            "handler.failed", consumer=queue, type=wrapper.type, retry_in=step, error=dead_letters.describe(error)
        )
        await self._sender.publish(
            exchange=topology.retry_exchange(step),
            routing_key=queue,
            headers={**envelope.ours(headers), envelope.ATTEMPT: wrapper.attempt + 1},
            body=body,
            event_type=wrapper.type,
        )
        failpoints.passed("retries.before_ack")


def _final_reason(error: Exception) -> str | None:
    if isinstance(error, envelope.Unreadable | ValidationError) or database.is_unstorable(error):
        return "unreadable"
    if isinstance(error, publisher.Refused):
        return "unpublishable"
    return "unprocessable" if isinstance(error, errors.Unprocessable) else None
