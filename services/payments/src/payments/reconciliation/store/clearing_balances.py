"""The ledger's balances of clearing accounts, and what they must be by our own rows."""

from collections.abc import Sequence

from chassis import database
from payments.domain import accounts
from payments.reconciliation.domain import clearing

# One upsert for a whole batch; an older balance than the stored one changes nothing. What was posted by hand is added
# once for each transfer, because the inbox lets each through once.
_SAVE = """
INSERT INTO clearing (tenant, provider, account, asset, balance_minor, version, by_hand_minor)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
ON CONFLICT (tenant, provider, account, asset)
DO UPDATE SET version = greatest(clearing.version, excluded.version),
  balance_minor = CASE WHEN clearing.version < excluded.version
    THEN excluded.balance_minor ELSE clearing.balance_minor END,
  by_hand_minor = clearing.by_hand_minor + excluded.by_hand_minor
WHERE clearing.version < excluded.version OR excluded.by_hand_minor <> 0
"""
# Both sides in one snapshot. The row that caused a posting is committed before the posting, so a balance is never ahead
# of our rows. A dispute that was won took money and gave it back; its fee stays. Reads all payments of the account.
_COMPARE = """
WITH moved AS (
  SELECT currency AS asset, captured_minor AS in_minor, refunded_minor + fee_minor AS out_minor, changed_at AS moved_at
  FROM payment WHERE tenant = $1 AND provider = $2 AND account = $3 AND captured_minor > 0
  UNION ALL
  SELECT currency, CASE dispute.state WHEN 'won' THEN dispute.amount_minor ELSE 0 END,
    dispute.amount_minor + dispute.fee_minor, changed_at
  FROM dispute JOIN payment USING (payment_id) WHERE tenant = $1 AND provider = $2 AND account = $3
  UNION ALL
  SELECT currency, left_minor, 0, noted_at FROM deposit
  WHERE tenant = $1 AND provider = $2 AND account = $3 AND left_minor > 0
), ours AS (
  SELECT asset, sum(out_minor - in_minor)::bigint AS expected_minor,
    -coalesce(sum(out_minor) FILTER (WHERE is_recent), 0)::bigint AS least_minor,
    coalesce(sum(in_minor) FILTER (WHERE is_recent), 0)::bigint AS most_minor
  FROM (SELECT *, moved_at > now() - $4::interval AS is_recent FROM moved) AS dated GROUP BY asset
), theirs AS (
  SELECT asset, balance_minor, by_hand_minor FROM clearing WHERE tenant = $1 AND provider = $2 AND account = $3
)
SELECT asset, coalesce(expected_minor, 0) + coalesce(by_hand_minor, 0) AS expected_minor,
  coalesce(balance_minor, 0) AS found_minor, coalesce(by_hand_minor, 0) AS by_hand_minor,
  coalesce(least_minor, 0) AS least_minor, coalesce(most_minor, 0) AS most_minor
FROM ours FULL JOIN theirs USING (asset) ORDER BY asset
"""
_SAVE_DIFFERENCE = """
INSERT INTO clearing (tenant, provider, account, asset, difference_minor, compared_at)
VALUES ($1, $2, $3, $4, $5, now())
ON CONFLICT (tenant, provider, account, asset)
DO UPDATE SET difference_minor = excluded.difference_minor, compared_at = excluded.compared_at
"""
_DIFFERENCES = """
SELECT provider, account, asset, difference_minor FROM clearing WHERE difference_minor IS NOT NULL
"""


async def save(tx: database.Tx, balances: Sequence[clearing.Balance]) -> None:
    """Save the ledger's balances, each account once; rows are locked in the order of `balances`."""
    if balances:
        await tx.execute(_SAVE, *(list(column) for column in zip(*balances, strict=True)))


async def compare(tx: database.Tx, account: accounts.Account) -> list[clearing.Sides]:
    """Read both sides of every asset of an account."""
    rows = await tx.fetch(_COMPARE, account.tenant, account.provider, account.name, clearing.UNDER_WAY)
    return [clearing.Sides(**row) for row in rows]


async def save_difference(tx: database.Tx, account: accounts.Account, sides: clearing.Sides) -> None:
    """Save the unexplained difference of one asset; 0 when there is none."""
    await tx.execute(
        _SAVE_DIFFERENCE, account.tenant, account.provider, account.name, sides.asset, sides.unexplained_minor
    )


async def differences(tx: database.Tx) -> list[tuple[str, str, str, int]]:
    """Read the differences of the latest comparisons: provider, account, asset, difference in minor units."""
    return [tuple(row) for row in await tx.fetch(_DIFFERENCES)]
