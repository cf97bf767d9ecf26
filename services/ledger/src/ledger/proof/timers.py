"""The timers of the proof: they seal transfers behind the writers, and check the books a part at a time."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Counter, Gauge

from chassis import database, telemetry
from ledger.proof import domain, verify
from ledger.proof.store import chain, checks

ACCOUNTS_PER_CHECK = 2_000
BLOCKS_PER_CHECK = 4
NEWEST_POSTINGS = 20  # of each account
NUMBERS_PER_SEAL = 32 * domain.BLOCK_MAX
NAMED_MAX = 10  # broken accounts and blocks in one line of the log
CHECKED = ("sums", "balances", "holds", "sequences", "chain")
"""The parts of the books that the continuous check reports on, each by itself."""

IMBALANCE = Gauge("kopilka_ledger_imbalance_units", "Sum of all balances; anything but 0 is an alarm.", ["asset"])
DRIFT = Counter("kopilka_ledger_account_drift", "Accounts found to disagree with their postings or open holds.")
UNSEALED = Gauge("kopilka_ledger_unsealed_transfers", "Numbers of transfers taken that are not sealed yet.")
LAST_SUCCESS = Gauge("kopilka_ledger_check_last_success_timestamp_seconds", "When a check last found nothing wrong.")


@dataclass(slots=True)
class Sealer:
    """Seals transfers behind the writers in full blocks, or in smaller ones after a wait of `seal_after_s`."""

    db: database.Database
    seal_after_s: float
    watermark: domain.Watermark = field(default_factory=domain.Watermark)
    sealed_upto: int = 0

    async def tick(self) -> int:
        """Seal transfers up to the watermark; returns 1 when more are left. One worker does it, the others return 0."""
        async with self.db.statement() as tx:
            seen = await chain.horizon(tx)
        self.watermark.advance(seen)
        if self.sealed_upto >= seen.newest:
            self.sealed_upto = seen.newest  # smaller than before where the database was restored
            return 0
        async with self.db.transaction() as tx:
            at = await chain.lock_sealing(tx)
            if at is None:
                return 0
            sealed_upto, is_behind = await self._seal(tx, at)
        self.sealed_upto = sealed_upto
        UNSEALED.set(seen.newest - sealed_upto)
        return int(is_behind)

    async def _seal(self, tx: database.Tx, at: datetime) -> tuple[int, bool]:
        """Seal the next range; returns the number that it reached, and whether more is left."""
        head = await chain.last_block(tx)
        after = max(head.last_number if head else 0, self.sealed_upto)
        upto = min(self.watermark.final, after + NUMBERS_PER_SEAL)
        if after >= upto:
            return after, False
        transfers = await chain.transfers(tx, after=after, upto=upto)
        is_behind = upto < self.watermark.final
        blocks: list[domain.Block] = []
        for place in range(0, len(transfers), domain.BLOCK_MAX):
            waiting = transfers[place : place + domain.BLOCK_MAX]
            waited_us = domain.microseconds(at) - waiting[0].content["recorded_at_us"]
            is_due = waited_us >= self.seal_after_s * 1_000_000 or (is_behind and not blocks)
            if len(waiting) < domain.BLOCK_MAX and not is_due:
                upto = blocks[-1].last_number if blocks else after
                break
            head = domain.seal(waiting, after=head, at=at)
            blocks.append(head)
        await chain.add(tx, blocks)
        return upto, is_behind  # numbers after the last transfer were rolled back


@dataclass(slots=True)
class Sweep:
    """A pass over all rows of one kind, a part at a time. A violation stays until a whole sweep finds none."""

    after: int = 0
    found: set[str] = field(default_factory=set)
    found_before: set[str] = field(default_factory=set)

    @property
    def violations(self) -> set[str]:
        """What this sweep and the one before it found."""
        return self.found | self.found_before

    def advance(self, found: set[str], *, after: int) -> None:
        """Add what one part showed; after the last part, where `after` is 0, a new sweep begins."""
        self.found |= found
        self.after = after
        if not after:
            self.found_before, self.found = self.found, set()


@dataclass(slots=True)
class ContinuousCheck:
    """Checks all accounts and all blocks in turn, and the newest blocks each time.

    `verify` checks the whole history; this finds a fresh violation within minutes.
    """

    db: database.Database
    accounts: Sweep = field(default_factory=Sweep)
    blocks: Sweep = field(default_factory=Sweep)
    head: domain.Block | None = None

    async def tick(self) -> int:
        """Check the next part; returns 0, so that the timer rests. A sweep with a violation goes on at once."""
        async with self.db.transaction() as tx:
            sums = await checks.imbalances(tx)
            drifted = await checks.drifted(
                tx, after=self.accounts.after, limit=ACCOUNTS_PER_CHECK, postings=NEWEST_POSTINGS
            )
            edited, last_block = await self._check_chain(tx)
        for asset, units in sums.items():
            IMBALANCE.labels(asset).set(units)
        by_check = {"balances": drifted.balances, "holds": drifted.holds, "sequences": drifted.sequences}
        accounts = sorted(set().union(*by_check.values()))
        DRIFT.inc(len(accounts))
        found = {name for name, ids in by_check.items() if ids} | ({"sums"} if any(sums.values()) else set())
        self.accounts.advance(found, after=drifted.last)
        self.blocks.advance({"chain"} if edited else set(), after=last_block)
        if found or edited:
            named = {"accounts": accounts[:NAMED_MAX], "chain": edited[:NAMED_MAX]}
            telemetry.log.error("ledger.check.broken", imbalance_units=sums, **named)
        elif not self.accounts.violations | self.blocks.violations:
            LAST_SUCCESS.set(time.time())
        return int(any(sweep.violations and sweep.after for sweep in (self.accounts, self.blocks)))

    async def passes(self, name: str) -> bool:
        """Tell whether one of CHECKED has no known violation."""
        return name not in self.accounts.violations | self.blocks.violations

    async def _check_chain(self, tx: database.Tx) -> tuple[list[str], int]:
        """Check the next blocks and the newest; returns what is broken, and the block number to continue after."""
        broken, last = await verify.check_blocks(tx, after=self.blocks.after, limit=BLOCKS_PER_CHECK)
        newest = await chain.last_block(tx)
        if newest:
            after = max(0, newest.number - BLOCKS_PER_CHECK)
            broken += (await verify.check_blocks(tx, after=after, limit=BLOCKS_PER_CHECK))[0]
        if self.head:
            stored, _ = await chain.blocks_after(tx, self.head.number, upto=self.head.number)
            if stored is None or stored.hash != self.head.hash:
                broken.append(f"block {self.head.number}: it is no longer what it was")
        self.head = newest
        return broken, last
