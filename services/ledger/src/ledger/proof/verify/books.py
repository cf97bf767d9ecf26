"""The whole proof: every check on one snapshot, with several readers at once."""

import argparse
import asyncio
import secrets
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import asyncpg

from chassis import app, database, operations
from ledger.proof import store as sealing
from ledger.proof.verify import checks, pieces, proof

READERS = 2
READERS_MAX = 16

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_ROOM = f"""
{sealing.ROOM};
SET LOCAL statement_timeout = '{pieces.TIMEOUT_S}s'; SET LOCAL idle_in_transaction_session_timeout = 0
"""
_ACCOUNTS = """
SELECT asset, count(*) AS accounts, sum(held_minor)::text AS held, sum(balance_minor)::text AS balance,
  (sum(hashint8extended(balance_minor, hashint8extended(sequence, hashint8extended(id, $1))))
  - sum(hashint8extended(0, hashint8extended(0, hashint8extended(id, $1)))))::text AS links
FROM account GROUP BY asset ORDER BY asset
"""
_POSTINGS = "SELECT count(*) FROM posting"
_CAPTURES = "SELECT count(*) FROM request WHERE answer_type = 'ledger.hold.captured.v1'"
_HASH = "SELECT hash FROM block ORDER BY number DESC LIMIT 1"

ZERO = "the balances and the postings of each asset sum to zero"

Progress = Callable[[int, int], None]
Task = Callable[[asyncpg.Connection], Awaitable[None]]


async def prove(db: database.Database, *, readers: int = READERS, progress: Progress | None = None) -> proof.Proof:
    """Run every check on one snapshot. `progress` is told how many of how many transfers are done."""
    async with AsyncExitStack() as stack:
        txs = [await stack.enter_async_context(db.transaction()) for _ in range(readers)]
        first, *others = [await database.driver(tx) for tx in txs]
        await first.execute(_SNAPSHOT)
        snapshot = await first.fetchval("SELECT pg_export_snapshot()")
        for connection in others:
            await connection.execute(f"{_SNAPSHOT}; SET TRANSACTION SNAPSHOT '{snapshot}'")
        return await examine(txs, progress=progress)


