"""What was: balances of any time and the lines of statements. Everything here reads what can't change any more."""

import typing
from datetime import datetime

from chassis import database
from contracts import ledger
from ledger.domain import chart
from ledger.history import domain

_STANDING = """
SELECT id, balance_minor, sequence, clock_timestamp(), held_minor, moved_at FROM account
WHERE tenant = $1 AND code = $2 AND asset = $3
"""
# Waits for whoever writes to the account at this moment. Its time was taken under the lock, so after it no other can
# record anything before the clock that is read here.
_STANDING_ALONE = f"{_STANDING} FOR SHARE"
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
_REFERRING = """
SELECT * FROM transfer WHERE tenant = $1 AND reference = $2 AND reference <> source_key
UNION ALL
SELECT * FROM transfer WHERE tenant = $1 AND kind = ANY($3::text[]) AND source_key = $2 AND reference = $2
LIMIT $4
"""
_REFERRING_LINES = f"""
SELECT {_LINE} FROM ({_REFERRING}) AS transfer CROSS JOIN LATERAL postings_of(id)
WHERE account_id = $5 AND sequence BETWEEN $6 AND $7 ORDER BY sequence
"""
_KINDS = list(typing.get_args(ledger.TransferKind))


async def standing(tx: database.Tx, name: chart.AccountName, *, settled_at: datetime | None = None) -> domain.Balance:
    """Read an account as it is now, and so that nothing can be recorded at or before `settled_at` any more.

    That is so when a later posting is there already; only a quiet account is locked, for this statement. Raises
    NeverOpened.
    """
    row = await tx.fetchrow(_STANDING, *name)
    if row is not None and settled_at is not None and row["moved_at"] <= settled_at:
        row = await tx.fetchrow(_STANDING_ALONE, *name)
    if row is None:
        raise domain.NeverOpened(f"The account {name.code} was never used for {name.asset}.")
    account_id, balance_minor, sequence, now, held_minor, _ = row
    return domain.Balance(account_id, name, balance_minor, sequence, now, held_minor)


async def as_recorded(tx: database.Tx, now: domain.Balance, at: datetime) -> domain.Balance:
    """Give what a balance was at a moment that is settled. One that is still to come is not: it gives the latest."""
    row = await tx.fetchrow(_RECORDED, now.account_id, now.sequence, at)
    assert row is not None  # a function always has a value
    sequence, balance_minor = row
    assert balance_minor is not None or not sequence, "an account's postings have no gap"
    return now._replace(balance_minor=balance_minor or 0, sequence=sequence, at=min(at, now.at), held_minor=None)


async def as_effective(tx: database.Tx, known: domain.Balance, at: datetime) -> domain.Balance:
    """Give what of a balance had taken effect at a moment."""
    balance_minor = int(await tx.fetchval(_EFFECTIVE, known.account_id, known.sequence, at))
    return known._replace(balance_minor=balance_minor, at=at, held_minor=None)


async def lines(
    tx: database.Tx, of: domain.Span, reference: str | None, *, first: int, last: int, most: int
) -> list[domain.Line]:
    """Read the lines of postings in a row, the oldest first, or those among them of transfers with a reference.

    Raises ReferenceTooBroad where more than `most` transfers have it.
    """
    stretch = (of.closing.account_id, first, last)
    if reference is None:
        rows = await tx.fetch(_LINES, *stretch)
        assert len(rows) == max(0, last - first + 1), "an account's postings have no gap"
    else:
        asked = (of.name.tenant, reference, _KINDS, most + 1)
        if len(await tx.fetch(_REFERRING, *asked)) > most:
            raise domain.ReferenceTooBroad(f"More than {most:,} transfers have the reference {reference}.")
        rows = await tx.fetch(_REFERRING_LINES, *asked, *stretch)
    return [domain.Line(*row) for row in rows]


async def summarize(tx: database.Tx, *, limit: int) -> int:
    """Sum up at most so many stretches of 64 postings; gives how many there were, 0 also when another one is at it."""
    done: int = await tx.fetchval(_SUMMARIZE, limit)
    return done
