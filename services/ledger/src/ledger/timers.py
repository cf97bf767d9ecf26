"""The clock door: ends holds whose time is over, and checks the books again and again, a bounded piece at a time."""

import time
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from chassis import database, outbox, telemetry
from ledger import store, verify
from ledger.domain import holds

EXPIRE_MAX = 100
ACCOUNTS_PER_CHECK = 2_000

IMBALANCE = Gauge("kopilka_ledger_imbalance_units", "Sum of all balances; anything but 0 is an alarm.", ["asset"])
DRIFT = Counter("kopilka_ledger_account_drift", "Accounts found to disagree with their postings or open holds.")
LAST_SUCCESS = Gauge("kopilka_ledger_check_last_success_timestamp_seconds", "When a check last found nothing wrong.")


async def expire_holds(db: database.Database) -> int:
    """End the oldest holds whose time is over by the database's clock; gives how many."""
    async with db.transaction() as tx:
        due = await store.lock_due_holds(tx, limit=EXPIRE_MAX)
        if not due:
            return 0
        book = await store.lock_accounts(tx, {hold.wallet.name for hold in due})
        at = await store.clock(tx)
        ended = [holds.expire(book, hold, at=at) for hold in due]
        await store.close_books(tx, book)
        await store.end_holds(tx, [hold for hold, _ in ended])
        await outbox.put(tx, [event for _, event in ended])
    return len(due)


@dataclass(slots=True)
class ContinuousCheck:
    """Goes round all accounts in turn; `verify` proves the whole history, this finds a fresh breach within minutes."""

    db: database.Database
    after_id: int = 0

    async def tick(self) -> int:
        """Check the sums of all balances and the next accounts; gives 0, so that the timer rests."""
        async with self.db.transaction() as tx:
            sums = await verify.imbalances(tx)
            drifted, self.after_id = await verify.drifted(tx, after_id=self.after_id, limit=ACCOUNTS_PER_CHECK)
        for asset, units in sums.items():
            IMBALANCE.labels(asset).set(units)
        DRIFT.inc(drifted)
        if drifted or any(sums.values()):
            telemetry.log.error("ledger.check.broken", drifted_accounts=drifted, imbalance_units=sums)
        else:
            LAST_SUCCESS.set(time.time())
        return 0
