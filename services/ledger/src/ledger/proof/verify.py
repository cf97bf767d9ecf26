"""Verification: recomputes the books from their rows, with statements that share nothing with those that wrote them.

It changes nothing and reads one snapshot, so it may run while the ledger works. All its connections read that snapshot.
"""

import argparse
import asyncio
import itertools
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import NamedTuple

import asyncpg

from chassis import app, argument_types, database, operations
from ledger.proof import domain
from ledger.proof.store import chain, checks

READERS = 2
READERS_MAX = 16
BLOCKS = 16
TRANSFERS = BLOCKS * domain.BLOCK_MAX
BEGINNING, END = -(2**62), 2**62  # a number that was edited must lie in a range too

CONTINUED = "each block continues the chain"
AS_SEALED = "each transfer is as it was sealed"
ZERO = "the balances and the postings of each asset sum to zero"
CHECKS = (*checks.OF_RANGES, CONTINUED, AS_SEALED, ZERO, *checks.OF_TABLES, *checks.OF_SUMS)

Progress = Callable[[int, int], None]
"""Called with the number of transfers that are done and of all transfers."""


class AssetTotals(NamedTuple):
    """The totals of one asset, in minor units."""

    asset: str
    accounts: int
    postings: int
    credited_minor: int
    debited_minor: int
    held_minor: int


class CheckResult(NamedTuple):
    """The result of one check: the number of broken rows, and the first of them."""

    check: str
    broken: int
    first: str | None


class Verification(NamedTuple):
    """The books as one snapshot shows them. `transfers` counts by kind.

    `hash` is that of the last block, empty when there is none; a copy of it that is kept elsewhere proves later edits.
    """

    at: datetime
    totals: Sequence[AssetTotals]
    transfers: dict[str, int]
    blocks: int
    hash: str
    unsealed: int
    results: Sequence[CheckResult]

    @property
    def is_sound(self) -> bool:
        """Whether no check found anything."""
        return not any(result.broken for result in self.results)


class TransferRange(NamedTuple):
    """The transfers above one number up to another, and their blocks when they are sealed."""

    after: int
    upto: int
    after_block: int
    upto_block: int

    @property
    def is_sealed(self) -> bool:
        """Whether the transfers are in blocks."""
        return self.after_block < self.upto_block


async def run(db: database.Database, *, readers: int = READERS, progress: Progress | None = None) -> Verification:
    """Run every check on one snapshot, with so many connections at once."""
    async with AsyncExitStack() as stack:
        txs = [await stack.enter_async_context(db.transaction()) for _ in range(readers)]
        await checks.share_snapshot(txs)
        return await check_snapshot(txs, progress=progress)


async def check_snapshot(txs: Sequence[database.Tx], *, progress: Progress | None = None) -> Verification:
    """Run every check in these transactions, which must share a snapshot."""
    first, secret = txs[0], secrets.randbits(62)
    await checks.prepare(first, parallel_workers=2)  # no other connection reads yet
    overview = await checks.overview(first, secret=secret, blocks=BLOCKS)
    ranges = _ranges(overview["cuts"], newest=(await chain.horizon(first)).newest)
    tables, waiting = deque(checks.OF_TABLES.items()), deque(ranges)
    broken: list[CheckResult] = []
    checked: dict[TransferRange, tuple[asyncpg.Record, list[CheckResult]]] = {}
    done, total = 0, sum(overview["transfers"].values())

    async def read(tx: database.Tx) -> None:
        nonlocal done
        await checks.prepare(tx, parallel_workers=0)  # each connection has a core to itself
        while tables:  # the longest statements first
            broken.extend(await _check(tx, *tables.popleft()))
        while waiting:
            transfer_range = waiting.popleft()
            checked[transfer_range] = sums, _ = await check_range(tx, transfer_range, secret=secret)
            done += sums["transfers"]
            if progress:
                progress(done, total)

    async with asyncio.TaskGroup() as group:
        for tx in txs:
            group.create_task(read(tx))
    for transfer_range in ranges:  # in their order, which is not that in which they were done
        broken += checked[transfer_range][1]
    await checks.prepare(first, parallel_workers=2)
    return await _conclude(first, overview, {each: sums for each, (sums, _) in checked.items()}, broken)


async def check_range(
    tx: database.Tx, transfer_range: TransferRange, *, secret: int = 0
) -> tuple[asyncpg.Record, list[CheckResult]]:
    """Run every check on one range; returns its sums and what is broken. Prepare the transaction before."""
    sums = await checks.check_range(tx, transfer_range, secret=secret)
    results = zip(checks.OF_RANGES, sums["found"], strict=True)
    broken = [CheckResult(check, *found) for check, found in results if found[0]]
    if not transfer_range.is_sealed:
        return sums, broken
    before, blocks = await chain.blocks_after(tx, transfer_range.after_block, upto=transfer_range.upto_block)
    transfers = []
    if not sums["is_as_sealed"]:
        transfers = await chain.transfers(tx, after=transfer_range.after, upto=transfer_range.upto)
    broken += _broken_links(blocks, before)
    for block in blocks:
        after = before.last_number if before else transfer_range.after
        inside = [transfer for transfer in transfers if after < transfer.number <= block.last_number]
        if not sums["is_as_sealed"] and (changed := domain.differences(block, inside)):
            broken.append(CheckResult(AS_SEALED, len(changed), f"block {block.number}: {changed[0]}"))
        before = block
    return sums, broken


