"""Past balances and the lines of statements."""

import typing
from datetime import datetime

from chassis import database
from contracts import ledger
from ledger.domain import chart
from ledger.history import domain

_CURRENT = """
SELECT id, balance_minor, sequence, clock_timestamp(), held_minor, moved_at FROM account
WHERE tenant = $1 AND code = $2 AND asset = $3
"""
# Waits for the transaction that writes to the account. It took its time under the lock, so afterwards nothing can be
# recorded before the clock that is read here.
_CURRENT_LOCKED = f"{_CURRENT} FOR SHARE"
_RECORDED = """
SELECT found, (SELECT balance_after_minor FROM posting WHERE account_id = $1 AND sequence = found)
FROM sequence_at($1, $2, $3) AS found
"""
_EFFECTIVE = "SELECT effective_balance($1, $2, $3)"
_SUMMARIZE = "SELECT summarize_postings($1)"

_LINE = "sequence, transfer_id, kind, reference, reverses, occurred_at, recorded_at, amount_minor, balance_after_minor"
_LINES = f"SELECT {_LINE} FROM statement_line WHERE account_id = $1 AND sequence BETWEEN $2 AND $3 ORDER BY sequence"
# Where the reference is the natural key too, as for payments, the unique constraint finds it for every kind; the index
# transfer_reference has all others.
_WITH_REFERENCE = """
SELECT * FROM transfer WHERE tenant = $1 AND reference = $2 AND reference <> source_key
UNION ALL
SELECT * FROM transfer WHERE tenant = $1 AND kind = ANY($3::text[]) AND source_key = $2 AND reference = $2
LIMIT $4
"""
_LINES_WITH_REFERENCE = f"""
SELECT {_LINE} FROM ({_WITH_REFERENCE}) AS transfer CROSS JOIN LATERAL postings_of(id)
WHERE account_id = $5 AND sequence BETWEEN $6 AND $7 ORDER BY sequence
"""
_KINDS = list(typing.get_args(ledger.TransferKind))


async def current_balance(
    tx: database.Tx, name: chart.AccountName, *, settled_at: datetime | None = None
) -> domain.Balance:
    """Read the current balance; with `settled_at` nothing can be recorded at or before that time any more.

    A later posting proves that. Only an account without one is locked, for this statement. Raises NeverOpened.
    """
    row = await tx.fetchrow(_CURRENT, *name)
    if row is not None and settled_at is not None and row["moved_at"] <= settled_at:
        row = await tx.fetchrow(_CURRENT_LOCKED, *name)
    if row is None:
        raise chart.NeverOpened(f"The account {name.code} was never used for {name.asset}.")
    account_id, balance_minor, sequence, now, held_minor, _ = row
    return domain.Balance(account_id, name, balance_minor, sequence, now, held_minor)


async def recorded_balance(tx: database.Tx, current: domain.Balance, at: datetime) -> domain.Balance:
    """Read what was recorded of a balance at a settled time; for a future time this is the current balance."""
    row = await tx.fetchrow(_RECORDED, current.account_id, current.sequence, at)
    assert row is not None  # a function always has a value
    sequence, balance_minor = row
    assert balance_minor is not None or not sequence, "an account's postings have no gap"
    return current._replace(
        balance_minor=balance_minor or 0, sequence=sequence, at=min(at, current.at), held_minor=None
    )


async def effective_balance(tx: database.Tx, recorded: domain.Balance, at: datetime) -> domain.Balance:
    """Sum the postings of a balance that had taken effect at a time."""
    balance_minor = int(await tx.fetchval(_EFFECTIVE, recorded.account_id, recorded.sequence, at))
    return recorded._replace(balance_minor=balance_minor, at=at, held_minor=None)


async def lines(
    tx: database.Tx, statement: domain.Statement, reference: str | None, *, first: int, last: int, transfers_max: int
) -> list[domain.StatementLine]:
    """Read the lines from one sequence to another, the oldest first; with a reference only those of its transfers.

    Raises ReferenceTooBroad where more than `transfers_max` transfers have the reference.
    """
    bounds = (statement.closing.account_id, first, last)
    if reference is None:
        rows = await tx.fetch(_LINES, *bounds)
        assert len(rows) == max(0, last - first + 1), "an account's postings have no gap"
    else:
        key = (statement.name.tenant, reference, _KINDS, transfers_max + 1)
        if len(await tx.fetch(_WITH_REFERENCE, *key)) > transfers_max:
            raise domain.ReferenceTooBroad(f"More than {transfers_max:,} transfers have the reference {reference}.")
        rows = await tx.fetch(_LINES_WITH_REFERENCE, *key, *bounds)
    return [domain.StatementLine(*row) for row in rows]


async def summarize(tx: database.Tx, *, limit: int) -> int:
    """Summarize up to `limit` chunks of 64 postings; returns their number, 0 also while another process does it."""
    done: int = await tx.fetchval(_SUMMARIZE, limit)
    return done
