"""Holds and their parts."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg

from chassis import database
from contracts import ledger
from contracts.message import REGISTRY
from ledger.domain import chart, holds, lots, requests

_SELECT = """
SELECT tenant, id, owner, reference, expires_at, captured_minor, state, ending_type, ending::text AS ending FROM hold
"""
_READ = f"{_SELECT} WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) ORDER BY tenant, id"
_LOCK = f"{_READ} FOR NO KEY UPDATE"
_LOCK_DUE = f"""
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


class Found(NamedTuple):
    """Holds and their parts as the rows say; which lots they are held on is known when the accounts are locked."""

    holds: Sequence[asyncpg.Record] = ()
    parts: Sequence[asyncpg.Record] = ()

    @property
    def names(self) -> list[chart.AccountName]:
        """The accounts that something is held on."""
        return [chart.AccountName(part["tenant"], part["code"], part["asset"]) for part in self.parts]


async def lock(tx: database.Tx, keys: Collection[requests.HoldKey], *, is_dry_run: bool) -> Found:
    """Give the holds that exist; a hold that nobody asked for yet is not there."""
    if not keys:
        return Found()
    sql = _READ if is_dry_run else _LOCK
    return await _with_parts(tx, await tx.fetch(sql, *zip(*keys, strict=True)))


async def lock_due(tx: database.Tx, *, limit: int) -> Found:
    """Lock holds whose time is over, the oldest first (index hold_due); those that others work on are left to them."""
    return await _with_parts(tx, await tx.fetch(_LOCK_DUE, limit))


def restored(found: Found, by_id: Mapping[UUID, lots.Lot]) -> dict[requests.HoldKey, holds.Hold]:
    """Give holds as they stand, with the lots that their parts are held on."""
    parts: dict[requests.HoldKey, list[holds.Part]] = {}
    for (tenant, hold_id, _, _, amount_minor, left_minor, shares), name in zip(found.parts, found.names, strict=True):
        on_lots = [lots.LotAllocation(by_id[UUID(lot_id)], part_minor) for lot_id, part_minor in json.loads(shares)]
        part = holds.Part(name, amount_minor, left_minor, on_lots)
        parts.setdefault((tenant, hold_id), []).append(part)
    known = {}
    for tenant, hold_id, owner, reference, expires_at, captured_minor, state, ending_type, ending in found.holds:
        key = tenant, hold_id
        said = cast("ledger.HoldEnding", REGISTRY[ending_type].model_validate_json(ending)) if ending else None
        now = holds.HoldValues(expires_at, parts[key], captured_minor, state, said)
        known[key] = holds.Hold(tenant, hold_id, owner, reference, now, loaded=now)
    return known


async def save(tx: database.Tx, known: Iterable[holds.Hold]) -> None:
    """Write the holds that changed as they stand, new ones too; in the order of their ids, as they are locked."""
    changed = sorted(
        (hold for hold in known if hold.current != hold.loaded), key=lambda hold: (hold.tenant, hold.id.bytes)
    )
    rows, parts = [], []
    for hold in changed:
        expires_at, its_parts, captured_minor, state, ending = hold.current
        said = (ending.TYPE, ending.model_dump_json()) if ending else (None, None)
        rows.append((hold.tenant, hold.id, hold.owner, hold.reference, expires_at, captured_minor, state, *said))
        for place, (name, amount_minor, left_minor, shares) in enumerate(its_parts):
            on_lots = json.dumps([[str(lot.id), part_minor] for lot, part_minor in shares])
            parts.append((hold.tenant, hold.id, place, name.code, name.asset, amount_minor, left_minor, on_lots))
    if rows:
        await tx.execute(_SAVE, *zip(*rows, strict=True))
        await tx.execute(_SAVE_PARTS, *zip(*parts, strict=True))


async def _with_parts(tx: database.Tx, rows: Sequence[asyncpg.Record]) -> Found:
    keys = [(row["tenant"], row["id"]) for row in rows]
    return Found(rows, await tx.fetch(_PARTS, *zip(*keys, strict=True))) if keys else Found()
