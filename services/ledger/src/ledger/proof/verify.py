"""The proof: recomputes the books from their rows, with statements of its own that share nothing with the doors.

It changes nothing and reads one snapshot, so it may run while the ledger works. All readers of it read that snapshot.
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

from chassis import app, database, operations
from ledger.proof import domain
from ledger.proof.store import chain, checks

READERS = 2
READERS_MAX = 16
BLOCKS = 16
TRANSFERS = BLOCKS * domain.BLOCK_MAX
BEGINNING, END = -(2**62), 2**62  # a number that was edited must lie in a piece too

CONTINUED = "each block continues the chain"
AS_SEALED = "each transfer is as it was sealed"
ZERO = "the balances and the postings of each asset sum to zero"
CHECKS = (*checks.OF_PIECES, CONTINUED, AS_SEALED, ZERO, *checks.OF_TABLES, *checks.OF_SUMS)

Progress = Callable[[int, int], None]


class AssetTotals(NamedTuple):
    """What the postings of one asset come to, in minor units."""

    asset: str
    accounts: int
    postings: int
    credited_minor: int
    debited_minor: int
    held_minor: int


class Finding(NamedTuple):
    """What one check found: how many rows are broken, and the first of them."""

    check: str
    broken: int
    first: str | None


class Proof(NamedTuple):
    """The books as one snapshot shows them. `transfers` counts by kind.

    `hash` is that of the last block, empty when there is none; who keeps it can prove later edits.
    """

    at: datetime
    figures: Sequence[AssetTotals]
    transfers: dict[str, int]
    blocks: int
    hash: str
    unsealed: int
    findings: Sequence[Finding]

    @property
    def is_sound(self) -> bool:
        """Tell whether no check found anything."""
        return not any(finding.broken for finding in self.findings)


class Piece(NamedTuple):
    """Transfers above one number up to another; the blocks among them, when they are sealed."""

    after: int
    upto: int
    after_block: int
    upto_block: int

    @property
    def is_sealed(self) -> bool:
        """Tell whether there are blocks."""
        return self.after_block < self.upto_block


async def prove(db: database.Database, *, readers: int = READERS, progress: Progress | None = None) -> Proof:
    """Run every check on one snapshot. `progress` is told how many of how many transfers are done."""
    async with AsyncExitStack() as stack:
        txs = [await stack.enter_async_context(db.transaction()) for _ in range(readers)]
        await checks.share_snapshot(txs)
        return await examine(txs, progress=progress)


async def examine(txs: Sequence[database.Tx], *, progress: Progress | None = None) -> Proof:
    """Run every check on what these transactions see, which must be the same."""
    first, secret = txs[0], secrets.randbits(62)
    await checks.take_time(first, helpers=2)  # nobody else reads yet
    books = await checks.read(first, checks.OVERVIEW, secret, BLOCKS)
    pieces = _cut(books["cuts"], newest=(await chain.horizon(first)).newest)
    tables, waiting = deque(checks.OF_TABLES.items()), deque(pieces)
    broken: list[Finding] = []
    examined: dict[Piece, tuple[asyncpg.Record, list[Finding]]] = {}
    done, of = 0, sum(books["transfers"].values())

    async def read(tx: database.Tx) -> None:
        nonlocal done
        await checks.take_time(tx, helpers=0)  # each reader has a core to itself
        while tables:  # what takes long as one statement comes first
            await _look(tx, *tables.popleft(), broken)
        while waiting:
            piece = waiting.popleft()
            examined[piece] = part, _ = await examine_piece(tx, piece, secret=secret)
            done += part["transfers"]
            if progress:
                progress(done, of)

    async with asyncio.TaskGroup() as group:
        for tx in txs:
            group.create_task(read(tx))
    for piece in pieces:  # in their order, which is not that in which they were done
        broken += examined[piece][1]
    await checks.take_time(first, helpers=2)
    return await _conclude(first, books, {piece: part for piece, (part, _) in examined.items()}, broken)


async def examine_piece(tx: database.Tx, piece: Piece, *, secret: int = 0) -> tuple[asyncpg.Record, list[Finding]]:
    """Run every check on one piece; gives what it comes to, for the sums, and what is broken. Make room before."""
    part = await checks.read(tx, checks.PIECE, *piece, secret)
    broken = [Finding(check, *found) for check, found in zip(checks.OF_PIECES, part["found"], strict=True) if found[0]]
    if not piece.is_sealed:
        return part, broken
    before, blocks = await chain.blocks_after(tx, piece.after_block, upto=piece.upto_block)
    transfers = []
    if not part["is_as_sealed"]:
        transfers = await chain.transfers(tx, after=piece.after, upto=piece.upto)
    broken += _faults(blocks, before)
    for block in blocks:
        after = before.last_number if before else piece.after
        inside = [transfer for transfer in transfers if after < transfer.number <= block.last_number]
        if not part["is_as_sealed"] and (changed := domain.differences(block, inside)):
            broken.append(Finding(AS_SEALED, len(changed), f"block {block.number}: {changed[0]}"))
        before = block
    return part, broken


async def examine_blocks(tx: database.Tx, *, after: int, limit: int) -> tuple[list[str], int]:
    """Examine the blocks that follow a block number, as one piece.

    Gives what is broken, and the number to go on after; 0 when these were the last.
    """
    before, blocks = await chain.blocks_after(tx, after, limit=limit)
    if not blocks:
        return [], 0
    last = blocks[-1].number if len(blocks) == limit else 0
    if broken := _faults(blocks, before):  # then its numbers may be any, and the whole history lie between them
        return [f"{check}: {first}" for check, _, first in broken], last
    begin = before.last_number if before else blocks[0].first_number - 1 if after else BEGINNING
    await chain.make_room(tx)
    _, broken = await examine_piece(tx, Piece(begin, blocks[-1].last_number, after, blocks[-1].number))
    return [f"{check}: {first}" for check, _, first in broken], last


def render(proof: Proof) -> str:
    """Write a proof for people."""
    lines = [f"The ledger at {proof.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    lines += [
        f"  {asset}: {accounts:,} accounts, {postings:,} postings,"
        f" credited {credited:,}, debited {debited:,}, held {held:,}"
        for asset, accounts, postings, credited, debited, held in proof.figures
    ]
    lines += [f"  {kind}: {count:,} transfers" for kind, count in proof.transfers.items()]
    lines.append(f"  chain: {proof.blocks:,} blocks, {proof.unsealed:,} transfers not sealed yet")
    if proof.blocks:
        lines.append(f"  chain hash of block {proof.blocks}: {proof.hash}")
    lines.append("")
    for check, broken, first in proof.findings:
        lines.append(f"  {'BROKEN' if broken else 'ok':6}  {check}")
        if broken:
            lines.append(f"          {broken:,} broken, the first: {first}")
    lines += ["", "OK" if proof.is_sound else "BROKEN"]
    return "\n".join(lines)


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Prove that the books are right and print the proof; exits with 1 when they are not."""
    options = argparse.ArgumentParser(prog=f"{service.name} verify", description=command.__doc__)
    counts = range(1, READERS_MAX + 1)
    options.add_argument(
        "--readers", type=int, default=READERS, choices=counts, metavar="N", help="connections at once"
    )
    readers = options.parse_args(arguments).readers
    async with operations.own_database(service, pool_size=readers) as db:
        proof = await prove(db, readers=readers, progress=_draw if sys.stderr.isatty() else None)
    sys.stdout.write(f"{render(proof)}\n")
    return 0 if proof.is_sound else 1


