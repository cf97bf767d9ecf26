"""The checks of the books. Each is a statement that selects what is broken, one text for each case.

The history is read in ranges of transfers in the order of their numbers, each once with its postings. The chain of
blocks and one sum link the ranges. Every posting leads from one state of its account (account, sequence, balance) to
the next, and each state is hashed with a secret of this run. All states that postings lead to, less all states that
they lead from, must be the states of the accounts now, less those at their beginning. Then the postings of each account
are one path without a gap, though no two postings were compared. That takes one pass in any order and no memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from chassis import database
from ledger.proof.store import chain

TIMEOUT_S = 30 * 60  # the whole history is read; where that takes longer, prove a copy of the database
_LOWEST, _HIGHEST = f"'{-(2**63)}'::bigint", f"'{2**63 - 1}'::bigint"

# Checks of one range, on what `chain.RANGE` selects and on `ordered` and `captured` below.
OF_RANGES = {
    "the postings of each transfer sum to zero per asset": """
SELECT format('transfer %s (number %s): %s %s left over', id, number, suspect.left_over, suspect.asset)
FROM t JOIN (
  SELECT number, p.asset, sum(amount_minor) AS left_over FROM whole JOIN p USING (number)
  WHERE left_over <> 0 OR whole.asset <> other_asset
  GROUP BY number, p.asset HAVING sum(amount_minor) <> 0
) AS suspect USING (number)
UNION ALL
SELECT format('transfer %s (number %s): no postings', id, number)
FROM t WHERE NOT EXISTS (SELECT FROM whole WHERE whole.number = t.number)
""",
    "each posting is on an account of its transfer's tenant": """
SELECT format('account %s, sequence %s, transfer number %s', account_id, sequence, number)
FROM p WHERE owned_by IS DISTINCT FROM tenant ORDER BY number, account_id
""",
    # A posting is compared with the one before it in the same range. One before the range is looked up only while the
    # range is not sealed: once it is, the chain keeps every time as it was, and the database refused any too early.
    "no posting is recorded before its predecessor": """
SELECT format('account %s, sequence %s', account_id, sequence) AS found FROM ordered
WHERE CASE
  WHEN sequence <= 1 THEN false
  WHEN sequence_before = sequence - 1 THEN recorded_before > recorded_at
  WHEN $3 = $4 THEN (
    SELECT posting.recorded_at > ordered.recorded_at FROM posting
    WHERE posting.account_id = ordered.account_id AND posting.sequence = ordered.sequence - 1
  )
  ELSE false
END
UNION ALL
SELECT format('transfer number %s is recorded at two times', number) FROM whole WHERE recorded_at <> recorded_last
ORDER BY found
""",
    "each capture and each reversal matches its stored answer": """
SELECT format('capture %s (number %s): posted %s, answered %s', id, number, credited,
  coalesce(answer -> 'amount' ->> 'amount_minor', 'nothing'))
FROM captured
WHERE answer ->> 'transfer_id' IS DISTINCT FROM id::text
  OR answer -> 'amount' ->> 'amount_minor' IS DISTINCT FROM credited::text
UNION ALL
SELECT format('reversal %s (number %s): no such answer', id, number)
FROM t LEFT JOIN request ON request.tenant = t.tenant AND key = source_key
WHERE t.kind = 'reversal' AND (answer -> 'transfer_ids' ? id::text) IS NOT TRUE
""",
}

# Checks of the tables as they are.
OF_TABLES = {
    "no account is overdrawn beyond its limit": """
SELECT format('account %s %s: %s available', id, code, balance_minor::numeric - held_minor)
FROM account WHERE balance_minor::numeric - held_minor < -overdraft_minor::numeric ORDER BY id
""",
    "the held amount of each account is the sum of its open holds": """
SELECT format('account %s %s: stored %s, its open holds %s', id, code, held_minor, coalesce(summed, 0))
FROM account LEFT JOIN (
  SELECT tenant, code, asset, sum(left_minor) AS summed FROM hold_part WHERE left_minor > 0 GROUP BY tenant, code, asset
) AS held USING (tenant, code, asset)
WHERE held_minor <> coalesce(summed, 0) ORDER BY id
""",
    "only placed holds hold an amount": """
