"""The SQL of balances and statement lines, projected from the ledger's events in batches."""

from collections.abc import Sequence
from datetime import datetime

from chassis import database
from contracts import message
from gateway.wallet import domain

Position = tuple[datetime, int, str]
"""The sort key of a line: when the ledger recorded it, the account's version, the asset."""

_ADD_LINES = """
INSERT INTO statement_lines (tenant, user_id, asset, version, kind, amount_minor, balance_after_minor,
  held_after_minor, reference, occurred_at, recorded_at)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
  $8::bigint[], $9::text[], $10::timestamptz[], $11::timestamptz[])
ON CONFLICT (tenant, user_id, asset, version) DO NOTHING
"""
# Rows are locked in the order given, which is the same in every batch.
_SET_BALANCES = """
INSERT INTO balances AS stored (tenant, user_id, asset, version, balance_minor, held_minor)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (tenant, user_id, asset) DO UPDATE
SET version = excluded.version, balance_minor = excluded.balance_minor, held_minor = excluded.held_minor
WHERE stored.version < excluded.version
"""
_BALANCES = """
SELECT asset, balance_minor, held_minor, balance_minor - held_minor AS available_minor
FROM balances WHERE tenant = $1 AND user_id = $2 ORDER BY asset
"""
# The index statement_lines_newest is always searched from a bound; without a cursor it lies beyond the newest line.
# Each line is joined with the one before it: an account's version grows by one, and at version 0 nothing is held.
_LINES = """
SELECT line.asset || '-' || line.version AS id, line.kind, line.asset, line.amount_minor, line.version,
  line.held_after_minor - CASE WHEN line.version <= 1 THEN 0 ELSE earlier.held_after_minor END AS held_change_minor,
  line.balance_after_minor, line.occurred_at, line.recorded_at, line.reference
FROM statement_lines AS line
LEFT JOIN statement_lines AS earlier ON earlier.tenant = line.tenant AND earlier.user_id = line.user_id
  AND earlier.asset = line.asset AND earlier.version = line.version - 1
WHERE line.tenant = $1 AND line.user_id = $2 AND ($3::text IS NULL OR line.asset = $3)
  AND (line.recorded_at, line.version, line.asset)
    < (coalesce($4::timestamptz, 'infinity'), coalesce($5::bigint, 0), coalesce($6::text, ''))
ORDER BY line.recorded_at DESC, line.version DESC, line.asset DESC LIMIT $7
"""


async def project(tx: database.Tx, changes: Sequence[domain.statement.Change]) -> None:
    """Insert the lines of many changes and set the balances to the latest; stored changes have no effect."""
    if not changes:
        return
    await tx.execute(
        _ADD_LINES,
        *zip(
            *(
                (
                    change.tenant,
                    change.user_id,
                    change.asset,
                    change.version,
                    change.kind,
                    change.amount_minor,
                    change.balance_after_minor,
                    change.held_after_minor,
                    change.reference,
                    change.occurred_at,
                    change.recorded_at,
                )
                for change in changes
            ),
            strict=True,
        ),
    )
    await tx.execute(
        _SET_BALANCES,
        *zip(
            *(
                (
                    last.tenant,
                    last.user_id,
                    last.asset,
                    last.version,
                    last.balance_after_minor,
                    last.held_after_minor,
                )
                for last in domain.statement.latest(changes)
            ),
            strict=True,
        ),
    )


async def balances(
    tx: database.Tx, tenant: message.TenantId, user_id: message.UserId
) -> list[domain.statement.Balance]:
    """Return the balances of a user by asset; an asset without any change is absent."""
    rows = await tx.fetch(_BALANCES, tenant, user_id)
    return [domain.statement.Balance(**row) for row in rows]


async def lines(
    tx: database.Tx,
    tenant: message.TenantId,
    user_id: message.UserId,
    *,
    asset: str | None,
    before: Position | None,
    limit: int,
) -> list[tuple[Position, domain.statement.StatementLine]]:
    """Return a user's statement lines before a position, newest first, each with its own position."""
    rows = await tx.fetch(_LINES, tenant, user_id, asset, *(before or (None, None, None)), limit)
    return [((row["recorded_at"], row["version"], row["asset"]), domain.statement.StatementLine(**row)) for row in rows]
