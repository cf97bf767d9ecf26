"""The table `account`: rows are locked in the order of their names, and opened when they are first used."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from chassis import database
from contracts import assets
from ledger.domain import accounts, chart, requirements

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
_READ, _LOCK = (
    f"""
SELECT place, found.*
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted(tenant, code, asset, place)
CROSS JOIN LATERAL (
  SELECT id, moved_at, overdraft_minor, balance_minor, held_minor, sequence, version, state FROM account
  WHERE account.tenant = wanted.tenant AND account.code = wanted.code AND account.asset = wanted.asset LIMIT 1 {lock}
) AS found
"""
    for lock in ("", "FOR NO KEY UPDATE")
)
_SAVE = """
UPDATE account SET held_minor = changed.held_minor, overdraft_minor = changed.overdraft_minor,
  state = changed.state, version = changed.version
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
  AS changed(id, held_minor, overdraft_minor, state, version)
WHERE account.id = changed.id
"""

Loaded = tuple[list[accounts.Account], list[datetime]]
"""Accounts, and the time of the last posting of each."""


async def lock(
    tx: database.Tx, wanted: requirements.Accounts, *, is_dry_run: bool
) -> tuple[list[accounts.Account], datetime, datetime]:
    """Lock accounts and open those that are missing; returns them, the moment of recording and the clock.

    New accounts are locked after all others. Where another transaction opens one of them at the same time, the two may
    deadlock, and PostgreSQL cancels one, which is tried again. A dry run locks nothing and opens accounts in memory.
    """
    sql, definitions = _READ if is_dry_run else _LOCK, {**wanted.to_read, **wanted.to_open}
    names = sorted(definitions)
    loaded, times = _restore(await tx.fetch(sql, *zip(*names, strict=True)) if names else [], names, definitions)
    missing = sorted(wanted.to_open.keys() - {account.definition.name for account in loaded})
    if missing and is_dry_run:
        loaded += [_in_memory(definitions[name], -number) for number, name in enumerate(missing, 1)]
    elif missing:
        rows = [
            (*name, definition.kind, assets.ASSETS[name.asset].exponent, definition.owner, definition.overdraft_minor)
            for name, definition in ((name, definitions[name]) for name in missing)
        ]
        await tx.execute(_OPEN, *zip(*rows, strict=True))
        opened, opened_times = _restore(await tx.fetch(sql, *zip(*missing, strict=True)), missing, definitions)
        loaded, times = loaded + opened, times + opened_times
    # Read under the locks: no posting of these accounts may be recorded before an earlier one, whatever the clock does.
    now: datetime = await tx.fetchval("SELECT clock_timestamp()")
    return loaded, max([now, *times]), now


async def is_open(tx: database.Tx, name: chart.AccountName) -> bool:
    """Return whether an account was ever opened."""
    return bool(await tx.fetch(_READ, [name.tenant], [name.code], [name.asset]))


async def save(tx: database.Tx, loaded: Iterable[accounts.Account]) -> None:
    """Write what is held, limits and states. Balances follow from the postings and are not written here."""
    rows = [
        (account.id, current.held_minor, current.overdraft_minor, current.state, current.version)
        for account, current in ((account, account.current) for account in loaded if account.is_changed)
    ]
    if rows:
        await tx.execute(_SAVE, *zip(*rows, strict=True))


def _restore(
    rows: Iterable[asyncpg.Record], names: Sequence[chart.AccountName], definitions: requirements.Definitions
) -> Loaded:
    loaded, times = [], []
    for place, account_id, moved_at, *values in rows:
        loaded.append(accounts.Account(account_id, definitions[names[place - 1]], accounts.AccountValues(*values)))
        times.append(moved_at)
    return loaded, times


def _in_memory(definition: chart.AccountDefinition, account_id: int) -> accounts.Account:
    return accounts.Account(
        accounts.AccountId(account_id), definition, accounts.AccountValues(definition.overdraft_minor)
    )
