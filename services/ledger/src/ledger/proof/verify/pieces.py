"""The history in pieces: stretches of transfers in the order of their numbers, each read once with its postings.

One statement looks at everything that a stretch can tell by itself. What binds the stretches together is the order of
numbers, the chain of blocks, and a sum. Every posting leads from a state of its account (account, sequence, balance) to
the next; each state is hashed with a secret of this run. All states arrived at, less all states left, must be where the
accounts stand now, less where they began: then the postings of each account are one path without a gap, and no two
postings need to be compared. That takes one pass in any order and no memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from ledger.proof import domain as seal
from ledger.proof import store

BLOCKS = 16
TRANSFERS = BLOCKS * seal.BLOCK_MAX
BEGINNING, END = -(2**62), 2**62  # a number that was edited must lie in a piece too
TIMEOUT_S = 30 * 60  # the whole history is read; where that takes longer, prove a copy of the database

BALANCED = "the postings of each transfer sum to zero per asset"
BELONGING = "each posting is on an account of its transfer's tenant"
FORWARD = "no posting is recorded before the one before it"
ANSWERED = "each capture and each reversal is what was answered"
CONTINUED = "each block continues the chain"
AS_SEALED = "each transfer is as it was sealed"
CHECKS = (BALANCED, BELONGING, FORWARD, ANSWERED, CONTINUED, AS_SEALED)

# Where a block ends after each piece, and the newest number.
_CUTS = """
SELECT number, last_number FROM (
  SELECT number, last_number, row_number() OVER by_number AS place, count(*) OVER () AS blocks
  FROM block WINDOW by_number AS (ORDER BY number)
) AS placed WHERE place % $1 = 0 OR place = blocks ORDER BY number
"""
_NEWEST = "SELECT pg_sequence_last_value(to_regclass('transfer_number_seq'))"
_OVERVIEW = """
SELECT width_bucket(number - 1, $1::bigint[]) AS piece, kind, count(*) AS transfers
FROM transfer GROUP BY 1, 2 ORDER BY 1, 2
"""
# A posting follows the one before it in the same piece. What came before the piece is looked up as long as nothing is
# sealed: then the chain has every time as it was, and the database took none that was too early.
_PIECE = f"""
WITH {store.STRETCH}, ordered AS (
  SELECT account_id, sequence, recorded_at, lag(sequence) OVER along AS sequence_before,
    lag(recorded_at) OVER along AS recorded_before
  FROM m WINDOW along AS (PARTITION BY account_id ORDER BY sequence)
), backward AS (
  SELECT format('account %s, sequence %s', account_id, sequence) AS found FROM ordered
  WHERE CASE
    WHEN sequence_before = sequence - 1 THEN recorded_before > recorded_at
    WHEN sequence > 1 AND NOT $3 THEN (
      SELECT posting.recorded_at > ordered.recorded_at FROM posting
      WHERE posting.account_id = ordered.account_id AND posting.sequence = ordered.sequence - 1
    )
    ELSE false
  END
  UNION ALL
  SELECT format('transfer number %s is recorded at two times', number)
  FROM whole WHERE recorded_at <> recorded_last
  ORDER BY found
), suspect AS (
  SELECT number, p.asset, sum(amount_minor) AS left_over FROM whole JOIN p USING (number)
  WHERE left_over <> 0 OR whole.asset <> other_asset
  GROUP BY number, p.asset HAVING sum(amount_minor) <> 0
), unbalanced AS (
  SELECT format('transfer %s (number %s): %s %s left over', id, number, left_over, asset) AS found
  FROM suspect JOIN t USING (number)
  UNION ALL
  SELECT format('transfer %s (number %s): no postings', id, number)
  FROM t WHERE NOT EXISTS (SELECT FROM whole WHERE whole.number = t.number)
), stray AS (
  SELECT format('account %s, sequence %s, transfer number %s', account_id, sequence, number) AS found
  FROM p WHERE owned_by IS DISTINCT FROM tenant ORDER BY number, account_id
), captured AS (
  SELECT id, number, answer, coalesce(credited, 0) AS credited
  FROM t LEFT JOIN request
    ON request.tenant = t.tenant AND key = 'capture:' || substr(source_key, 6)
    AND answer_type = 'ledger.hold.captured.v1'
  LEFT JOIN (
    SELECT number, sum(greatest(amount_minor, 0)) AS credited FROM m WHERE number IN (
      SELECT number FROM t WHERE kind = 'capture'
    ) GROUP BY number
  ) AS posted USING (number)
  WHERE kind = 'capture'
), misanswered AS (
  SELECT format('capture %s (number %s): posted %s, answered %s', id, number, credited,
    coalesce(answer -> 'amount' ->> 'amount_minor', 'nothing')) AS found
  FROM captured
  WHERE answer ->> 'transfer_id' IS DISTINCT FROM id::text
    OR answer -> 'amount' ->> 'amount_minor' IS DISTINCT FROM credited::text
  UNION ALL
  SELECT format('reversal %s (number %s): no such answer', id, number)
  FROM t LEFT JOIN request ON request.tenant = t.tenant AND key = source_key
  WHERE t.kind = 'reversal' AND (answer -> 'transfer_ids' ? id::text) IS NOT TRUE
)
SELECT
  (SELECT count(*) FROM t) AS transfers,
  (SELECT count(*) FROM m) AS postings,
  (SELECT count(*) FROM captured WHERE answer IS NOT NULL) AS captures,
  (SELECT string_agg({store.LEAF}, ''::bytea ORDER BY number) FROM t LEFT JOIN whole USING (number)) AS leaves,
  (SELECT json_agg(sums) FROM (
    SELECT asset, count(*) AS postings, sum(greatest(amount_minor, 0))::text AS credited,
      sum(least(amount_minor, 0))::text AS debited
    FROM p GROUP BY asset
  ) AS sums) AS figures,
  CASE WHEN $5 THEN (SELECT (
    sum(hashint8extended(balance_after_minor, hashint8extended(sequence, hashint8extended(account_id, $4))))
    - sum(hashint8extended(balance_after_minor - amount_minor, hashint8extended(sequence - 1,
      hashint8extended(account_id, $4))))
  )::text FROM m) END AS links,
  (SELECT (count(*), (array_agg(found))[1]) FROM unbalanced) AS unbalanced,
  (SELECT (count(*), (array_agg(found))[1]) FROM stray) AS stray,
  (SELECT (count(*), (array_agg(found))[1]) FROM backward) AS backward,
  (SELECT (count(*), (array_agg(found))[1]) FROM misanswered) AS misanswered
