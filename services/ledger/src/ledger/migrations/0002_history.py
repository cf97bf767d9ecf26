"""Summaries and indexes for past balances and statements, so that the whole history need not be read."""

from chassis import migrate

revision = "0002"
down_revision = "0001"

HISTORY = """
-- A posting with the fields of its transfer. OFFSET 0 keeps each transfer a probe of its key, whatever the planner
-- believed when it cached a plan.
CREATE VIEW statement_line AS
SELECT account_id, sequence, transfer_id, kind, reference, reverses, occurred_at, recorded_at, amount_minor,
  balance_after_minor
FROM posting CROSS JOIN LATERAL (
  SELECT kind, reference, reverses, occurred_at FROM transfer WHERE id = transfer_id OFFSET 0
) AS transfer;

-- Summaries for balances of any time: level 1 sums chunks of 64 postings of one account in a row, each level above sums
-- 16 summaries of the one below. They are written behind the writers, those of one account far from each other, so the
-- key includes the columns that a search reads.
CREATE TABLE posting_summary (
  account_id bigint NOT NULL,
  level smallint NOT NULL CHECK (level BETWEEN 1 AND 10),
  place bigint NOT NULL CHECK (place >= 0),
  occurred_first timestamptz NOT NULL,
  occurred_last timestamptz NOT NULL,
  recorded_last timestamptz NOT NULL,
  amount_minor numeric NOT NULL,
  PRIMARY KEY (account_id, level, place) INCLUDE (occurred_first, occurred_last, amount_minor)
);
CREATE INDEX posting_summary_recorded ON posting_summary (account_id, recorded_last, place) WHERE level = 1;
CREATE TABLE posting_summary_mark (transfer_id uuid NOT NULL, account_id bigint NOT NULL);
INSERT INTO posting_summary_mark VALUES ('00000000-0000-0000-0000-000000000000', 0);
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON posting_summary, posting_summary_mark FROM {role};

-- Both indexes skip nearly all rows of the hot path: the first has one posting of 64, the second no payments, which are
-- found by their natural key.
CREATE INDEX posting_completes ON posting (transfer_id, account_id) WHERE sequence % 64 = 0;
CREATE INDEX transfer_reference ON transfer (tenant, reference) WHERE reference <> source_key;

-- The last posting, of those up to `highest`, that was recorded at or before a moment. No posting is recorded before an
-- earlier one of its account, so the summaries on both sides of the moment bound a binary search.
CREATE FUNCTION sequence_at(of_account bigint, highest bigint, moment timestamptz) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  lowest bigint := coalesce((
    SELECT place * 64 + 64 FROM posting_summary WHERE account_id = of_account AND level = 1 AND recorded_last <= moment
    ORDER BY recorded_last DESC, place DESC LIMIT 1
  ), 0);
  middle bigint;
BEGIN
  highest := least(highest, (
    SELECT place * 64 + 63 FROM posting_summary WHERE account_id = of_account AND level = 1 AND recorded_last > moment
    ORDER BY recorded_last, place LIMIT 1
  ));
  WHILE lowest < highest LOOP
    middle := lowest + (highest - lowest + 1) / 2;
    IF (SELECT recorded_at FROM posting WHERE account_id = of_account AND sequence = middle) <= moment THEN
      lowest := middle;
    ELSE
      highest := middle - 1;
    END IF;
  END LOOP;
  RETURN highest;
END $$;

-- The sum of the postings up to `through` that took effect at or before a moment. A summary counts whole or not at all
-- where the moment lies outside of it. Where the moment lies inside, or where no summary is written yet, the sixteen
-- summaries of the level below are read, or at last the postings.
CREATE FUNCTION effective_balance(of_account bigint, through bigint, moment timestamptz) RETURNS numeric
  LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
  RETURN (
    WITH RECURSIVE part AS (
      SELECT 10 AS level, 0::bigint AS place, NULL::numeric AS counted
      UNION ALL
      SELECT level - 1, below.* FROM part CROSS JOIN LATERAL (
        SELECT place, CASE WHEN occurred_last <= moment THEN amount_minor WHEN occurred_first > moment THEN 0 END
        FROM generate_series(part.place << 4, least((part.place << 4) + 15, (through - 1) >> (4 * level - 2))) AS place
        LEFT JOIN (
          SELECT place, occurred_first, occurred_last, amount_minor FROM posting_summary
          WHERE account_id = of_account AND level = part.level - 1 AND place < through >> (4 * part.level - 2)
            AND place BETWEEN part.place << 4 AND (part.place << 4) + 15 OFFSET 0
        ) AS summary USING (place)
      ) AS below
      WHERE counted IS NULL AND level > 1
    )
    SELECT coalesce(sum(coalesce(counted, (
      SELECT sum(amount_minor) FROM statement_line
      WHERE account_id = of_account AND occurred_at <= moment
        AND sequence BETWEEN place * 64 + 1 AND least(place * 64 + 64, through)
    ))), 0) FROM part WHERE counted IS NOT NULL OR level = 1
  );
END $$;

-- Summarizes complete chunks, the oldest first; returns the number of postings that complete one. An account is always
-- summarized from where it ended, so a chunk that a writer with a slow clock or a late commit left out is
-- summarized when the account completes its next one.
CREATE FUNCTION summarize_postings(postings_max integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
  SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  mark posting_summary_mark;
  due posting[];
  newest posting;
BEGIN
  -- One at a time; whoever comes second finds no mark and so nothing due.
  SELECT * INTO mark FROM posting_summary_mark FOR UPDATE SKIP LOCKED;
  due := ARRAY(
    SELECT posting FROM posting
    WHERE sequence % 64 = 0 AND (transfer_id, account_id) > (mark.transfer_id, mark.account_id)
    ORDER BY transfer_id, account_id LIMIT postings_max
  );
  FOR depth IN 1..10 LOOP
    INSERT INTO posting_summary (account_id, level, place, occurred_first, occurred_last, recorded_last, amount_minor)
    SELECT account_id, depth, next.place, sums.*
    FROM (SELECT account_id, max(sequence) / 64 AS stretches FROM unnest(due) GROUP BY account_id) AS grown
    CROSS JOIN LATERAL (
      SELECT coalesce(max(place) + 1, 0) AS begun FROM posting_summary
      WHERE posting_summary.account_id = grown.account_id AND level = depth
    ) AS written
    CROSS JOIN LATERAL (
      SELECT CASE depth WHEN 1 THEN stretches ELSE (max(place) + 1) / 16 END AS complete FROM posting_summary
      WHERE posting_summary.account_id = grown.account_id AND level = depth - 1
    ) AS below
    CROSS JOIN LATERAL (
      SELECT place FROM generate_series(begun, complete - 1) AS place LIMIT postings_max
    ) AS next
    CROSS JOIN LATERAL (
      SELECT min(occurred_first), max(occurred_last), max(recorded_last), sum(amount_minor) FROM (
        SELECT occurred_at AS occurred_first, occurred_at AS occurred_last, recorded_at AS recorded_last, amount_minor
        FROM statement_line
        WHERE depth = 1 AND account_id = grown.account_id
          AND sequence BETWEEN next.place * 64 + 1 AND next.place * 64 + 64
        UNION ALL
        SELECT occurred_first, occurred_last, recorded_last, amount_minor FROM posting_summary
        WHERE account_id = grown.account_id AND level = depth - 1
          AND place BETWEEN next.place * 16 AND next.place * 16 + 15
      ) AS part
    ) AS sums;
    EXIT WHEN NOT FOUND;
  END LOOP;
  newest := due[cardinality(due)];
  UPDATE posting_summary_mark SET transfer_id = newest.transfer_id, account_id = newest.account_id
  WHERE cardinality(due) > 0;
  RETURN cardinality(due);
END $$;
"""


def upgrade() -> None:
    migrate.execute(HISTORY)


def downgrade() -> None:
    migrate.execute("""
    DROP FUNCTION sequence_at, effective_balance, summarize_postings;
    DROP VIEW statement_line;
    DROP TABLE posting_summary, posting_summary_mark;
    DROP INDEX posting_completes, transfer_reference;
    """)