SELECT format('hold %s: %s, but %s are left of it', hold.id, state, sum(left_minor))
FROM hold JOIN hold_part ON hold_part.tenant = hold.tenant AND hold_id = hold.id
WHERE left_minor > 0 AND state <> 'placed' GROUP BY hold.tenant, hold.id ORDER BY hold.id
""",
    "the captured amount of each hold matches the stored answers": """
SELECT format('hold %s: stored %s, answered %s', coalesce(hold.id::text, hold_id), captured_minor, captured)
FROM hold FULL JOIN (
  SELECT tenant, answer ->> 'hold_id' AS hold_id, sum((answer -> 'amount' ->> 'amount_minor')::numeric) AS captured
  FROM request WHERE answer_type = 'ledger.hold.captured.v1' GROUP BY 1, 2
) AS answered ON answered.tenant = hold.tenant AND hold_id = hold.id::text
WHERE coalesce(captured_minor, -1) <> coalesce(captured, 0) ORDER BY 1
""",
    # Short hashes are sorted several times faster than the keys; only keys whose hashes meet are compared.
    "each payment is credited once, each natural key used once": """
WITH met AS (
  SELECT hash FROM (
    SELECT hashtextextended(source_key, hashtextextended(kind, hashtextextended(tenant, 0))) AS hash FROM transfer
    ORDER BY 1 OFFSET 0
  ) AS hashed GROUP BY hash HAVING count(*) > 1
)
SELECT format('%s %s: %s transfers', kind, source_key, count(*))
FROM transfer JOIN met ON hash = hashtextextended(source_key, hashtextextended(kind, hashtextextended(tenant, 0)))
GROUP BY tenant, kind, source_key HAVING count(*) > 1 ORDER BY 1
""",
    "no more is reversed than was posted": """
SELECT format('transfer %s, account %s: %s of %s reversed', original, account_id, -reversed_minor,
  coalesce(posted_minor, 0))
FROM (
  SELECT original, account_id, sum(amount_minor) FILTER (WHERE NOT is_reversal) AS posted_minor,
    coalesce(sum(amount_minor) FILTER (WHERE is_reversal), 0) AS reversed_minor
  FROM posting JOIN (
    SELECT id, reverses AS original, true AS is_reversal FROM transfer WHERE reverses IS NOT NULL
    UNION ALL
    SELECT DISTINCT reverses, reverses, false FROM transfer WHERE reverses IS NOT NULL
  ) AS concerned ON concerned.id = transfer_id
  GROUP BY original, account_id
) AS account
WHERE posted_minor IS NULL OR reversed_minor * sign(posted_minor) NOT BETWEEN -abs(posted_minor) AND 0 ORDER BY original
""",
    "the lots of each account sum to its balance and its held amount": """
SELECT format('account %s %s: balance %s, in lots %s; held %s, in lots %s', account.id, code, balance_minor,
  coalesce(left_minor, 0), account.held_minor, coalesce(lots.held_minor, 0))
FROM account LEFT JOIN (
  SELECT account_id, sum(left_minor) AS left_minor, sum(held_minor) AS held_minor FROM lot GROUP BY account_id
) AS lots ON account_id = account.id
WHERE (kind = 'points' OR account_id IS NOT NULL)
  AND (balance_minor <> coalesce(left_minor, 0) OR account.held_minor <> coalesce(lots.held_minor, 0))
ORDER BY account.id
""",
    "what is left of each lot is the sum of its uses": """
SELECT format('lot %s of account %s: stored %s, its transfers %s', coalesce(lot.id, lot_id), account_id,
  left_minor, coalesce(used, 0))
FROM lot FULL JOIN (SELECT lot_id, sum(amount_minor) AS used FROM lot_use GROUP BY lot_id) AS uses ON lot_id = lot.id
WHERE left_minor IS DISTINCT FROM coalesce(used, 0) ORDER BY 1
""",
    "the held amount of each lot is the sum of its open holds": """
SELECT format('lot %s: held %s, its holds %s', coalesce(id, lot_id), held_minor, shared)
FROM lot FULL JOIN (
  SELECT (share ->> 0)::uuid AS lot_id, sum((share ->> 1)::bigint) AS shared
  FROM hold_part CROSS JOIN jsonb_array_elements(shares) AS share WHERE left_minor > 0 GROUP BY 1
) AS holds ON lot_id = id
WHERE coalesce(held_minor, 0) <> coalesce(shared, 0) ORDER BY 1
""",
    "each summary is the sum of its postings": """
