"""Accounts: locked in the order of their names, opened when they are needed for the first time."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import asyncpg

from ledger.domain import books, chart

_OPEN = """
INSERT INTO account (tenant, code, asset, kind, exponent, owner, overdraft_minor)
SELECT wanted.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::uuid[], $7::bigint[])
  AS wanted(tenant, code, asset, kind, exponent, owner, overdraft_minor)
ORDER BY tenant, code, asset
ON CONFLICT DO NOTHING
"""
# One probe of the unique index after the other, in the order given: LIMIT keeps the planner from reading the table, and
# the order is that of the locks.
_READ = """
SELECT place, found.*
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted(tenant, code, asset, place)
CROSS JOIN LATERAL (
  SELECT id, overdraft_minor, balance_minor, held_minor, sequence, version, state, moved_at FROM account
  WHERE account.tenant = wanted.tenant AND account.code = wanted.code AND account.asset = wanted.asset LIMIT 1 {lock}
) AS found
"""
_LOOK = _READ.format(lock="")
_LOCK = _READ.format(lock="FOR NO KEY UPDATE")
_CHANGE = """
UPDATE account SET held_minor = changed.held_minor, overdraft_minor = changed.overdraft_minor,
  state = changed.state, version = changed.version
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
  AS changed(id, held_minor, overdraft_minor, state, version)
WHERE account.id = changed.id
"""

Found = tuple[list[books.Account], list[datetime]]
"""Accounts, and when each last had a posting."""


async def lock(
    connection: asyncpg.Connection,
    openings: Mapping[chart.AccountName, chart.Opening],
    reads: Mapping[chart.AccountName, chart.Opening],
) -> Found:
    """Lock the accounts; those of `openings` are opened where they are missing.

    New accounts come after all others. Where another transaction has opened one of them a moment ago, the two may
    deadlock; the loser is tried again at once.
    """
    accounts, times = await _read(connection, _LOCK, {**reads, **openings})
    missing = openings.keys() - {account.opening.name for account in accounts}
    if not missing:
        return accounts, times
    rows = [
        (*opening.name, opening.kind, chart.ASSETS[opening.name.asset].exponent, opening.owner, opening.overdraft_minor)
        for opening in map(openings.__getitem__, missing)
    ]
    await connection.execute(_OPEN, *zip(*rows, strict=True))
    opened, their_times = await _read(connection, _LOCK, {name: openings[name] for name in missing})
    return accounts + opened, times + their_times


async def look_at(
    connection: asyncpg.Connection,
    openings: Mapping[chart.AccountName, chart.Opening],
    reads: Mapping[chart.AccountName, chart.Opening],
) -> Found:
    """Read the accounts without a lock and imagine those that would be opened; for dry runs."""
    accounts, times = await _read(connection, _LOOK, {**reads, **openings})
    missing = openings.keys() - {account.opening.name for account in accounts}
    return accounts + [_imagined(openings[name], -place) for place, name in enumerate(sorted(missing), 1)], times


async def save(connection: asyncpg.Connection, changed: Iterable[books.Account]) -> None:
    """Write what is held, limits and states. Balances follow from the postings and are not written here."""
    rows = [
        (account.id, account.held_minor, account.overdraft_minor, account.state, account.version) for account in changed
    ]
    if rows:
        await connection.execute(_CHANGE, *zip(*rows, strict=True))


async def _read(connection: asyncpg.Connection, sql: str, wanted: Mapping[chart.AccountName, chart.Opening]) -> Found:
    if not wanted:
        return [], []
    names = sorted(wanted)
    rows = await connection.fetch(sql, *zip(*names, strict=True))
    accounts, times = [], []
    for place, account_id, *figures, moved_at in rows:
        accounts.append(books.Account(account_id, wanted[names[place - 1]], *figures))
        times.append(moved_at)
    return accounts, times


def _imagined(opening: chart.Opening, account_id: int) -> books.Account:
    return books.Account(books.AccountId(account_id), opening, opening.overdraft_minor)