async def examine(txs: Sequence[database.Tx], *, progress: Progress | None = None) -> proof.Proof:
    """Run every check on what these transactions see, which must be the same."""
    connections = [await database.driver(tx) for tx in txs]
    for connection in connections:
        await connection.execute(_ROOM)
    run = _Run(secrets.randbits(62), await pieces.plan(connections[0]), progress)
    for connection in connections:
        await connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")  # each reader has a core to itself
    waiting = run.tasks()
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(_work(connection, waiting))
    return await run.conclude(connections[0])


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Prove that the books are right and print the proof; exits with 1 when they are not."""
    options = argparse.ArgumentParser(prog=f"{service.name} verify", description=command.__doc__)
    counts = range(1, READERS_MAX + 1)
    options.add_argument(
        "--readers", type=int, default=READERS, choices=counts, metavar="N", help="connections at once"
    )
    readers = options.parse_args(arguments).readers
    async with operations.own_database(service, pool_size=readers) as db:
        found = await prove(db, readers=readers, progress=_draw if sys.stderr.isatty() else None)
    sys.stdout.write(f"{proof.render(found)}\n")
    return 0 if found.is_sound else 1


class _Run:
    """One proof under way: what is still to be read, and what was found."""

    def __init__(self, secret: int, plan: pieces.Plan, progress: Progress | None) -> None:
        self.secret, self.plan, self.progress = secret, plan, progress
        self.totals = pieces.Totals()
        self.found: list[proof.Finding] = []
        self.accounts: list[asyncpg.Record] = []
        self.postings = self.captures = 0

    def tasks(self) -> deque[Task]:
        """Give all that is to be read; what takes long as one statement comes first."""
        whole = [self._whole(check, sql) for check, sql in checks.WHOLE.items()]
        return deque([*whole, self._counts, *(self._piece(piece) for piece in self.plan.pieces)])

    async def conclude(self, connection: asyncpg.Connection) -> proof.Proof:
        """Put together what the parts came to, and look for what only their sums told."""
        findings = [proof.Finding(check, found.count, found.first) for check, found in self.totals.broken.items()]
        findings += [self._sums(), *self.found]
        await connection.execute("SET LOCAL max_parallel_workers_per_gather = 2")
        is_whole = self.postings == self.totals.postings
        findings.append(await _look(connection, checks.ORPHANS, "" if is_whole else checks.LOCATE_ORPHANS))
        is_whole = self.captures == self.totals.captures
        findings.append(await _look(connection, checks.CAPTURES, "" if is_whole else checks.LOCATE_CAPTURES))
        is_whole = self.totals.links == sum(int(row["links"]) for row in self.accounts)
        for check, sql in checks.LOCATE_LINKS.items():
            findings.append(await _look(connection, check, "" if is_whole else sql))
        if not is_whole and not any(finding.broken for finding in findings):
            findings[-1] = proof.Finding(checks.BALANCES, 1, "the postings do not lead to the balances")
        hash_ = await connection.fetchval(_HASH) or b""
        return proof.Proof(
            at=await connection.fetchval("SELECT now()"),
            figures=tuple(self._figures()),
            transfers=self.plan.transfers,
            chain=proof.Chain(self.plan.blocks, hash_.hex(), self.plan.unsealed),
            findings=tuple(findings),
        )

    def _sums(self) -> proof.Finding:
        left_over = []
        for asset, _, _, balance, _ in self.accounts:
            _, credited, debited = self.totals.figures.get(asset, (0, 0, 0))
            posted = credited + debited
            if int(balance) or posted:
                left_over.append(f"{asset}: {balance} of the balances and {posted} of the postings left over")
        return proof.Finding(ZERO, len(left_over), next(iter(left_over), None))

    def _figures(self) -> list[proof.Figures]:
        return [
            proof.Figures(row["asset"], row["accounts"], postings, credited, -debited, int(row["held"]))
            for row in self.accounts
            for postings, credited, debited in [self.totals.figures.get(row["asset"], (0, 0, 0))]
        ]

    def _piece(self, piece: pieces.Piece) -> Task:
        async def read(connection: asyncpg.Connection) -> None:
            await pieces.examine(connection, piece, self.totals, secret=self.secret)
            if self.progress:
                self.progress(self.totals.transfers, sum(self.plan.transfers.values()))

        return read

    def _whole(self, check: str, sql: str) -> Task:
        async def read(connection: asyncpg.Connection) -> None:
            self.found.append(await _look(connection, check, sql))

        return read

    async def _counts(self, connection: asyncpg.Connection) -> None:
        self.accounts = await connection.fetch(_ACCOUNTS, self.secret, timeout=pieces.TIMEOUT_S)
        self.postings = await connection.fetchval(_POSTINGS, timeout=pieces.TIMEOUT_S)
        self.captures = await connection.fetchval(_CAPTURES, timeout=pieces.TIMEOUT_S)


async def _work(connection: asyncpg.Connection, waiting: deque[Task]) -> None:
    while waiting:
        await waiting.popleft()(connection)


async def _look(connection: asyncpg.Connection, check: str, sql: str) -> proof.Finding:
    """Run a statement that selects what is broken; without one there is nothing to look for."""
    if not sql:
        return proof.Finding(check, 0, None)
    # Materialized, so that the planner does not hope to find the first row soon.
    sql = f"WITH found(row) AS MATERIALIZED ({sql}) SELECT (SELECT count(*) FROM found), row FROM found LIMIT 1"
    found = await connection.fetchrow(sql, timeout=pieces.TIMEOUT_S)
    return proof.Finding(check, *found) if found else proof.Finding(check, 0, None)


def _draw(done: int, of: int) -> None:
    """Draw a bar over the one before; the last one is wiped away."""
    width = 40 * done // max(of, 1)
    bar = f"\r{'█' * width}{'░' * (40 - width)} {done:,} of {of:,} transfers"
    sys.stderr.write(bar if done < of else f"\r{' ' * len(bar)}\r")
    sys.stderr.flush()
