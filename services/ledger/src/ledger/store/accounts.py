"""Accounts: locked in the order of their names, opened when they are needed for the first time."""

from collections.abc import Iterable
from datetime import datetime

from chassis import database
from contracts import assets
from ledger.domain import accounts, chart, requests

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
_LOOK, _LOCK = (
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
_CHANGE = """
UPDATE account SET held_minor = changed.held_minor, overdraft_minor = changed.overdraft_minor,
  state = changed.state, version = changed.version
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
  AS changed(id, held_minor, overdraft_minor, state, version)
WHERE account.id = changed.id
"""

Found = tuple[list[accounts.Account], list[datetime]]
"""Accounts, and when each last had a posting."""


async def take(tx: database.Tx, needs: requests.Requirements, *, is_dry_run: bool) -> Found:
    """Lock the accounts that are needed, and open those that are missing; a dry run only reads, and imagines them.

    New accounts come after all others. Where another transaction has opened one of them a moment ago, the two may
    deadlock; the loser is tried again at once.
    """
    sql, openings = _LOOK if is_dry_run else _LOCK, needs.openings
    found, times = await _read(tx, sql, {**needs.reads, **openings})
    missing = sorted(openings.keys() - {account.definition.name for account in found})
    if is_dry_run:
        return found + [_imagined(openings[name], -place) for place, name in enumerate(missing, 1)], times
    if missing:
        rows = [
            (*name, opening.kind, assets.ASSETS[name.asset].exponent, opening.owner, opening.overdraft_minor)
            for name, opening in ((name, openings[name]) for name in missing)
        ]
        await tx.execute(_OPEN, *zip(*rows, strict=True))
        opened, their_times = await _read(tx, sql, {name: openings[name] for name in missing})
        return found + opened, times + their_times
    return found, times


async def save(tx: database.Tx, opened: Iterable[accounts.Account]) -> None:
    """Write what is held, limits and states. Balances follow from the postings and are not written here."""
    rows = [
        (
            account.id,
            account.current.held_minor,
            account.current.overdraft_minor,
            account.current.state,
            account.current.version,
        )
        for account in opened
        if account.is_changed
    ]
    if rows:
        await tx.execute(_CHANGE, *zip(*rows, strict=True))


async def _read(tx: database.Tx, sql: str, wanted: requests.Openings) -> Found:
    names, found, times = sorted(wanted), [], []
    if names:
        for place, account_id, moved_at, *figures in await tx.fetch(sql, *zip(*names, strict=True)):
            found.append(accounts.Account(account_id, wanted[names[place - 1]], accounts.AccountValues(*figures)))
            times.append(moved_at)
    return found, times


def _imagined(opening: chart.AccountDefinition, account_id: int) -> accounts.Account:
    return accounts.Account(accounts.AccountId(account_id), opening, accounts.AccountValues(opening.overdraft_minor))
