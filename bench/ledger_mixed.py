"""Mixed load on the ledger: many clients at once, each with one request at a time, share transactions.

Of 100 requests 60 are credits, 20 a hold and its capture, 10 purchases from the wallet and 10 reads. The same load
runs over 10, 1,000 and 1,000,000 wallets: few are hot, many do not fit the caches.
"""

import asyncio
import gc
import itertools
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import harness
import ledger_posting
import uvloop

from chassis import batch, database, envelope, inbox
from contracts import ledger, message, payments
from ledger import commit, main
from ledger.domain import chart

RUNS = 5
WALLETS = (10, 1_000, 1_000_000)
CLIENTS = 256
REQUESTS = 20_000
OPENING_MINOR = 10_000_000
DEMO = message.TenantId("demo")
MIX = ("credit",) * 60 + ("hold",) * 10 + ("capture",) * 10 + ("spend",) * 10 + ("read",) * 10

_OPEN = """
INSERT INTO account (tenant, code, asset, kind, exponent, owner, overdraft_minor)
SELECT 'demo', format('user:%s:wallet', id), 'RUB', 'wallet', 2, id, 0
FROM (SELECT lpad(to_hex(number), 32, '0')::uuid AS id FROM generate_series(1, $1::int) AS number) AS wallet
"""
_READ = "SELECT balance_minor, held_minor FROM account WHERE tenant = $1 AND code = $2 AND asset = $3"


async def bench() -> None:
    """Measure the mix over few, some and many wallets."""
    gc.set_threshold(*main.GC_THRESHOLD)
    rows = [{"wallets": f"{count:,}", "requests/s": await harness.median_of(RUNS, mixed(count))} for count in WALLETS]
    await harness.report(
        "Ledger under mixed load",
        rows,
        [
            f"{REQUESTS:,} requests of {CLIENTS} clients in one process, each with one request at a time.",
            "60 % credits, 20 % a hold and its capture, 10 % guarded debits, 10 % reads of a balance.",
            f"Median of {RUNS} runs, with the lowest and the highest.",
        ],
    )


def mixed(wallets: int) -> Callable[[], Awaitable[float]]:
    """Return a measurement over so many wallets, in requests per second."""

    async def measure() -> float:
        async with harness.fresh_database(main.SERVICE) as url:
            db = database.Database(url, schema="ledger", pool_size=commit.IN_FLIGHT_MAX + 2)
            group = commit.GroupCommit(db)
            try:
                await open_wallets(db, wallets)
                await fill(group, min(wallets, 1_000))
                gc.collect()
                gc.freeze()
                remaining = itertools.repeat(None, REQUESTS)
                started = time.perf_counter()
                await asyncio.gather(*(Client(db, group, wallets).run(remaining) for _ in range(CLIENTS)))
                return REQUESTS / (time.perf_counter() - started)
            finally:
                gc.unfreeze()
                await db.close()

    return measure


class Client:
    """One of many concurrent clients."""

    def __init__(self, db: database.Database, group: commit.GroupCommit, wallets: int) -> None:
        """Take the books and the number of wallets."""
        self._db, self._group, self._wallets = db, group, wallets
        self._hold: ledger.PlaceHold | None = None

    async def run(self, remaining: Iterator[None]) -> None:
        """Send one request after the other until none remains."""
        for _ in remaining:
            kind = random.choice(MIX)
            if kind == "read":
                await self._read(self._user())
            elif kind == "credit":
                await credit(self._group, self._user())
            elif kind == "spend":
                await self._group.execute(spend(self._user()))
            elif self._hold is None:
                self._hold = hold(self._user())
                await self._group.execute(self._hold)
            else:
                captured = ledger.CaptureHold(tenant=DEMO, hold_id=self._hold.hold_id, amount_minor=100)
                self._hold = None
                await self._group.execute(captured)

    def _user(self) -> message.UserId:
        # Half of the requests go to wallets that have money: the first thousand.
        return user(random.randint(1, min(self._wallets, 1_000) if random.random() < 0.5 else self._wallets))

    async def _read(self, user_id: message.UserId) -> None:
        async with self._db.statement() as tx:
            await tx.fetchrow(_READ, *chart.user_account(DEMO, user_id, "RUB").name)


def user(number: int) -> message.UserId:
    """Return a user by number."""
    return message.UserId(uuid.UUID(int=number))


def hold(user_id: message.UserId) -> ledger.PlaceHold:
    """Build a small hold."""
    return ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(uuid.uuid4()),
        user_id=user_id,
        amount=message.Money(amount_minor=100, currency="RUB"),
        reference="order:1",
        expires_at=envelope.now() + timedelta(minutes=15),
    )


def spend(user_id: message.UserId) -> ledger.PostTransfers:
    """Build a purchase from the wallet without a hold."""
    code = chart.user_account(DEMO, user_id, "RUB").name.code
    legs = (
        ledger.RequestedLeg(account=code, asset="RUB", amount_minor=-100),
        ledger.RequestedLeg(account="revenue", asset="RUB", amount_minor=100),
    )
    transfer = ledger.RequestedTransfer(kind="spend", reference="order:1", legs=legs)
    return ledger.PostTransfers(tenant=DEMO, request_id=str(uuid.uuid4()), transfers=(transfer,))


async def credit(group: commit.GroupCommit, user_id: message.UserId, amount_minor: int = 1_000) -> None:
    """Settle a payment as a message of its own."""
    (event,) = ledger_posting.events(1)
    amount = message.Money(amount_minor=amount_minor, currency="RUB")
    event = event.model_copy(update={"user_id": user_id, "amount": amount})
    await group.settle([delivered(event)])


def delivered(event: payments.PaymentPaid) -> batch.Delivered:
    """Wrap an event as it would come from the queue."""
    return inbox.local(event, "ledger.payments", source="/kopilka/payments"), event


async def open_wallets(db: database.Database, count: int) -> None:
    """Open empty wallets."""
    async with db.transaction() as tx:
        await tx.execute(_OPEN, count, timeout=300)


async def fill(group: commit.GroupCommit, count: int) -> None:
    """Credit some wallets with money to spend."""
    await asyncio.gather(*(credit(group, user(number), OPENING_MINOR) for number in range(1, count + 1)))


if __name__ == "__main__":
    uvloop.run(bench())
