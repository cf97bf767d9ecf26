"""The clock door of the proof: seals transfers behind the writers, and checks the books a piece at a time."""

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
            seen = await chain.horizon(tx)
        self.watermark.see(seen)
        if self.sealed_upto >= seen.newest:
            self.sealed_upto = seen.newest  # less than it was where the database was put back
            return 0
        async with self.db.transaction() as tx:
            at = await chain.take_turn(tx)
            if at is None:
                return 0
            sealed_upto, is_behind = await self._seal(tx, at)
        self.sealed_upto = sealed_upto
        UNSEALED.set(seen.newest - sealed_upto)
        return int(is_behind)

    async def _seal(self, tx: database.Tx, at: datetime) -> tuple[int, bool]:
        """Seal the next stretch of numbers; gives up to which all is sealed or gone, and whether more is waiting."""
        head = await chain.newest(tx)
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
        return upto, is_behind  # numbers behind the last transfer were rolled back and never come


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
    head: domain.Block | None = None

    async def tick(self) -> int:
        """Check the next piece; gives 0, so that the timer rests. A broken tour goes on at once, to end soon."""
        async with self.db.transaction() as tx:
            sums = (await checks.read(tx, checks.IMBALANCES))["units"]
            bounds = (self.accounts.after, ACCOUNTS_PER_CHECK, NEWEST_POSTINGS)
            drifted = dict(await checks.read(tx, checks.DRIFTED, *bounds))
            edited, last_block = await self._check_chain(tx)
        for asset, units in sums.items():
            IMBALANCE.labels(asset).set(units)
        last = drifted.pop("last")
        accounts = sorted(set().union(*filter(None, drifted.values())))
        DRIFT.inc(len(accounts))
        found = {name for name, ids in drifted.items() if ids} | ({"sums"} if any(sums.values()) else set())
        self.accounts.go_on(found, after=last)
        self.blocks.go_on({"chain"} if edited else set(), after=last_block)
        if found or edited:
            named = {"accounts": accounts[:NAMED_MAX], "chain": edited[:NAMED_MAX]}
            telemetry.log.error("ledger.check.broken", imbalance_units=sums, **named)
        elif not self.accounts.breaches | self.blocks.breaches:
            LAST_SUCCESS.set(time.time())
        return int(any(tour.breaches and tour.after for tour in (self.accounts, self.blocks)))

    async def passes(self, name: str) -> bool:
        """Tell whether one of BOOKS is sound, as far as is known."""
        return name not in self.accounts.breaches | self.blocks.breaches

    async def _check_chain(self, tx: database.Tx) -> tuple[list[str], int]:
        """Examine the next blocks and the newest; gives what is broken, and the number to go on after."""
        broken, last = await verify.examine_blocks(tx, after=self.blocks.after, limit=BLOCKS_PER_CHECK)
        newest = await chain.newest(tx)
        if newest:
            after = max(0, newest.number - BLOCKS_PER_CHECK)
            broken += (await verify.examine_blocks(tx, after=after, limit=BLOCKS_PER_CHECK))[0]
        if self.head:
            kept, _ = await chain.blocks_after(tx, self.head.number, upto=self.head.number)
            if kept is None or kept.hash != self.head.hash:
                broken.append(f"block {self.head.number}: it is no longer what it was")
        self.head = newest
        return broken, last
