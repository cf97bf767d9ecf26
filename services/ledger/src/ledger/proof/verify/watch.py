"""Small pieces of the proof for the continuous check: each is bounded, and finds a fresh breach within minutes."""

from typing import NamedTuple

from chassis import database
from ledger.proof import domain as seal
from ledger.proof import store
from ledger.proof.verify import pieces

NEWEST_POSTINGS = 20

_IMBALANCES = "SELECT asset, sum(balance_minor)::text AS units FROM account GROUP BY asset"
# The next accounts, each beside its newest postings and its open holds (indexes posting_pkey and hold_part_open).
_DRIFTED = """
SELECT CASE WHEN count(*) = $2 THEN max(id) ELSE 0 END AS last,
  array_agg(id) FILTER (WHERE account.balance_minor <> coalesce(newest.balance_minor, 0)
    OR account.sequence <> coalesce(newest.sequence, 0)) AS unposted,
  array_agg(id) FILTER (WHERE held_minor <> coalesce(held.left_minor, 0)) AS unheld,
  array_agg(id) FILTER (WHERE newest.is_broken) AS broken
FROM (SELECT * FROM account WHERE id > $1 ORDER BY id LIMIT $2) AS account
LEFT JOIN LATERAL (
  SELECT max(sequence) AS sequence, max(balance_after_minor) FILTER (WHERE is_newest) AS balance_minor,
    bool_or(CASE WHEN sequence_before IS NULL THEN sequence > 1 AND NOT is_cut
      ELSE sequence_before <> sequence - 1 OR balance_before <> balance_after_minor::numeric - amount_minor
    END) AS is_broken
  FROM (
    SELECT posting.*, lag(sequence) OVER along AS sequence_before,
      lag(balance_after_minor) OVER along AS balance_before,
      row_number() OVER (ORDER BY sequence DESC) = 1 AS is_newest, count(*) OVER () = $3 AS is_cut
    FROM (SELECT * FROM posting WHERE account_id = account.id ORDER BY sequence DESC LIMIT $3) AS posting
    WINDOW along AS (ORDER BY sequence)
  ) AS along
) AS newest ON true
LEFT JOIN LATERAL (
  SELECT sum(left_minor) AS left_minor FROM hold_part
  WHERE hold_part.tenant = account.tenant AND hold_part.code = account.code AND hold_part.asset = account.asset
    AND left_minor > 0
) AS held ON true
"""


class Drift(NamedTuple):
    """Accounts that disagree with their newest posting, with their open holds, or whose newest postings have a gap.

    `last` is the id to go on after; 0 when these were the last.
    """

    unposted: frozenset[int]
    unheld: frozenset[int]
    broken: frozenset[int]
    last: int


async def imbalances(tx: database.Tx) -> dict[str, int]:
    """Give the sum of all balances by asset; each is zero when the books are right."""
    rows = await (await database.driver(tx)).fetch(_IMBALANCES)
    return {row["asset"]: int(row["units"]) for row in rows}


async def drifted(tx: database.Tx, *, after_id: int, limit: int) -> Drift:
    """Compare the accounts that follow `after_id` with their newest postings and open holds."""
    row = await (await database.driver(tx)).fetchrow(_DRIFTED, after_id, limit, NEWEST_POSTINGS)
    assert row is not None  # an aggregate always gives a row
    last, *found = row
    unposted, unheld, broken = (frozenset(ids or ()) for ids in found)
    return Drift(unposted, unheld, broken, last)


async def broken_blocks(tx: database.Tx, *, after: int, limit: int) -> tuple[list[str], int]:
    """Seal the blocks that follow a block number once more in mind, and tell how they differ from what is kept.

    Gives also the number to go on after; 0 when these were the last.
    """
    connection = await database.driver(tx)
    before = next(iter(await store.blocks(connection, after=after - 1, limit=1)), None) if after else None
    found, last = [], 0
    blocks = await store.blocks(connection, after=after, limit=limit)
    for each in blocks:
        last = each.block.number
        if fault := seal.fault(each, after=before):
            found.append(f"block {last}: {fault}")
        begin = before.block.last_number if before else pieces.BEGINNING
        leaves = await store.leaves(connection, after=begin, upto=each.block.last_number)
        members = [pieces.Member(leaf.number, leaf.hash, f"transfer number {leaf.number}") for leaf in leaves]
        found += pieces.differences(each, members)
        before = each
    return found, last if len(blocks) == limit else 0
