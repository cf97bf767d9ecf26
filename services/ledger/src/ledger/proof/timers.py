"""The clock door of the proof: seals transfers behind the writers, and checks the books a piece at a time."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg
from prometheus_client import Counter, Gauge

from chassis import database, telemetry
from ledger.proof import domain, store, verify

ACCOUNTS_PER_CHECK = 2_000
BLOCKS_PER_CHECK = 4
NUMBERS_PER_SEAL = 32 * domain.BLOCK_MAX
NAMED_MAX = 10  # broken places in one line of the log
BOOKS = ("sums", "balances", "holds", "sequences", "chain")
"""What the continuous check tells about the books, each by itself."""

IMBALANCE = Gauge("kopilka_ledger_imbalance_units", "Sum of all balances; anything but 0 is an alarm.", ["asset"])
DRIFT = Counter("kopilka_ledger_account_drift", "Accounts found to disagree with their postings or open holds.")
UNSEALED = Gauge("kopilka_ledger_unsealed_transfers", "Numbers of transfers given out that are not sealed yet.")
LAST_SUCCESS = Gauge("kopilka_ledger_check_last_success_timestamp_seconds", "When a check last found nothing wrong.")


@dataclass(slots=True)
class Sealer:
    """Seals transfers behind the writers, in full blocks, or what there is when it has waited for `seal_after_s`."""

    db: database.Database
    seal_after_s: float
    watermark: domain.Watermark = field(default_factory=domain.Watermark)
    sealed_upto: int = 0

    async def tick(self) -> int:
        """Seal what can't change any more; gives 1 when there is more of it. One worker does it, the others rest."""
        async with self.db.statement() as tx:
            seen = await store.horizon(await database.driver(tx))
        self.watermark.see(seen)
        if self.sealed_upto >= seen.newest:
            self.sealed_upto = seen.newest  # less than it was where the database was put back
            return 0
        async with self.db.transaction() as tx:
            if not await store.take_turn(await database.driver(tx)):
                return 0
            sealed_upto, is_behind = await self._seal(await database.driver(tx))
        self.sealed_upto = sealed_upto
        UNSEALED.set(seen.newest - sealed_upto)
        return int(is_behind)

    async def _seal(self, connection: asyncpg.Connection) -> tuple[int, bool]:
        """Seal the next stretch of numbers; gives up to which all is sealed or gone, and whether more is waiting."""
        head = await store.newest(connection)
        after = max(head.block.last_number if head else 0, self.sealed_upto)
        upto = min(self.watermark.final, after + NUMBERS_PER_SEAL)
        if after >= upto:
            return after, False
        written, now = await store.unsealed(connection, after=after, upto=upto)
        is_behind = upto < self.watermark.final
        whole = len(written) // domain.BLOCK_MAX * domain.BLOCK_MAX
        rest = written[whole:]
        if rest and (now - rest[0].recorded_at >= timedelta(seconds=self.seal_after_s) or (is_behind and not whole)):
            whole, rest = len(written), []
        blocks = []
        for place in range(0, whole, domain.BLOCK_MAX):
            leaves = [each.leaf for each in written[place : min(place + domain.BLOCK_MAX, whole)]]
            head = domain.seal(leaves, after=head, at=now)
            blocks.append(head)
        await store.add(connection, blocks)
        if not rest:
            return upto, is_behind  # numbers behind the last transfer were rolled back and never come
        return blocks[-1].block.last_number if blocks else after, is_behind


@dataclass(slots=True)
class Tour:
    """A way round everything of one sort, a piece at a time. What was found stays until a whole tour finds nothing."""

    after: int = 0
    found: set[str] = field(default_factory=set)
    found_before: set[str] = field(default_factory=set)

    @property
    def breaches(self) -> set[str]:
        """What this tour and the one before it found."""
        return self.found | self.found_before

    def go_on(self, found: set[str], *, after: int) -> None:
        """Take in what one piece showed; after the last piece, which gives 0, a new tour begins."""
        self.found |= found
        self.after = after
        if not after:
            self.found_before, self.found = self.found, set()


@dataclass(slots=True)
class ContinuousCheck:
    """Goes round all accounts and all blocks in turn, and looks at the newest blocks each time.

    `verify` proves the whole history, this finds a fresh breach within minutes.
    """

    db: database.Database
    accounts: Tour = field(default_factory=Tour)
    blocks: Tour = field(default_factory=Tour)
    head: domain.Sealed | None = None

    async def tick(self) -> int:
        """Check the next piece; gives 0, so that the timer rests. A broken tour goes on at once, to end soon."""
        async with self.db.transaction() as tx:
            sums = await verify.imbalances(tx)
            drift = await verify.drifted(tx, after_id=self.accounts.after, limit=ACCOUNTS_PER_CHECK)
            edited, after_block = await self._check_chain(tx)
        for asset, units in sums.items():
            IMBALANCE.labels(asset).set(units)
        drifted = drift.unposted | drift.unheld | drift.broken
        DRIFT.inc(len(drifted))
        of_accounts = {"sums": any(sums.values()), "balances": drift.unposted, "holds": drift.unheld}
        found = {name for name, is_broken in {**of_accounts, "sequences": drift.broken}.items() if is_broken}
        self.accounts.go_on(found, after=drift.last)
        self.blocks.go_on({"chain"} if edited else set(), after=after_block)
        if found or edited:
            named = {"accounts": sorted(drifted)[:NAMED_MAX], "chain": edited[:NAMED_MAX]}
            telemetry.log.error("ledger.check.broken", imbalance_units=sums, **named)
        elif not self.accounts.breaches | self.blocks.breaches:
            LAST_SUCCESS.set(time.time())
        return int(any(tour.breaches and tour.after for tour in (self.accounts, self.blocks)))

    async def passes(self, name: str) -> bool:
        """Tell whether one of BOOKS is sound, as far as is known."""
        return name not in self.accounts.breaches | self.blocks.breaches

    async def _check_chain(self, tx: database.Tx) -> tuple[list[str], int]:
        connection = await database.driver(tx)
        edited, after = await verify.broken_blocks(tx, after=self.blocks.after, limit=BLOCKS_PER_CHECK)
        newest = await store.newest(connection)
        if newest:
            first = max(0, newest.block.number - BLOCKS_PER_CHECK)
            edited += (await verify.broken_blocks(tx, after=first, limit=BLOCKS_PER_CHECK))[0]
        if self.head:
            known = self.head.block.number
            kept = await store.blocks(connection, after=known - 1, limit=1)
            if [each.hash for each in kept] != [self.head.hash]:
                edited.append(f"block {known}: it is no longer what it was")
        self.head = newest
        return edited, after