SELECT format('account %s, level %s, place %s: stored %s at %s, its postings %s at %s', account_id, level, place,
  amount_minor, recorded_last, ending.balance_minor - coalesce(beginning.balance_minor, 0), ending.recorded_at)
FROM (SELECT *, (64 * 16 ^ (level - 1))::bigint AS width FROM posting_summary) AS summary
LEFT JOIN LATERAL (
  SELECT balance_after_minor::numeric AS balance_minor, recorded_at FROM posting
  WHERE account_id = summary.account_id AND sequence = (place + 1) * width
) AS ending ON true
LEFT JOIN LATERAL (
  SELECT balance_after_minor::numeric AS balance_minor FROM posting
  WHERE account_id = summary.account_id AND sequence = place * width
) AS beginning ON true
WHERE amount_minor IS DISTINCT FROM ending.balance_minor - coalesce(beginning.balance_minor, 0)
  OR recorded_last IS DISTINCT FROM ending.recorded_at
ORDER BY account_id, level, place
""",
}

# Checks that a sum over all ranges proves as a whole. Only where it differs from that of the overview, the statement
# looks for the broken rows, slowly.
OF_SUMS = {
    "each posting has its transfer": (
        "postings",
        """
SELECT format('account %s, sequence %s: transfer %s is gone', account_id, sequence, transfer_id)
FROM posting WHERE NOT EXISTS (SELECT FROM transfer WHERE id = transfer_id) ORDER BY account_id, sequence
""",
    ),
    "each capture has its transfer": (
        "captures",
        """
SELECT format('hold %s: transfer %s is gone', answer ->> 'hold_id', answer ->> 'transfer_id')
FROM request WHERE answer_type = 'ledger.hold.captured.v1'
  AND NOT EXISTS (
    SELECT FROM transfer WHERE id::text = answer ->> 'transfer_id' AND request.tenant = transfer.tenant
      AND kind = 'capture' AND 'capture:' || substr(source_key, 6) = key
  )
ORDER BY 1
""",
    ),
    "the sequence of each account has no gap": (
        "links",
        """
SELECT format('account %s: sequence %s in place %s', account_id, sequence, place)
FROM (
  SELECT account_id, sequence, row_number() OVER (PARTITION BY account_id ORDER BY sequence) AS place FROM posting
) AS numbered
WHERE sequence <> place ORDER BY account_id, sequence
""",
    ),
    "each running balance is the sum so far": (
        "links",
        """
SELECT format('account %s, sequence %s: stored %s, its postings %s', account_id, sequence, balance_after_minor, so_far)
FROM (
  SELECT posting.*, sum(amount_minor) OVER (PARTITION BY account_id ORDER BY sequence) AS so_far FROM posting
) AS running
WHERE balance_after_minor <> so_far ORDER BY account_id, sequence
""",
    ),
    "each balance is the sum of its postings": (
        "links",
        """
SELECT format('account %s %s: stored %s after %s, its postings %s after %s', id, code, balance_minor, sequence,
  coalesce(summed, 0), coalesce(postings, 0))
