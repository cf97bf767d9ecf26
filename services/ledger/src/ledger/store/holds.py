"""Holds and their parts."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from contracts import ledger
from contracts.message import REGISTRY, TenantId, UserId
from ledger.domain import chart, holds, lots

_SELECT = """
SELECT tenant, id, owner, reference, expires_at, captured_minor, state, ending_type, ending::text AS ending FROM hold
"""
_BY_ID = f"{_SELECT} WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) ORDER BY tenant, id"
_LOCK = f"{_BY_ID} FOR NO KEY UPDATE"
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

Key = tuple[TenantId, ledger.HoldId]


class Found(NamedTuple):
    """Holds as they were read, and for each part of each hold the lots that it is held on."""

    holds: dict[Key, holds.Hold]
    shares: dict[Key, list[list[tuple[UUID, int]]]]

    @property
    def lot_ids(self) -> set[UUID]:
        """The lots that are meant."""
        return {lot_id for parts in self.shares.values() for part in parts for lot_id, _ in part}


async def read(connection: asyncpg.Connection, keys: Collection[Key], *, is_locking: bool) -> Found:
    """Give the holds that exist; a hold that nobody asked for yet is not there."""
    rows = await connection.fetch(_LOCK if is_locking else _BY_ID, *zip(*keys, strict=True))
    return await _with_parts(connection, rows)


async def lock_due(connection: asyncpg.Connection, *, limit: int) -> Found:
    """Lock holds whose time is over, the oldest first (index hold_due); those that others work on are left to them."""
    return await _with_parts(connection, await connection.fetch(_LOCK_DUE, limit))


def put_on_lots(found: Found, by_id: Mapping[UUID, lots.Lot]) -> None:
    """Let the parts of holds know the lots that they are held on."""
    for key, hold in found.holds.items():
        for part, on_lots in zip(hold.parts, found.shares[key], strict=True):
            part.shares = [lots.Share(by_id[lot_id], amount_minor) for lot_id, amount_minor in on_lots]
        hold.was = hold.figures()


async def save(connection: asyncpg.Connection, kept: Sequence[holds.Hold]) -> None:
    """Write holds as they stand, new ones too; in the order of their ids, as they are locked."""
    if not kept:
        return
    kept = sorted(kept, key=lambda hold: (hold.tenant, hold.id.bytes))
    rows = [
        (
            hold.tenant,
            hold.id,
            hold.owner,
            hold.reference,
            hold.expires_at,
            hold.captured_minor,
            hold.state,
            hold.ending and hold.ending.TYPE,
            hold.ending and hold.ending.model_dump_json(),
        )
        for hold in kept
    ]
    parts = [
        (
            hold.tenant,
            hold.id,
            place,
            part.name.code,
            part.name.asset,
            part.amount_minor,
            part.left_minor,
            json.dumps([[str(lot.id), amount_minor] for lot, amount_minor in part.shares]),
        )
        for hold in kept
        for place, part in enumerate(hold.parts)
    ]
    await connection.execute(_SAVE, *zip(*rows, strict=True))
    await connection.execute(_SAVE_PARTS, *zip(*parts, strict=True))


async def _with_parts(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> Found:
    found = Found({}, {})
    if not rows:
        return found
    for tenant, hold_id, owner, reference, expires_at, captured_minor, state, ending_type, ending in rows:
        found.shares[tenant, hold_id] = []
        found.holds[tenant, hold_id] = holds.Hold(
            tenant,
            hold_id,
            UserId(owner),
            reference,
            expires_at,
            [],
            captured_minor,
            state,
            REGISTRY[ending_type].model_validate_json(ending) if ending else None,  # type: ignore[arg-type]
        )
    for tenant, hold_id, code, asset, amount_minor, left_minor, shares in await connection.fetch(
        _PARTS, *zip(*found.holds, strict=True)
    ):
        part = holds.Part(chart.AccountName(tenant, code, asset), amount_minor, left_minor)
        found.holds[tenant, hold_id].parts.append(part)
        found.shares[tenant, hold_id].append([(UUID(lot_id), part_minor) for lot_id, part_minor in json.loads(shares)])
    return found
