"""Group commit: requests that arrive at the same time share a transaction, and each gets an outcome of its own.

A commit costs a flush to disk and the lock of the accounts that all requests share, so few large transactions carry
many times more than many small ones. Requests that arrive while all transactions are in flight go with the next one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import prometheus_client

from chassis import batch, database, envelope, inbox
from contracts import ledger
from ledger import handlers, store
from ledger.domain import requests

IN_FLIGHT_MAX = 2  # one transaction writes while another is read and waits for the locks
REQUESTS_MAX = batch.BATCH  # in one transaction
WAITERS_MAX = 8 * REQUESTS_MAX  # each with one command, or with the messages that a queue has delivered at once
LOCAL_QUEUE = "ledger.local"  # the inbox name of this process's own requests
SOURCE = "/kopilka/ledger"

WAITING = prometheus_client.Gauge("kopilka_ledger_waiting_requests", "Requests that wait for a transaction.")
WAIT = prometheus_client.Histogram(
    "kopilka_ledger_wait_seconds",
    "From the arrival of a request to the beginning of its transaction.",
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
GROUPS = prometheus_client.Histogram(
    "kopilka_ledger_group_requests",
    "Requests that shared a transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BACKPRESSURE = prometheus_client.Counter(
    "kopilka_ledger_held_back", "Requests that had to wait before they could be queued."
)


class _Waiter(NamedTuple):
    deliveries: Sequence[batch.Delivered]
    outcomes: "asyncio.Future[handlers.Outcomes]"
    since: float


class GroupCommit:
    """Settles the requests of a process in shared transactions; bounded, and fair between queues."""

    def __init__(self, db: database.Database) -> None:
        """Take the database that transactions are made in."""
        self._db = db
        self._queues: dict[str, deque[_Waiter]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._capacity = asyncio.Semaphore(WAITERS_MAX)

    def wrap(self, queue: batch.BatchQueue) -> batch.BatchQueue:
        """Return the queue with a handler whose batches share transactions with other requests."""

        async def handle(_: database.Database, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
            return await self.settle(deliveries)

        return replace(queue, handle=handle)

    async def execute(self, command: ledger.LedgerCommand) -> requests.Outcome:
        """Settle one command of this process. Raises PrerequisiteMissing."""
        delivery = inbox.local(command, LOCAL_QUEUE, source=SOURCE)
        return or_raise((await self.settle([(delivery, command)]))[delivery.envelope.id])

    async def settle(self, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
        """Settle messages of one queue with the next transaction that has room for them."""
        if self._capacity.locked():
            BACKPRESSURE.inc()
        async with self._capacity:
            waiter = _Waiter(deliveries, asyncio.get_running_loop().create_future(), time.monotonic())
            self._queues.setdefault(deliveries[0][0].queue, deque()).append(waiter)
            WAITING.inc(len(deliveries))
            if len(self._in_flight) < IN_FLIGHT_MAX:
                self._in_flight.add(asyncio.create_task(self._run()))
            return await waiter.outcomes

    async def _run(self) -> None:
        """Settle groups until nothing waits.

        The task leaves `_in_flight` in the same step in which it finds nothing, so what arrives later starts another.
        """
        while group := self._next_group():
            size = sum(len(waiter.deliveries) for waiter in group)
            WAITING.dec(size)
            GROUPS.observe(size)
            for waiter in group:
                WAIT.observe(time.monotonic() - waiter.since)
            await self._settle(group)
        self._in_flight.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next_group(self) -> list[_Waiter]:
        """Take waiters from all queues in turn, as many as fit into one transaction, at least one."""
        group: list[_Waiter] = []
        room = REQUESTS_MAX
        while self._queues:
            name, waiters = next(iter(self._queues.items()))
            if group and len(waiters[0].deliveries) > room:
                break
            group.append(waiters.popleft())
            room -= len(group[-1].deliveries)
            del self._queues[name]
            if waiters:
                self._queues[name] = waiters  # its next turn comes after all other queues
        return group

    async def _settle(self, group: Sequence[_Waiter]) -> None:
        try:
            deliveries = [delivered for waiter in group for delivered in waiter.deliveries]
            outcomes = await handlers.settle(self._db, deliveries)
        except Exception as error:  # noqa: BLE001 - each waiter gets it, or a transaction without the others
            if len(group) == 1 or database.is_outage(error):
                for waiter in group:
                    _resolve(waiter, error)
                return
            for waiter in group:
                await self._settle([waiter])
            return
        for waiter in group:
            ids = [delivery.envelope.id for delivery, _ in waiter.deliveries]
            _resolve(waiter, {event_id: outcomes[event_id] for event_id in ids if event_id in outcomes})


async def dry_run(db: database.Database, commands: Sequence[ledger.LedgerCommand]) -> list[requests.Outcome]:
    """Return what the outcomes of commands would be, one after the other, and write nothing.

    Raises PrerequisiteMissing.
    """
    to_settle = [requests.Request(cast("requests.Command", command), envelope.uuid7()) for command in commands]
    async with db.transaction() as tx:
        ledger_batch = await store.load(tx, to_settle, is_dry_run=True)
    return [ledger_batch.settle(request) for request in to_settle]


def or_raise(outcome: requests.Outcome | Exception) -> requests.Outcome:
    """Return an outcome; raises the exception that stands for a request that could not be settled."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _resolve(waiter: _Waiter, outcome: handlers.Outcomes | Exception) -> None:
    if waiter.outcomes.done():
        return  # the caller was cancelled
    if isinstance(outcome, Exception):
        waiter.outcomes.set_exception(outcome)
    else:
        waiter.outcomes.set_result(outcome)
