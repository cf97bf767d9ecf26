"""The tables `hold` and `hold_part`."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg

from chassis import database
from contracts import ledger
from contracts.message import REGISTRY
from ledger.domain import chart, holds, lots, requirements

_SELECT = """
SELECT tenant, id, owner, reference, expires_at, captured_minor, state, ending_type, ending::text AS ending FROM hold
"""
_READ = f"{_SELECT} WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) ORDER BY tenant, id"
_LOCK = f"{_READ} FOR NO KEY UPDATE"
_LOCK_EXPIRED = f"""
{_SELECT} WHERE state = 'placed' AND expires_at <= now() ORDER BY expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
"""
_PARTS = """
SELECT tenant, hold_id, code, asset, amount_minor, left_minor, shares::text AS shares FROM hold_part
WHERE (tenant, hold_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) ORDER BY tenant, hold_id, place
"""
_SAVE = """
INSERT INTO hold (tenant, id, owner, reference, expires_at, captured_minor, state, ending_type, ending)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[], $7::text[],
  $8::text[], $9::jsonb[])
ON CONFLICT (tenant, id) DO UPDATE SET expires_at = excluded.expires_at, captured_minor = excluded.captured_minor,
  state = excluded.state, ending_type = excluded.ending_type, ending = excluded.ending
"""
_SAVE_PARTS = """
INSERT INTO hold_part (tenant, hold_id, place, code, asset, amount_minor, left_minor, shares)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::smallint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
  $8::jsonb[])
ON CONFLICT (tenant, hold_id, place) DO UPDATE SET left_minor = excluded.left_minor, shares = excluded.shares
"""


class LockedHolds(NamedTuple):
    """The rows of locked holds and of their parts. Their lots are loaded later, when the accounts are locked."""

    holds: Sequence[asyncpg.Record] = ()
    parts: Sequence[asyncpg.Record] = ()

    @property
    def account_names(self) -> list[chart.AccountName]:
        """The account of each part."""
        return [chart.AccountName(part["tenant"], part["code"], part["asset"]) for part in self.parts]


async def lock(tx: database.Tx, keys: Collection[requirements.HoldKey], *, is_dry_run: bool) -> LockedHolds:
    """Lock the holds that exist, in the order of their keys; a dry run reads them without a lock."""
    if not keys:
        return LockedHolds()
    sql = _READ if is_dry_run else _LOCK
    return await _with_parts(tx, await tx.fetch(sql, *zip(*keys, strict=True)))


async def lock_expired(tx: database.Tx, *, limit: int) -> LockedHolds:
    """Lock the oldest placed holds whose time is over (index hold_due), except those that are locked already."""
    return await _with_parts(tx, await tx.fetch(_LOCK_EXPIRED, limit))


def restore(locked: LockedHolds, lots_by_id: Mapping[UUID, lots.Lot]) -> dict[requirements.HoldKey, holds.Hold]:
    """Make holds of their rows and of the lots that their parts are allocated to."""
    parts: dict[requirements.HoldKey, list[holds.Part]] = {}
    for row, name in zip(locked.parts, locked.account_names, strict=True):
        tenant, hold_id, _, _, amount_minor, left_minor, shares = row
        allocations = [lots.LotAllocation(lots_by_id[UUID(lot_id)], part) for lot_id, part in json.loads(shares)]
        part = holds.Part(name, amount_minor, left_minor, allocations)
        parts.setdefault((tenant, hold_id), []).append(part)
    by_key = {}
    for tenant, hold_id, owner, reference, expires_at, captured_minor, state, ending_type, ending in locked.holds:
        key = tenant, hold_id
        event = cast("ledger.HoldEnding", REGISTRY[ending_type].model_validate_json(ending)) if ending else None
        values = holds.HoldValues(expires_at, parts[key], captured_minor, state, event)
        by_key[key] = holds.Hold(tenant, hold_id, owner, reference, values, loaded=values)
    return by_key


async def save(tx: database.Tx, loaded: Iterable[holds.Hold]) -> None:
    """Write new and changed holds, in the order in which they are locked."""
    changed = sorted(
        (hold for hold in loaded if hold.current != hold.loaded), key=lambda hold: (hold.tenant, hold.id.bytes)
    )
    rows, parts = [], []
    for hold in changed:
        expires_at, its_parts, captured_minor, state, ending = hold.current
        event = (ending.TYPE, ending.model_dump_json()) if ending else (None, None)
        rows.append((hold.tenant, hold.id, hold.owner, hold.reference, expires_at, captured_minor, state, *event))
        for place, (name, amount_minor, left_minor, allocations) in enumerate(its_parts):
            shares = json.dumps([[str(lot.id), part_minor] for lot, part_minor in allocations])
            parts.append((hold.tenant, hold.id, place, name.code, name.asset, amount_minor, left_minor, shares))
    if rows:
        await tx.execute(_SAVE, *zip(*rows, strict=True))
        await tx.execute(_SAVE_PARTS, *zip(*parts, strict=True))


async def _with_parts(tx: database.Tx, rows: Sequence[asyncpg.Record]) -> LockedHolds:
    keys = [(row["tenant"], row["id"]) for row in rows]
    return LockedHolds(rows, await tx.fetch(_PARTS, *zip(*keys, strict=True))) if keys else LockedHolds()