FROM account LEFT JOIN (
  SELECT account_id, count(*) AS postings, sum(amount_minor) AS summed FROM posting GROUP BY account_id
) AS derived ON account_id = id
WHERE balance_minor <> coalesce(summed, 0) OR sequence <> coalesce(postings, 0) ORDER BY id
""",
    ),
}


def _broken_by(check: str) -> str:
    """Return an expression for the number of rows that a check selects, and the first of them."""
    # Materialized, so that the planner does not hope to find the first row soon.
    return f"""(
      WITH broken (found) AS MATERIALIZED ({check})
      SELECT json_build_array(count(*), (SELECT found FROM broken LIMIT 1)) FROM broken
    )"""


def _state(account: str, sequence: str, balance: str, seed: str) -> str:
    return f"hashint8extended({balance}, hashint8extended({sequence}, hashint8extended({account}, {seed})))"


# Totals of the tables, states hashed with the secret $1, and where the ranges end when each has $2 blocks.
_OVERVIEW = f"""
SELECT now() AS at,
  (SELECT coalesce(json_object_agg(kind, transfers), '{{}}') FROM (
    SELECT kind, count(*) AS transfers FROM transfer GROUP BY kind ORDER BY kind
  ) AS counted) AS transfers,
  (SELECT coalesce(json_agg(json_build_array(asset, accounts, balance_minor, held_minor)), '[]') FROM (
    SELECT asset, count(*) AS accounts, sum(balance_minor) AS balance_minor, sum(held_minor) AS held_minor
    FROM account GROUP BY asset ORDER BY asset
  ) AS counted) AS assets,
  (SELECT to_json(coalesce(sum({_state("id", "sequence", "balance_minor", "$1")})
    - sum({_state("id", "0", "0", "$1")}), 0)) FROM account) AS links,
  (SELECT count(*) FROM posting) AS postings,
  (SELECT count(*) FROM request WHERE answer_type = 'ledger.hold.captured.v1') AS captures,
  (SELECT coalesce(json_agg(json_build_array(number, last_number) ORDER BY number), '[]') FROM block
    WHERE number % $2 = 0 OR number = (SELECT max(number) FROM block)) AS cuts,
  coalesce((SELECT encode(hash, 'hex') FROM block ORDER BY number DESC LIMIT 1), '') AS hash
"""
# The transfers above the number $1 up to $2, which are those of the blocks above $3 up to $4; where both blocks are the
# same, they are not sealed. The secret $5 is that of the overview. A posting before which the balance would not have
# fit a bigint leads from no state, so that the sums differ.
_CHECK_RANGE = f"""
WITH {chain.RANGE}, ordered AS (
  SELECT account_id, sequence, recorded_at, lag(sequence) OVER along AS sequence_before,
    lag(recorded_at) OVER along AS recorded_before
  FROM m WINDOW along AS (PARTITION BY account_id ORDER BY sequence)
), captured AS (
  SELECT id, number, answer, coalesce(credited, 0) AS credited
  FROM t LEFT JOIN whole USING (number) LEFT JOIN request
    ON request.tenant = t.tenant AND key = 'capture:' || substr(source_key, 6)
    AND answer_type = 'ledger.hold.captured.v1'
  WHERE kind = 'capture'
)
SELECT
  (SELECT count(*) FROM t) AS transfers,
  (SELECT count(*) FROM m) AS postings,
  (SELECT count(*) FROM captured WHERE answer IS NOT NULL) AS captures,
  (SELECT to_json(coalesce(sum({_state("account_id", "sequence", "balance_after_minor", "$5")}), 0)
    - coalesce(sum({_state("account_id", "sequence - 1", "balance_after_minor - amount_minor", "$5")})
      FILTER (WHERE sequence > 0 AND balance_after_minor BETWEEN {_LOWEST} + greatest(amount_minor, 0)
        AND {_HIGHEST} + least(amount_minor, 0)), 0)) FROM m) AS links,
  (SELECT coalesce(json_object_agg(coalesce(asset, ''), json_build_array(postings, credited, debited)), '{{}}') FROM (
    SELECT asset, count(*) AS postings, sum(greatest(amount_minor, 0)) AS credited,
      -sum(least(amount_minor, 0)) AS debited
    FROM p GROUP BY asset
  ) AS summed) AS totals,
  (SELECT string_agg({chain.LEAF}, ''::bytea ORDER BY number) FROM canonical) IS NOT DISTINCT FROM
  (SELECT string_agg(leaves, ''::bytea ORDER BY number) FROM block WHERE number > $3 AND number <= $4) AS is_as_sealed,
  json_build_array({", ".join(_broken_by(check) for check in OF_RANGES.values())}) AS found
