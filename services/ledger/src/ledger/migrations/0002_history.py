"""What lets balances of any time, and the lines of one payment, be read without the whole history."""

from chassis import migrate

revision = "0002"
down_revision = "0001"

HISTORY = """
-- What lets a balance of any time be read without the history: 64 postings of one account in a row, summed up, and 16
-- such summaries again, and so on. They follow from the postings and are written behind the writers.
CREATE TABLE posting_summary (
  account_id bigint NOT NULL,
  level smallint NOT NULL CHECK (level BETWEEN 1 AND 10),
  place bigint NOT NULL CHECK (place >= 0),
  occurred_first timestamptz NOT NULL,
  occurred_last timestamptz NOT NULL,
  recorded_last timestamptz NOT NULL,
  amount_minor numeric NOT NULL,
  PRIMARY KEY (account_id, level, place)
);
CREATE INDEX posting_summary_recorded ON posting_summary (account_id, recorded_last, place) WHERE level = 1;
CREATE TABLE posting_summary_mark (transfer_id uuid NOT NULL, account_id bigint NOT NULL);
INSERT INTO posting_summary_mark VALUES ('00000000-0000-0000-0000-000000000000', 0);
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON posting_summary, posting_summary_mark FROM {role};

-- Both indexes leave nearly all rows of the hot path out: the first has one posting of 64, the second no payment, which
-- is found by its natural key.
CREATE INDEX posting_completes ON posting (transfer_id, account_id) WHERE sequence % 64 = 0;
CREATE INDEX transfer_reference ON transfer (tenant, reference) WHERE reference <> source_key;

-- The last posting, of those after `lowest` and up to `highest`, that was recorded at or before a moment. No posting is
-- recorded before an earlier one of its account, so the summaries lead to its stretch, and halving finds it there.
CREATE FUNCTION sequence_at(of_account bigint, lowest bigint, highest bigint, moment timestamptz) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  stretch bigint := (
    SELECT place FROM posting_summary WHERE account_id = of_account AND level = 1 AND recorded_last > moment
    ORDER BY recorded_last, place LIMIT 1
  );
  middle bigint;
BEGIN
  IF stretch IS NOT NULL THEN
    highest := least(highest, greatest(lowest, stretch * 64 + 63));
  ELSE
    stretch := (
      SELECT place + 1 FROM posting_summary WHERE account_id = of_account AND level = 1 ORDER BY place DESC LIMIT 1
    );
  END IF;
  lowest := least(highest, greatest(lowest, stretch * 64));
  WHILE lowest < highest LOOP
    middle := lowest + (highest - lowest + 1) / 2;
    IF (SELECT recorded_at FROM posting WHERE account_id = of_account AND sequence = middle) <= moment THEN
      lowest := middle;
    ELSE
      highest := middle - 1;
    END IF;
  END LOOP;
  RETURN lowest;
END $$;

-- The range index finds the few pages that hold the postings of a transfer; no other way is open, whatever the planner
-- believes about the table.
CREATE FUNCTION postings_of(of_transfer uuid) RETURNS SETOF posting LANGUAGE sql STABLE
  SET search_path FROM CURRENT SET enable_seqscan = off SET enable_indexscan = off AS $$
  SELECT * FROM posting WHERE transfer_id = of_transfer
$$;

-- The sum of the postings up to `through` that took effect at or before a moment. Of the summaries only those are
-- opened that the moment lies in the middle of; what is not summed up yet is read.
CREATE FUNCTION effective_balance(of_account bigint, through bigint, moment timestamptz) RETURNS numeric
  LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  known bigint := (
    SELECT place + 1 FROM posting_summary WHERE account_id = of_account AND level = 1 ORDER BY place DESC LIMIT 1
  );
BEGIN
  known := least(through / 64, coalesce(known, 0));
  RETURN (
    WITH RECURSIVE summary AS (
      SELECT root.* FROM generate_series(1, 10) AS depth CROSS JOIN LATERAL (
        SELECT level, place, occurred_first, occurred_last, amount_minor FROM posting_summary
        WHERE account_id = of_account AND level = depth
          AND place >= (known >> (4 * depth)) << 4 AND place < known >> (4 * depth - 4) OFFSET 0
      ) AS root
      UNION ALL
      SELECT part.* FROM summary CROSS JOIN LATERAL (
        SELECT level, place, occurred_first, occurred_last, amount_minor FROM posting_summary
        WHERE account_id = of_account AND level = summary.level - 1
          AND place BETWEEN summary.place << 4 AND (summary.place << 4) + 15 OFFSET 0
      ) AS part
      WHERE summary.level > 1 AND summary.occurred_first <= moment AND summary.occurred_last > moment
    ), undecided AS (
      SELECT place * 64 + 1 AS first, place * 64 + 64 AS last FROM summary
      WHERE level = 1 AND occurred_first <= moment AND occurred_last > moment
      UNION ALL
      SELECT known * 64 + 1, through
    )
    SELECT coalesce((SELECT sum(amount_minor) FROM summary WHERE occurred_last <= moment), 0) + coalesce((
      SELECT sum(amount_minor) FROM undecided CROSS JOIN LATERAL (
        SELECT transfer_id, amount_minor FROM posting
        WHERE account_id = of_account AND sequence BETWEEN first AND last OFFSET 0
      ) AS moved CROSS JOIN LATERAL (
        SELECT occurred_at FROM transfer WHERE id = transfer_id OFFSET 0
      ) AS effect
      WHERE occurred_at <= moment
    ), 0)
  );
END $$;

-- Sums up postings that complete a stretch of 64, the oldest first; gives how many of them it took on. An account is
-- always summed up from where it ended, so what a writer with a slow clock or a late commit left out is made up for
-- when the account completes its next stretch.
CREATE FUNCTION summarize_postings(postings_max integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
  SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  mark posting_summary_mark;
  due posting_summary_mark[];
  sequences bigint[];
  accounts bigint[];
  places bigint[];
  depth integer := 1;
BEGIN
  -- One at a time; whoever comes second leaves it to the first.
  SELECT * INTO mark FROM posting_summary_mark FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  SELECT array_agg((transfer_id, account_id)::posting_summary_mark ORDER BY transfer_id, account_id),
    array_agg(sequence ORDER BY transfer_id, account_id)
  INTO due, sequences FROM (
    SELECT transfer_id, account_id, sequence FROM posting
    WHERE sequence % 64 = 0 AND (transfer_id, account_id) > (mark.transfer_id, mark.account_id)
    ORDER BY transfer_id, account_id LIMIT postings_max
  ) AS completing;
  IF due IS NULL THEN
    RETURN 0;
  END IF;
  WITH written AS (
    INSERT INTO posting_summary
      (account_id, level, place, occurred_first, occurred_last, recorded_last, amount_minor)
    SELECT account_id, 1, place, sums.*
    FROM (
      SELECT account_id, max(sequence) / 64 AS complete
      FROM unnest(due, sequences) AS completing(transfer_id, account_id, sequence) GROUP BY account_id
    ) AS wanted CROSS JOIN LATERAL (
      SELECT coalesce(max(place) + 1, 0) AS begun FROM posting_summary
      WHERE posting_summary.account_id = wanted.account_id AND level = 1
    ) AS ended CROSS JOIN LATERAL generate_series(begun, least(complete, begun + postings_max) - 1) AS place
    CROSS JOIN LATERAL (
      SELECT min(occurred_at), max(occurred_at), max(recorded_at), sum(amount_minor) FROM (
        SELECT transfer_id, recorded_at, amount_minor FROM posting
        WHERE posting.account_id = wanted.account_id AND sequence BETWEEN place * 64 + 1 AND place * 64 + 64 OFFSET 0
      ) AS moved CROSS JOIN LATERAL (
        SELECT occurred_at FROM transfer WHERE id = transfer_id OFFSET 0
      ) AS effect
    ) AS sums
    RETURNING account_id, place
  )
  SELECT array_agg(account_id), array_agg(place) INTO accounts, places FROM written;
  WHILE accounts IS NOT NULL AND depth < 10 LOOP
    depth := depth + 1;
    WITH written AS (
      INSERT INTO posting_summary
      (account_id, level, place, occurred_first, occurred_last, recorded_last, amount_minor)
      SELECT last.account_id, depth, last.place >> 4, sums.*
      FROM unnest(accounts, places) AS last(account_id, place) CROSS JOIN LATERAL (
        SELECT min(occurred_first), max(occurred_last), max(recorded_last), sum(amount_minor)
        FROM posting_summary AS part
        WHERE part.account_id = last.account_id AND level = depth - 1
          AND part.place BETWEEN last.place - 15 AND last.place
      ) AS sums
      WHERE last.place % 16 = 15
      RETURNING account_id, place
    )
    SELECT array_agg(account_id), array_agg(place) INTO accounts, places FROM written;
  END LOOP;
  mark := due[cardinality(due)];
  UPDATE posting_summary_mark SET transfer_id = mark.transfer_id, account_id = mark.account_id;
  RETURN cardinality(due);
END $$;
"""


def upgrade() -> None:
    migrate.execute(HISTORY)


def downgrade() -> None:
    migrate.execute("""
    DROP FUNCTION sequence_at, effective_balance, summarize_postings, postings_of;
    DROP TABLE posting_summary, posting_summary_mark;
    DROP INDEX posting_completes, transfer_reference;
    """)