"""
_MEMBERS = f"""
WITH {store.STRETCH}, touched AS (
  SELECT number, string_agg(format('account %s sequence %s', account_id, sequence), ', ' ORDER BY account_id) AS places
  FROM m GROUP BY number
)
SELECT number, {store.LEAF} AS hash, id, places
FROM t LEFT JOIN whole USING (number) LEFT JOIN touched USING (number) ORDER BY number
"""


class Piece(NamedTuple):
    """Transfers above one number up to another; the blocks among them, when they are sealed."""

    after: int
    upto: int
    after_block: int
    upto_block: int

    @property
    def is_sealed(self) -> bool:
        """Tell whether there are blocks."""
        return self.after_block < self.upto_block


class Member(NamedTuple):
    """One transfer of a block, as its rows give it now."""

    number: int
    hash: bytes
    name: str


@dataclass(slots=True)
class Broken:
    """How many rows a check found, and the first of them; pieces end in any order, so each says where it lies."""

    count: int = 0
    first: str | None = None
    place: int | None = None

    def add(self, count: int, first: str | None, *, place: int) -> None:
        """Take in what was found at one place."""
        self.count += count
        if count and (self.place is None or place < self.place):
            self.first, self.place = first, place


@dataclass(slots=True)
class Totals:
    """What the pieces come to so far. `links` is None when a posting is out of any range."""

    transfers: int = 0
    postings: int = 0
    captures: int = 0
    links: int | None = 0
    broken: dict[str, Broken] = field(default_factory=lambda: {check: Broken() for check in CHECKS})
    figures: dict[str, list[int]] = field(default_factory=dict)

    def add(self, row: asyncpg.Record, *, place: int) -> None:
        """Take in what one piece came to."""
        self.transfers += row["transfers"]
        self.postings += row["postings"]
        self.captures += row["captures"]
        for name, check in zip(("unbalanced", "stray", "backward", "misanswered"), CHECKS, strict=False):
            self.broken[check].add(*row[name], place=place)
        for sums in row["figures"] or ():
            figures = self.figures.setdefault(sums["asset"] or "", [0, 0, 0])
            for column, name in enumerate(("postings", "credited", "debited")):
                figures[column] += int(sums[name])


@dataclass(frozen=True, slots=True)
class Plan:
    """All pieces, how many blocks and transfers they hold, and the transfers by kind."""

    pieces: Sequence[Piece]
    blocks: int
    unsealed: int
    transfers: dict[str, int]


async def plan(connection: asyncpg.Connection) -> Plan:
    """Cut the history where blocks end, and what is not sealed yet into stretches as long."""
    await connection.execute("SET LOCAL max_parallel_workers_per_gather = 2")  # nobody else reads yet
    cuts = [tuple(row) for row in await connection.fetch(_CUTS, BLOCKS, timeout=TIMEOUT_S)]
    newest: int = await connection.fetchval(_NEWEST) or 0
    ends, last_number, last_block = [], 0, 0
    for block, number in cuts:  # an edited block may end anywhere; the pieces must still have all transfers once
        last_number, last_block = max(last_number, number), block
        ends.append((last_number, last_block))
    ends += [(at, last_block) for at in range(last_number + TRANSFERS, newest, TRANSFERS)]
    ends.append((END, last_block))
    begins = [(BEGINNING, 0), *ends[:-1]]
    kinds: dict[str, int] = {}
    counts = [0] * len(ends)
    for piece, kind, count in await connection.fetch(_OVERVIEW, [number for number, _ in begins], timeout=TIMEOUT_S):
        kinds[kind] = kinds.get(kind, 0) + count
        counts[piece - 1] += count
    pieces = [
        Piece(after, upto, after_block, upto_block)
        for (after, after_block), (upto, upto_block) in zip(begins, ends, strict=True)
    ]
    unsealed = sum(count for piece, count in zip(pieces, counts, strict=True) if not piece.is_sealed)
    return Plan(pieces, last_block, unsealed, dict(sorted(kinds.items())))


async def examine(connection: asyncpg.Connection, piece: Piece, totals: Totals, *, secret: int) -> None:
    """Run every check on one piece, and add what it comes to."""
    arguments = (piece.after, piece.upto, piece.is_sealed, secret)
    try:
        async with connection.transaction():
            row = await connection.fetchrow(_PIECE, *arguments, True, timeout=TIMEOUT_S)
    except asyncpg.NumericValueOutOfRangeError:
        row = await connection.fetchrow(_PIECE, *arguments, False, timeout=TIMEOUT_S)
        totals.links = None
    assert row is not None  # a list of subselects always gives a row
    totals.add(row, place=piece.after)
    if totals.links is not None and row["links"] is not None:
        totals.links += int(row["links"])
    if piece.is_sealed:
        await _examine_blocks(connection, piece, row["leaves"] or b"", totals.broken)


async def _examine_blocks(
    connection: asyncpg.Connection, piece: Piece, leaves: bytes, broken: dict[str, Broken]
) -> None:
    before, *blocks = await _blocks(connection, piece)
    kept = b"".join(each.leaves for each in blocks)
    is_as_sealed = kept == leaves
    members = [] if is_as_sealed else await _members(connection, piece)
    for each in blocks:
        place = each.block.number
        if found := seal.fault(each, after=before):
            broken[CONTINUED].add(1, f"block {place}: {found}", place=place)
        if not is_as_sealed:
            after = before.block.last_number if before else piece.after
            inside = [member for member in members if after < member.number <= each.block.last_number]
            changed = differences(each, inside)
            broken[AS_SEALED].add(len(changed), next(iter(changed), None), place=place)
        before = each


async def _blocks(connection: asyncpg.Connection, piece: Piece) -> list[Any]:
    """Give the block before a piece, None for the first piece, and then the blocks of the piece."""
    first = max(piece.after_block - 1, 0)
    found = await store.blocks(connection, after=first, limit=BLOCKS + 1)
    before = next((each for each in found if each.block.number == piece.after_block), None)
    return [before, *(each for each in found if piece.after_block < each.block.number <= piece.upto_block)]


async def _members(connection: asyncpg.Connection, piece: Piece) -> list[Member]:
    rows = await connection.fetch(_MEMBERS, piece.after, piece.upto, timeout=TIMEOUT_S)
    return [
        Member(number, hash_, f"transfer {transfer_id} (number {number}; {places or 'no postings'})")
        for number, hash_, transfer_id, places in rows
    ]


def differences(sealed: seal.Sealed, members: Sequence[Member]) -> list[str]:
    """Tell how the transfers of a block differ from what was sealed, in their order; nothing when they do not."""
    kept, block = seal.split(sealed.leaves), sealed.block.number
    known, there = set(kept), {member.hash for member in members}
    strangers = [member for member in members if member.hash not in known]
    gone = len(known - there) - len(strangers)
    if gone < 0:
        return [f"block {block}: {member.name} was not sealed, or not so" for member in strangers]
    found = [f"block {block}: {member.name} is not as it was sealed" for member in strangers]
    if gone:
        place = next(at for at, leaf in enumerate(kept) if leaf not in there)
        where = f"after number {members[place - 1].number}" if 0 < place <= len(members) else "at the beginning"
        found.insert(0, f"block {block}: {gone} transfers are gone, the first {where}")
    return found
