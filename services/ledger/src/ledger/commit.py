"""Group commit: whoever asks at the same time shares a transaction, and everybody gets an outcome of his own.

A commit costs a flush of the disk and the lock of the accounts that all share, so few and large transactions carry
many times more than many small ones. Who comes while the lanes are busy waits, and goes with the next.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import prometheus_client

from chassis import batch, database, envelope, inbox
from contracts import ledger
from ledger import handlers
from ledger.domain import requests
from ledger.store import desk as store

IN_FLIGHT_MAX = 2  # one transaction writes while another is read and waits for the locks
REQUESTS_MAX = batch.BATCH  # in one transaction
WAITERS_MAX = 8 * REQUESTS_MAX  # of one command each, or of what a queue has delivered at once
RETRIES_MAX = 3
LOCAL = "ledger.local"  # the door of this process's own requests

WAITING = prometheus_client.Gauge("kopilka_ledger_waiting_requests", "Requests that wait for a transaction.")
WAIT = prometheus_client.Histogram(
    "kopilka_ledger_wait_seconds",
    "From the asking to the beginning of the transaction.",
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
GROUPS = prometheus_client.Histogram(
    "kopilka_ledger_group_requests",
    "Requests that shared a transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BACKPRESSURE = prometheus_client.Counter("kopilka_ledger_held_back", "Askers that had to wait before they could queue.")


class _Waiter(NamedTuple):
    deliveries: Sequence[batch.Delivered]
    outcomes: "asyncio.Future[handlers.Outcomes]"
    since: float


class GroupCommit:
    """The one way to the books of a process; bounded, and fair between its doors."""

    def __init__(self, db: database.Database) -> None:
        """Take the database that transactions are made in."""
        self._db = db
        self._queues: dict[str, deque[_Waiter]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(WAITERS_MAX)

    def wrap(self, queue: batch.BatchQueue) -> batch.BatchQueue:
        """Give a queue whose batches share transactions with whoever else asks."""

        async def handle(_: database.Database, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
            return await self.settle(deliveries)

        return replace(queue, handle=handle)

    async def execute(self, command: ledger.LedgerCommand) -> requests.Outcome:
        """Settle one command of this process and give its outcome. Raises PrerequisiteMissing."""
        delivery = inbox.local(command, LOCAL, source="/kopilka/ledger")
        outcome = (await self.settle([(delivery, command)]))[delivery.envelope.id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def settle(self, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
        """Settle messages of one queue, which is their door; what could not be settled has an exception for outcome."""
        if self._room.locked():
            BACKPRESSURE.inc()
        async with self._room:
            asker = _Waiter(deliveries, asyncio.get_running_loop().create_future(), time.monotonic())
            self._queues.setdefault(deliveries[0][0].queue, deque()).append(asker)
            WAITING.inc(len(deliveries))
            if len(self._in_flight) < IN_FLIGHT_MAX:
                self._in_flight.add(asyncio.create_task(self._run()))
            return await asker.outcomes

    async def _run(self) -> None:
        """Settle groups until nobody waits; who asks after that finds this lane gone, not about to go."""
        while group := self._next_group():
            size = sum(len(asker.deliveries) for asker in group)
            WAITING.dec(size)
            GROUPS.observe(size)
            for asker in group:
                WAIT.observe(time.monotonic() - asker.since)
            await self._settle(group)
        self._in_flight.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next_group(self) -> list[_Waiter]:
        """Take askers from all doors in turn, as many as fit into one transaction, at least one."""
        group: list[_Waiter] = []
        room = REQUESTS_MAX
        while self._queues:
            door, waiting = next(iter(self._queues.items()))
            if group and len(waiting[0].deliveries) > room:
                break
            group.append(waiting.popleft())
            room -= len(group[-1].deliveries)
            del self._queues[door]
            if waiting:
                self._queues[door] = waiting  # at the end of the line
        return group

    async def _settle(self, group: Sequence[_Waiter]) -> None:
        try:
            outcomes = await self._persistently([delivered for asker in group for delivered in asker.deliveries])
        except Exception as error:  # noqa: BLE001 - each asker gets it, or a transaction without the others
            if len(group) == 1 or database.is_outage(error):
                for asker in group:
                    _answer(asker, error)
                return
            for asker in group:
                await self._settle([asker])
            return
        for asker in group:
            mine = [delivery.envelope.id for delivery, _ in asker.deliveries]
            _answer(asker, {event_id: outcomes[event_id] for event_id in mine if event_id in outcomes})

    async def _persistently(self, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
        """Settle, again when a race was lost, as where two transactions open the same accounts at once."""
        for _ in range(RETRIES_MAX):
            try:
                return await handlers.settle(self._db, deliveries)
            except Exception as error:
                if not database.is_transient(error):
                    raise
            await asyncio.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
        return await handlers.settle(self._db, deliveries)


async def dry_run(db: database.Database, commands: Sequence[ledger.LedgerCommand]) -> list[requests.Outcome]:
    """Tell what commands would come to, one after the other, and write nothing. Raises PrerequisiteMissing."""
    asked = [requests.Request(command, envelope.uuid7()) for command in commands]
    async with db.transaction() as tx:
        desk = await store.open_desk(tx, asked, is_dry_run=True)
    return [desk.settle(request) for request in asked]


def _answer(asker: _Waiter, outcome: handlers.Outcomes | Exception) -> None:
    if asker.outcomes.done():
        return  # whoever asked does not wait any more
    if isinstance(outcome, Exception):
        asker.outcomes.set_exception(outcome)
    else:
        asker.outcomes.set_result(outcome)
