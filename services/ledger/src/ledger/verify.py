"""The proof: recomputes the books from their postings, with statements of its own that share nothing with the doors.

It changes nothing and reads one snapshot, so it may run while the ledger works.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from chassis import app, database, settings

TIMEOUT_S = 30 * 60  # the whole history is read; where that takes longer, prove a copy of the database

_SNAPSHOT = f"""
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = '{TIMEOUT_S}s'
"""
_FIGURES = """
SELECT asset, count(*) AS accounts, coalesce(sum(postings), 0) AS postings, coalesce(sum(credited), 0) AS credited,
  coalesce(sum(debited), 0) AS debited, sum(held_minor) AS held
FROM account LEFT JOIN (
  SELECT account_id, count(*) AS postings, sum(greatest(amount_minor, 0)) AS credited,
    -sum(least(amount_minor, 0)) AS debited
  FROM posting GROUP BY account_id
) AS moved ON moved.account_id = account.id
GROUP BY asset ORDER BY asset
"""
_COUNTS = "SELECT kind, count(*) AS transfers FROM transfer GROUP BY kind ORDER BY kind"

# Each check selects what is broken, one text for each case; nothing when the books are right.
CHECKS = {
    "the postings of each asset sum to zero": """
SELECT format('%s: %s minor units left over', asset, sum(amount_minor))
FROM posting JOIN account ON account.id = account_id GROUP BY asset HAVING sum(amount_minor) <> 0
""",
    "the postings of each transfer sum to zero per asset": """
SELECT format('transfer %s: %s %s left over', transfer.id, coalesce(sum(amount_minor), 0), coalesce(asset, 'posted'))
FROM transfer LEFT JOIN posting ON transfer_id = transfer.id LEFT JOIN account ON account.id = account_id
GROUP BY transfer.id, asset HAVING sum(amount_minor) <> 0 OR asset IS NULL
""",
    "each posting has its transfer and its account, of one tenant": """
SELECT format('posting %s of account %s, transfer %s', posting.sequence, account_id, transfer_id)
FROM posting LEFT JOIN transfer ON transfer.id = transfer_id LEFT JOIN account ON account.id = account_id
WHERE (transfer.tenant = account.tenant) IS NOT TRUE
""",
    "the sequence of each account has no gap": """
SELECT format('account %s: sequence %s in place %s', account_id, sequence, place)
FROM (
  SELECT account_id, sequence, row_number() OVER (PARTITION BY account_id ORDER BY sequence) AS place FROM posting
) AS numbered
WHERE sequence <> place
""",
    "each running balance is the sum so far": """
SELECT format('account %s, sequence %s: says %s, its postings %s', account_id, sequence, balance_after_minor, so_far)
FROM (
  SELECT posting.*, sum(amount_minor) OVER (PARTITION BY account_id ORDER BY sequence) AS so_far FROM posting
) AS running
WHERE balance_after_minor <> so_far
""",
    "each balance is the sum of its postings": """
SELECT format('account %s %s: says %s after %s, its postings %s after %s', id, code, balance_minor, sequence,
  coalesce(summed, 0), coalesce(postings, 0))
FROM account LEFT JOIN (
  SELECT account_id, count(*) AS postings, sum(amount_minor) AS summed FROM posting GROUP BY account_id
) AS derived ON account_id = id
WHERE balance_minor <> coalesce(summed, 0) OR sequence <> coalesce(postings, 0)
""",
    "what is held is the sum of the open holds": """
SELECT format('account %s %s: says %s, its open holds %s', id, code, held_minor, coalesce(summed, 0))
FROM account LEFT JOIN (
  SELECT account_id, sum(amount_minor) AS summed FROM hold WHERE state = 'placed' GROUP BY account_id
) AS open ON account_id = id
WHERE held_minor <> coalesce(summed, 0)
""",
    "no account is overdrawn beyond its limit": """
SELECT format('account %s %s: %s available', id, code, balance_minor::numeric - held_minor)
FROM account WHERE balance_minor::numeric - held_minor < -overdraft_minor
""",
    "each payment is credited once, each hold captured once": """
SELECT format('%s: %s transfers', source_key, count(*))
FROM transfer GROUP BY tenant, kind, source_key HAVING count(*) > 1
""",
    "each capture posted what its hold says": """