async def check_blocks(tx: database.Tx, *, after: int, limit: int) -> tuple[list[str], int]:
    """Check the blocks that follow a block number, as one range.

    Returns what is broken, and the number to continue after; 0 when these were the last.
    """
    before, blocks = await chain.blocks_after(tx, after, limit=limit)
    if not blocks:
        return [], 0
    last = blocks[-1].number if len(blocks) == limit else 0
    if broken := _broken_links(
        blocks, before
    ):  # an edited block may claim the whole history, which would take too long
        return [f"{check}: {first}" for check, _, first in broken], last
    begin = before.last_number if before else blocks[0].first_number - 1 if after else BEGINNING
    await chain.prepare_for_ranges(tx)
    _, broken = await check_range(tx, TransferRange(begin, blocks[-1].last_number, after, blocks[-1].number))
    return [f"{check}: {first}" for check, _, first in broken], last


def render(verification: Verification) -> str:
    """Format a verification for people."""
    lines = [f"The ledger at {verification.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    lines += [
        f"  {asset}: {accounts:,} accounts, {postings:,} postings,"
        f" credited {credited:,}, debited {debited:,}, held {held:,}"
        for asset, accounts, postings, credited, debited, held in verification.totals
    ]
    lines += [f"  {kind}: {count:,} transfers" for kind, count in verification.transfers.items()]
    lines.append(f"  chain: {verification.blocks:,} blocks, {verification.unsealed:,} transfers not sealed yet")
    if verification.blocks:
        lines.append(f"  chain hash of block {verification.blocks}: {verification.hash}")
    lines.append("")
    for check, broken, first in verification.results:
        lines.append(f"  {'BROKEN' if broken else 'ok':6}  {check}")
        if broken:
            lines.append(f"          {broken:,} broken, the first: {first}")
    lines += ["", "OK" if verification.is_sound else "BROKEN"]
    return "\n".join(lines)


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Verify the books and print the result of every check; exits with 1 when one finds something broken."""
    parser = argparse.ArgumentParser(prog=f"{service.name} verify", description=command.__doc__)
    parser.add_argument(
        "--readers",
        type=argument_types.whole_number(1, READERS_MAX),
        default=READERS,
        metavar="N",
        help=f"connections at once, 1 to {READERS_MAX}",
    )
    readers = parser.parse_args(arguments).readers
    async with operations.own_database(service, pool_size=readers) as db:
        verification = await run(db, readers=readers, progress=_draw if sys.stderr.isatty() else None)
    sys.stdout.write(f"{render(verification)}\n")
    return 0 if verification.is_sound else 1


def _ranges(cuts: Iterable[tuple[int, int]], *, newest: int) -> list[TransferRange]:
    """Cut the history where blocks end, and what is not sealed yet into ranges as long."""
    ends, last_number, last_block = [(BEGINNING, 0)], 0, 0
    for block, number in cuts:  # an edited block may end anywhere; the ranges must still have all transfers once
        last_number, last_block = max(last_number, number), block
        ends.append((last_number, last_block))
    ends += [(number, last_block) for number in range(last_number + TRANSFERS, newest, TRANSFERS)]
    ends.append((END, last_block))
    return [
        TransferRange(after, upto, after_block, upto_block)
        for (after, after_block), (upto, upto_block) in itertools.pairwise(ends)
    ]


def _broken_links(blocks: Sequence[domain.Block], before: domain.Block | None) -> list[CheckResult]:
    pairs = zip(blocks, [before, *blocks], strict=False)
    found = [(block.number, domain.broken_link(block, after=after)) for block, after in pairs]
    return [CheckResult(CONTINUED, 1, f"block {number}: {reason}") for number, reason in found if reason]


async def _check(tx: database.Tx, check: str, sql: str) -> list[CheckResult]:
    count, first = await checks.broken_by(tx, sql)
    return [CheckResult(check, count, first)] if count else []


async def _conclude(
    tx: database.Tx,
    overview: asyncpg.Record,
    sums_by_range: Mapping[TransferRange, asyncpg.Record],
    broken: list[CheckResult],
) -> Verification:
    """Add up the sums of all ranges, and look for the rows behind a sum that differs from the overview."""
    totals = []
    for asset, accounts, balance, held in overview["assets"]:
        parts = [sums["totals"][asset] for sums in sums_by_range.values() if asset in sums["totals"]]
        postings, credited, debited = map(sum, zip((0, 0, 0), *parts, strict=True))
        totals.append(AssetTotals(asset, accounts, postings, credited, debited, held))
        if balance or credited != debited:
            left_over = f"{balance} of the balances and {credited - debited} of the postings left over"
            broken.append(CheckResult(ZERO, 1, f"{asset}: {left_over}"))
    suspects = [
        (check, sql)
        for check, (name, sql) in checks.OF_SUMS.items()
        if overview[name] != sum(sums[name] for sums in sums_by_range.values())
    ]
    for check, sql in suspects:
        broken += await _check(tx, check, sql)
    if suspects and not broken:
        broken.append(CheckResult(suspects[-1][0], 1, "the sums of the whole history differ, though no row is broken"))
    return Verification(
        at=overview["at"],
        totals=tuple(totals),
        transfers=overview["transfers"],
        blocks=max(each.upto_block for each in sums_by_range),
        hash=overview["hash"],
        unsealed=sum(sums["transfers"] for each, sums in sums_by_range.items() if not each.is_sealed),
        results=tuple(_combined(check, broken) for check in CHECKS),
    )


def _combined(check: str, broken: Sequence[CheckResult]) -> CheckResult:
    results = [result for result in broken if result.check == check]
    return CheckResult(check, sum(result.broken for result in results), results[0].first if results else None)


def _draw(done: int, total: int) -> None:
    """Draw a progress bar over the one before; the last one is cleared."""
    width = 40 * done // max(total, 1)
    bar = f"\r{'█' * width}{'░' * (40 - width)} {done:,} of {total:,} transfers"
    sys.stderr.write(bar if done < total else f"\r{' ' * len(bar)}\r")
    sys.stderr.flush()