def _cut(cuts: Iterable[tuple[int, int]], *, newest: int) -> list[Piece]:
    """Cut the history where blocks end, and what is not sealed yet into stretches as long."""
    ends, last_number, last_block = [(BEGINNING, 0)], 0, 0
    for block, number in cuts:  # an edited block may end anywhere; the pieces must still have all transfers once
        last_number, last_block = max(last_number, number), block
        ends.append((last_number, last_block))
    ends += [(number, last_block) for number in range(last_number + TRANSFERS, newest, TRANSFERS)]
    ends.append((END, last_block))
    return [
        Piece(after, upto, after_block, upto_block)
        for (after, after_block), (upto, upto_block) in itertools.pairwise(ends)
    ]


def _faults(blocks: Sequence[domain.Block], before: domain.Block | None) -> list[Finding]:
    pairs = zip(blocks, [before, *blocks], strict=False)
    faults = [(block.number, domain.fault(block, after=after)) for block, after in pairs]
    return [Finding(CONTINUED, 1, f"block {number}: {fault}") for number, fault in faults if fault]


async def _look(tx: database.Tx, check: str, sql: str, broken: list[Finding]) -> None:
    (found,) = await checks.read(tx, f"SELECT {checks.found_by(sql)}")
    if found[0]:
        broken.append(Finding(check, *found))


async def _conclude(
    tx: database.Tx,
    books: asyncpg.Record,
    parts: Mapping[Piece, asyncpg.Record],
    broken: list[Finding],
) -> Proof:
    """Put together what the parts came to, and look for what only their sums told."""
    figures = []
    for asset, accounts, balance, held in books["assets"]:
        sums = [part["figures"][asset] for part in parts.values() if asset in part["figures"]]
        postings, credited, debited = map(sum, zip((0, 0, 0), *sums, strict=True))
        figures.append(AssetTotals(asset, accounts, postings, credited, debited, held))
        if balance or credited != debited:
            left_over = f"{balance} of the balances and {credited - debited} of the postings left over"
            broken.append(Finding(ZERO, 1, f"{asset}: {left_over}"))
    suspects = [
        (check, sql)
        for check, (name, sql) in checks.OF_SUMS.items()
        if books[name] != sum(part[name] for part in parts.values())
    ]
    for check, sql in suspects:
        await _look(tx, check, sql, broken)
    if suspects and not broken:
        broken.append(Finding(suspects[-1][0], 1, "the sum over the whole history says so, though no row does"))
    return Proof(
        at=books["at"],
        figures=tuple(figures),
        transfers=books["transfers"],
        blocks=max(piece.upto_block for piece in parts),
        hash=books["hash"],
        unsealed=sum(part["transfers"] for piece, part in parts.items() if not piece.is_sealed),
        findings=tuple(_together(check, broken) for check in CHECKS),
    )


def _together(check: str, broken: Sequence[Finding]) -> Finding:
    found = [finding for finding in broken if finding.check == check]
    return Finding(check, sum(finding.broken for finding in found), found[0].first if found else None)


def _draw(done: int, of: int) -> None:
    """Draw a bar over the one before; the last one is wiped away."""
    width = 40 * done // max(of, 1)
    bar = f"\r{'█' * width}{'░' * (40 - width)} {done:,} of {of:,} transfers"
    sys.stderr.write(bar if done < of else f"\r{' ' * len(bar)}\r")
    sys.stderr.flush()