"""
# The sum of all balances of an asset; zero when the books are right.
_IMBALANCES = """
SELECT coalesce(json_object_agg(asset, units), '{}') AS units
FROM (SELECT asset, sum(balance_minor) AS units FROM account GROUP BY asset) AS summed
"""
# The $2 accounts that follow the id $1, each beside its $3 newest postings and its open holds (indexes posting_pkey and
# hold_part_open). Postings are one path when they have no gap and all lead back to the same balance before them. `last`
# is the id to go on after; 0 when these were the last.
_DRIFTED = """
SELECT CASE WHEN count(*) = $2 THEN max(id) ELSE 0 END AS last,
  array_agg(id) FILTER (WHERE account.balance_minor <> coalesce(newest.balance_minor, 0)
    OR account.sequence <> coalesce(newest.sequence, 0)) AS balances,
  array_agg(id) FILTER (WHERE held_minor <> left_minor) AS holds,
  array_agg(id) FILTER (WHERE newest.sequence - first <> postings - 1 OR lowest <> highest
    OR (postings < $3 AND (first <> 1 OR lowest <> 0))) AS sequences
FROM (SELECT * FROM account WHERE id > $1 ORDER BY id LIMIT $2) AS account
CROSS JOIN LATERAL (
  SELECT count(*) AS postings, min(sequence)::numeric AS first, max(sequence) AS sequence, min(before) AS lowest,
    max(before) AS highest, (array_agg(balance_after_minor ORDER BY sequence DESC))[1] AS balance_minor
  FROM (
    SELECT sequence, balance_after_minor,
      balance_after_minor - sum(amount_minor) OVER (ORDER BY sequence) AS before
    FROM (SELECT * FROM posting WHERE account_id = account.id ORDER BY sequence DESC LIMIT $3) AS posting
  ) AS running
) AS newest
CROSS JOIN LATERAL (
  SELECT coalesce(sum(left_minor), 0) AS left_minor FROM hold_part
  WHERE hold_part.tenant = account.tenant AND hold_part.code = account.code AND hold_part.asset = account.asset
    AND left_minor > 0
) AS held
"""


class Drifted(NamedTuple):
    """The ids of accounts that disagree with their postings or holds, by what is wrong; and the id to continue after.

    `last` is 0 when these were the last accounts.
    """

    last: int
    balances: Sequence[int]
    holds: Sequence[int]
    sequences: Sequence[int]


async def share_snapshot(txs: Sequence[database.Tx]) -> None:
    """Let transactions that have read nothing yet read one snapshot."""
    for tx in txs:
        await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    first, *others = txs
    snapshot = await first.fetchval("SELECT pg_export_snapshot()")
    for tx in others:
        await tx.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")


async def prepare(tx: database.Tx, *, parallel_workers: int) -> None:
    """Let the transaction run long statements, each with so many parallel workers."""
    await chain.prepare_for_ranges(tx)
    await tx.execute(f"""
    SET LOCAL statement_timeout = '{TIMEOUT_S}s'; SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL max_parallel_workers_per_gather = {parallel_workers}
    """)


async def overview(tx: database.Tx, *, secret: int, blocks: int) -> asyncpg.Record:
    """Read the totals of all tables, and where ranges of so many blocks end."""
    return await _row(tx, _OVERVIEW, secret, blocks)


async def check_range(tx: database.Tx, numbers: tuple[int, int, int, int], *, secret: int) -> asyncpg.Record:
    """Run the checks of ranges on one range; returns its sums and what is broken. Prepare the transaction before.

    `numbers` are the transfers and blocks to begin after and to end with.
    """
    return await _row(tx, _CHECK_RANGE, *numbers, secret)


async def broken_by(tx: database.Tx, check: str) -> tuple[int, str | None]:
    """Run one check; returns the number of broken rows and the first of them."""
    count, first = (await _row(tx, f"SELECT {_broken_by(check)}"))[0]
    return count, first


async def imbalances(tx: database.Tx) -> dict[str, int]:
    """Return the sum of all balances of each asset."""
    units: dict[str, int] = (await _row(tx, _IMBALANCES))["units"]
    return units


async def drifted(tx: database.Tx, *, after: int, limit: int, postings: int) -> Drifted:
    """Compare the next accounts with so many of their newest postings and with their open holds."""
    last, *ids = await _row(tx, _DRIFTED, after, limit, postings)
    return Drifted(last, *(each or () for each in ids))


async def _row(tx: database.Tx, statement: str, *values: int) -> asyncpg.Record:
    """Run a statement that returns one row and may take long."""
    row = await tx.fetchrow(statement, *values, timeout=TIMEOUT_S)
    assert row is not None  # they are lists of subselects and aggregates
    return row
