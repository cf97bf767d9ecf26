"""Sends cases to the queues of a running stack and finds out what became of each."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import cast

import aio_pika
import asyncpg
import queue_cases
from aio_pika.abc import AbstractConnection
from aiormq import Channel

from chassis import topology
from demo import stack

PAUSE_S = 0.05
SALTS = 20
HANDLED, DEAD, PUT_OFF = "handled", "dead letter", "put off"
RETRIES = [topology.retry_exchange(step) for step, _ in topology.RETRY_DELAYS]


class Watch:
    """One connection to the broker and one to the database, both as administrator."""

    def __init__(self, where: stack.Stack) -> None:
        """Connect later: everything happens in the caller's event loop."""
        self._where = where
        self._numbers = itertools.count(1)
        self._broker: AbstractConnection | None = None
        self._database: asyncpg.Connection | None = None
        self._retried: set[str] = set()

    async def open(self) -> None:
        """Connect."""
        self._broker = await aio_pika.connect(self._where.environment["AMQP_URL"])
        self._database = await asyncpg.connect(self._where.environment["DATABASE_URL"])

    async def close(self) -> None:
        """Disconnect."""
        if self._broker is not None and self._database is not None:
            await self._broker.close()
            await self._database.close()

    async def send(self, cases: Sequence[queue_cases.Case], *, salt: int | None = None) -> list[queue_cases.Sent]:
        """Put cases right into their queues, in this order, and wait for the broker's confirmation."""
        assert self._broker is not None
        sent = []
        async with self._broker.channel() as opened:
            channel = cast("Channel", await opened.get_underlay_channel())
            for case in cases:
                number = next(self._numbers)
                one = queue_cases.sent(case, f"case-{number}", salt=1 + number % SALTS if salt is None else salt)
                await channel.basic_publish(one.body, routing_key=case.queue, properties=one.properties)
                sent.append(one)
        return sent

    async def outcomes(self, sent: Sequence[queue_cases.Sent], *, wait_s: float) -> dict[str, str]:
        """Wait until each has an outcome, and give them by number; without one it has none after the wait."""
        found: dict[str, str] = {}
        give_up_at = asyncio.get_running_loop().time() + wait_s
        while len(found) < len(sent) and asyncio.get_running_loop().time() < give_up_at:
            await self._take_retries()
            found |= dict.fromkeys(self._retried & {one.number for one in sent}, PUT_OFF)
            for queue in {one.case.queue for one in sent if one.number not in found}:
                of_queue = [one for one in sent if one.case.queue == queue]
                found |= await self._found(queue, of_queue)
            await asyncio.sleep(PAUSE_S)
        return found

    async def depths(self) -> dict[str, int]:
        """Give the queues that hold something, and how many messages."""
        names = [*queue_cases.QUEUES, *(f"{name}.dlq" for name in queue_cases.QUEUES), *RETRIES, topology.UNROUTED]
        depths = {name: await self._depth(name) for name in names}
        return {name: depth for name, depth in depths.items() if depth}

    async def reset(self, queue: str) -> None:
        """Empty a queue, with what its consumer holds or keeps giving back."""
        assert self._broker is not None
        consumer = f"{queue_cases.SERVICE_OF[queue]}-worker"
        self._where.kill(consumer)
        async with self._broker.channel() as channel:
            for _ in range(40):  # what the killed consumer held comes back when the broker has noticed
                for name in (queue, f"{queue}.dlq"):
                    await (await channel.get_queue(name, ensure=False)).purge()
                await asyncio.sleep(PAUSE_S)
        self._where.restart(consumer)

    async def open_dead_letters(self, service: str) -> int:
        """Give the number of open dead letters of a service."""
        assert self._database is not None
        return int(
            await self._database.fetchval(f"SELECT count(*) FROM {service}.dead_letter WHERE resolved_at IS NULL")
        )

    async def wait_until_empty(self, *, wait_s: float = 60) -> None:
        """Wait until no queue holds anything. Raises TimeoutError."""
        async with asyncio.timeout(wait_s):
            while await self.depths():
                await self._take_retries()
                await asyncio.sleep(PAUSE_S)

    async def _depth(self, name: str) -> int:
        assert self._broker is not None
        async with self._broker.channel() as channel:
            declared = await channel.declare_queue(name, passive=True)
            return int(declared.declaration_result.message_count or 0)

    async def _found(self, queue: str, sent: Sequence[queue_cases.Sent]) -> dict[str, str]:
        assert self._database is not None
        schema = queue_cases.SERVICE_OF[queue]
        ids = {one.event_id: one.number for one in sent if one.event_id}
        bodies = {one.body: one.number for one in sent}
        numbers = {one.number for one in sent}
        found: dict[str, str] = {}
        claimed = await self._database.fetch(
            f"SELECT event_id FROM {schema}.inbox WHERE consumer = $1 AND event_id = ANY($2)", queue, list(ids)
        )
        letters = await self._database.fetch(
            f"SELECT event_id, payload, headers->>'{queue_cases.NUMBER}' AS number FROM {schema}.dead_letter"
            " WHERE consumer = $1 AND resolved_at IS NULL AND failed_at > now() - interval '10 minutes'",
            queue,
        )
        for row in claimed:
            found |= {one.number: HANDLED for one in sent if one.event_id == row["event_id"]}
        for row in letters:
            number = row["number"] or bodies.get(bytes(row["payload"]))
            found |= {one.number: DEAD for one in sent if one.event_id == row["event_id"] or one.number == number}
        return {number: outcome for number, outcome in found.items() if number in numbers}

    async def _take_retries(self) -> None:
        """Take our cases out of the retry queues: a try in an hour is awaited by nobody here."""
        assert self._broker is not None
        async with self._broker.channel() as channel:
            for name in RETRIES:
                queue = await channel.get_queue(name, ensure=False)
                while (message := await queue.get(fail=False)) is not None:
                    number = message.headers.get(queue_cases.NUMBER)
                    if number is None:
                        await message.nack(requeue=True)
                        break
                    self._retried.add(str(number))
                    await message.ack()