SELECT format('hold %s: says %s, posted %s', coalesce(hold.id::text, capture.source_key), captured_minor, posted)
FROM (SELECT * FROM hold WHERE state = 'captured') AS hold FULL JOIN (
  SELECT transfer.id, source_key, sum(greatest(amount_minor, 0)) AS posted
  FROM transfer LEFT JOIN posting ON transfer_id = transfer.id WHERE kind = 'capture' GROUP BY transfer.id
) AS capture ON capture.id = hold.transfer_id
WHERE captured_minor IS DISTINCT FROM posted
""",
}

_IMBALANCES = "SELECT asset, sum(balance_minor)::text AS units FROM account GROUP BY asset"
_DRIFTED = """
SELECT max(id) AS last, count(*) FILTER (
  WHERE balance_minor <> coalesce(newest.balance_after_minor, 0) OR account.sequence <> coalesce(newest.sequence, 0)
    OR held_minor <> coalesce(open.summed, 0)
) AS drifted
FROM (SELECT * FROM account WHERE id > $1 ORDER BY id LIMIT $2) AS account
LEFT JOIN LATERAL (
  SELECT sequence, balance_after_minor FROM posting WHERE account_id = account.id ORDER BY sequence DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
  SELECT sum(amount_minor) AS summed FROM hold WHERE state = 'placed' AND account_id = account.id
) AS open ON true
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the postings of one asset come to, in minor units."""

    asset: str
    accounts: int
    postings: int
    credited_minor: int
    debited_minor: int
    held_minor: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how many rows are broken, and the first of them."""

    check: str
    broken: int
    first: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The books as one snapshot shows them. `transfers` counts by kind."""

    at: datetime
    figures: tuple[Figures, ...]
    transfers: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Tell whether no check found anything."""
        return not any(finding.broken for finding in self.findings)


async def prove(db: database.Database) -> Proof:
    """Run every check on one snapshot."""
    async with db.transaction() as tx:
        await (await database.driver(tx)).execute(_SNAPSHOT)
        return await examine(tx)


async def examine(tx: database.Tx) -> Proof:
    """Run every check on what this transaction sees."""
    at: datetime = await (await database.driver(tx)).fetchval("SELECT now()")
    figures = [Figures(asset, *map(int, sums)) for asset, *sums in await _read(tx, _FIGURES)]
    transfers = {row["kind"]: row["transfers"] for row in await _read(tx, _COUNTS)}
    findings = [await _check(tx, name, sql) for name, sql in CHECKS.items()]
    return Proof(at, tuple(figures), transfers, tuple(findings))


async def imbalances(tx: database.Tx) -> dict[str, int]:
    """Give the sum of all balances by asset; each is zero when the books are right."""
    rows = await (await database.driver(tx)).fetch(_IMBALANCES)
    return {row["asset"]: int(row["units"]) for row in rows}


async def drifted(tx: database.Tx, *, after_id: int, limit: int) -> tuple[int, int]:
    """Compare the accounts that follow `after_id` with their newest postings and open holds.

    Gives how many disagree, and the id to go on after; 0 when these were the last.
    """
    row = await (await database.driver(tx)).fetchrow(_DRIFTED, after_id, limit)
    assert row is not None  # an aggregate always gives a row
    return row["drifted"], row["last"] or 0


def render(proof: Proof) -> str:
    """Write a proof for people."""
    lines = [f"The ledger at {proof.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    lines += [
        f"  {figures.asset}: {figures.accounts:,} accounts, {figures.postings:,} postings,"
        f" credited {figures.credited_minor:,}, debited {figures.debited_minor:,}, held {figures.held_minor:,}"
        for figures in proof.figures
    ]
    lines += [f"  {kind}: {count:,} transfers" for kind, count in proof.transfers.items()]
    lines.append("")
    for finding in proof.findings:
        lines.append(f"  {'BROKEN' if finding.broken else 'ok':6}  {finding.check}")
        if finding.broken:
            lines.append(f"          {finding.broken:,} broken, the first: {finding.first}")
    lines += ["", "OK" if proof.is_sound else "BROKEN"]
    return "\n".join(lines)


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Prove that the books are right and print the proof; exits with 1 when they are not."""
    argparse.ArgumentParser(prog=f"{service.name} verify", description=command.__doc__).parse_args(arguments)
    config = settings.load(service.settings)
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=1)
    try:
        proof = await prove(db)
    finally:
        await db.close()
    sys.stdout.write(f"{render(proof)}\n")
    return 0 if proof.is_sound else 1


async def _check(tx: database.Tx, name: str, sql: str) -> Finding:
    rows = await _read(tx, f"SELECT count(*) OVER () AS broken, row AS first FROM ({sql}) AS found(row) LIMIT 1")
    return Finding(name, rows[0]["broken"], rows[0]["first"]) if rows else Finding(name, 0, None)


async def _read(tx: database.Tx, sql: str) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await (await database.driver(tx)).fetch(sql, timeout=TIMEOUT_S)
    return rows
