"""Accounts, transfers, postings and holds, with what the database itself refuses, and the message door's tables."""

from chassis import migrate

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE account (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  code text COLLATE "C" NOT NULL,
  asset text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 18),
  owner uuid,
  overdraft_minor bigint NOT NULL CHECK (overdraft_minor >= 0),
  balance_minor bigint NOT NULL DEFAULT 0,
  held_minor bigint NOT NULL DEFAULT 0 CHECK (held_minor >= 0),
  sequence bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
  version bigint NOT NULL DEFAULT 0 CHECK (version >= sequence),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'frozen', 'closed')),
  opened_at timestamptz NOT NULL DEFAULT now(),
  moved_at timestamptz NOT NULL DEFAULT 'epoch',
  CONSTRAINT account_name UNIQUE (tenant, code, asset),
  CHECK (state <> 'closed' OR (balance_minor = 0 AND held_minor = 0))
) WITH (
  -- Half of each page stays free, so that a hot account's new versions need no index entry.
  fillfactor = 50
);

-- `number` is the order of sealing; `reverses` the transfer that this one undoes.
CREATE TABLE transfer (
  id uuid PRIMARY KEY,
  number bigint GENERATED ALWAYS AS IDENTITY,
  tenant text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  source_key text COLLATE "C" NOT NULL,
  reference text COLLATE "C" NOT NULL,
  occurred_at timestamptz NOT NULL,
  event_id uuid NOT NULL,
  reverses uuid,
  CONSTRAINT transfer_happens_once UNIQUE (tenant, kind, source_key)
);
CREATE INDEX transfer_reverses ON transfer (reverses) WHERE reverses IS NOT NULL;

-- No foreign keys: they check row by row and would halve the posting rate. `posting_check` checks whole statements,
-- and neither transfers nor postings can be deleted.
CREATE TABLE posting (
  account_id bigint NOT NULL,
  sequence bigint NOT NULL,
  transfer_id uuid NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  balance_after_minor bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, sequence)
);
-- Numbers and ids grow with time and so do pages: a range index says where a transfer is for next to nothing.
-- `summarize_ranges` keeps it; asked to do that by itself, the server would log a line for each range under load.
CREATE INDEX transfer_number ON transfer USING brin (number) WITH (pages_per_range = 32);
CREATE INDEX posting_transfer ON posting USING brin (transfer_id) WITH (pages_per_range = 16);

-- What was asked and answered, for ever: the same key again gets the same outcome.
CREATE TABLE request (
  tenant text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  type text NOT NULL,
  body jsonb NOT NULL,
  answer_type text NOT NULL,
  answer jsonb NOT NULL,
  settled_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, key)
);

CREATE TABLE hold (
  tenant text COLLATE "C" NOT NULL,
  id uuid NOT NULL,
  owner uuid NOT NULL,
  reference text COLLATE "C" NOT NULL,
  expires_at timestamptz NOT NULL,
  captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor >= 0),
  state text NOT NULL CHECK (state IN ('placed', 'captured', 'released', 'expired', 'refused')),
  ending_type text,
  ending jsonb,
  PRIMARY KEY (tenant, id),
  CHECK ((ending IS NULL) = (state = 'placed')),
  CHECK ((ending IS NULL) = (ending_type IS NULL))
);
CREATE INDEX hold_due ON hold (expires_at) WHERE state = 'placed';

-- What is held of one account; `shares` are the lots that it is held on, as [lot, amount].
CREATE TABLE hold_part (
  tenant text COLLATE "C" NOT NULL,
  hold_id uuid NOT NULL,
  place smallint NOT NULL,
  code text COLLATE "C" NOT NULL,
  asset text COLLATE "C" NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  left_minor bigint NOT NULL CHECK (left_minor BETWEEN 0 AND amount_minor),
  shares jsonb NOT NULL,
  PRIMARY KEY (tenant, hold_id, place),
  FOREIGN KEY (tenant, hold_id) REFERENCES hold
);
CREATE INDEX hold_part_open ON hold_part (tenant, code, asset) WHERE left_minor > 0;

CREATE TABLE lot (
  id uuid PRIMARY KEY,
  account_id bigint NOT NULL REFERENCES account,
  expires_at timestamptz,
  left_minor bigint NOT NULL,
  held_minor bigint NOT NULL CHECK (held_minor >= 0),
  CHECK (left_minor >= held_minor)
);
CREATE INDEX lot_open ON lot (account_id) WHERE left_minor > 0;
CREATE INDEX lot_due ON lot (expires_at) WHERE left_minor > held_minor;

CREATE TABLE lot_use (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  transfer_id uuid NOT NULL,
  lot_id uuid NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0)
);
CREATE INDEX lot_use_transfer ON lot_use (transfer_id);
CREATE INDEX lot_use_lot ON lot_use (lot_id);

-- What a role may not do needs no trigger to fail; the triggers below stop everybody else.
REVOKE UPDATE, DELETE, TRUNCATE ON transfer, posting, lot_use, request FROM {role};
REVOKE DELETE, TRUNCATE ON hold, hold_part, lot FROM {role};
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON account FROM {role};
GRANT INSERT (tenant, code, asset, kind, exponent, owner, overdraft_minor) ON account TO {role};
GRANT UPDATE (held_minor, overdraft_minor, state, version) ON account TO {role};
"""

RULES = """
-- Says what is in the pages that were filled since the last time; until then a search reads them. Writers do not wait.
CREATE FUNCTION summarize_ranges() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  SELECT brin_summarize_new_values('transfer_number') + brin_summarize_new_values('posting_transfer')
$$;

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: a correction is a new transfer', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER posting_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posting
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE FUNCTION balance_is_posted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a balance follows from postings and is not written' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER account_opens_empty BEFORE INSERT ON account
  FOR EACH ROW WHEN (NEW.balance_minor <> 0 OR NEW.sequence <> 0) EXECUTE FUNCTION balance_is_posted();
CREATE TRIGGER account_balance_is_posted BEFORE UPDATE OF balance_minor, sequence, moved_at ON account
  FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION balance_is_posted();

-- Asked at the commit, because a transaction may first take and then give; queued only where a row breaks it.
CREATE FUNCTION account_not_overdrawn() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  IF EXISTS (SELECT FROM account WHERE id = NEW.id AND balance_minor < held_minor - overdraft_minor) THEN
    RAISE EXCEPTION 'account % is overdrawn beyond its limit', NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'account_not_overdrawn';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER account_not_overdrawn AFTER INSERT OR UPDATE ON account DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.balance_minor < NEW.held_minor - NEW.overdraft_minor)
  EXECUTE FUNCTION account_not_overdrawn();

-- All legs of a transfer come in one statement, so the statement is where a transfer must be whole. What it brings must
-- continue each account, which is then brought up to date: nobody else can write a balance.
--
-- It costs what the statement brings, however large the tables are and whatever the planner believed about them when
-- it cached the plan: accounts are probed by their key; the transfers, whose ids grow with time, are a stretch of it.
CREATE FUNCTION posting_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  lowest uuid := (SELECT transfer_id FROM added ORDER BY transfer_id LIMIT 1);
  highest uuid := (SELECT transfer_id FROM added ORDER BY transfer_id DESC LIMIT 1);
  broken text;
BEGIN
  WITH run AS (
    SELECT account_id, count(*) AS postings, min(sequence - place) AS begun, max(sequence - place) AS ended,
      min(before) AS first, max(before) AS last, min(before) + sum(amount_minor) AS balance_minor,
      min(recorded_at) AS recorded_first, max(recorded_at) AS recorded_last
    FROM (
      SELECT account_id, sequence, amount_minor, recorded_at, row_number() OVER by_account AS place,
        balance_after_minor - sum(amount_minor) OVER by_account AS before
      FROM added WINDOW by_account AS (PARTITION BY account_id ORDER BY sequence ROWS UNBOUNDED PRECEDING)
    ) AS placed
    GROUP BY account_id
  ), continued AS (
    UPDATE account SET balance_minor = run.balance_minor, sequence = account.sequence + postings,
      version = version + postings, moved_at = recorded_last
    FROM run
    WHERE id = account_id AND sequence = begun AND sequence = ended AND account.balance_minor = first
      AND account.balance_minor = last AND moved_at <= recorded_first
    RETURNING account_id, asset
  ), whole AS (
    SELECT transfer_id, asset, sum(amount_minor) AS difference, min(account_id) AS account_id
    FROM added LEFT JOIN continued USING (account_id) GROUP BY transfer_id, asset
  ), known AS (
    SELECT id FROM transfer WHERE id BETWEEN lowest AND highest
  )
  SELECT min(CASE
    WHEN asset IS NULL THEN format('posting of account %s does not continue it', account_id)
    WHEN id IS NULL THEN format('transfer %s is unknown', transfer_id)
    ELSE format('transfer %s does not sum to zero: %s %s', transfer_id, difference, asset)
  END) INTO broken
  FROM whole LEFT JOIN known ON id = transfer_id
  WHERE asset IS NULL OR id IS NULL OR difference <> 0;
  IF broken IS NOT NULL THEN
    RAISE EXCEPTION '%', broken USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER posting_check AFTER INSERT ON posting REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION posting_check();
"""

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

SEAL = """
-- Transfers in the order of their numbers, each block bound to the one before; `leaves` has 32 bytes for each transfer.
CREATE TABLE block (
  number bigint PRIMARY KEY CHECK (number > 0),
  first_number bigint NOT NULL CHECK (first_number > 0),
  last_number bigint NOT NULL CHECK (last_number >= first_number),
  transfers integer NOT NULL CHECK (transfers BETWEEN 1 AND 1024),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  previous bytea NOT NULL CHECK (octet_length(previous) = 32),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  sealed_at timestamptz NOT NULL,
  leaves bytea NOT NULL CHECK (octet_length(leaves) = 32 * transfers)
);
CREATE UNIQUE INDEX block_last ON block (last_number);
ALTER TABLE block ALTER COLUMN leaves SET STORAGE EXTERNAL; -- hashes can't be compressed
REVOKE UPDATE, DELETE, TRUNCATE ON block FROM {role};
CREATE TRIGGER block_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON block
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE FUNCTION block_continues() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  before block;
BEGIN
  SELECT * INTO before FROM block ORDER BY number DESC LIMIT 1;
  IF NEW.number <> coalesce(before.number, 0) + 1 OR NEW.first_number <= coalesce(before.last_number, 0)
    OR NEW.previous <> coalesce(before.hash, decode(repeat('00', 32), 'hex'))
  THEN
    RAISE EXCEPTION 'block % does not continue the chain', NEW.number USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER block_continues BEFORE INSERT ON block FOR EACH ROW EXECUTE FUNCTION block_continues();
"""


def upgrade() -> None:
    migrate.execute(migrate.MESSAGING + TABLES + RULES + HISTORY + SEAL)


def downgrade() -> None:
    migrate.execute("""
    DROP FUNCTION sequence_at, effective_balance, summarize_postings, postings_of;
    DROP TABLE posting_summary, posting_summary_mark;
    DROP TABLE block;
    DROP TABLE lot_use, lot, hold_part, hold, request, posting, transfer, account;
    DROP TABLE outbox, outbox_slot, outbox_dead, inbox, dead_letter;
    DROP FUNCTION append_only, balance_is_posted, account_not_overdrawn, posting_check, inbox_maintain, inbox_bound;
    DROP FUNCTION summarize_ranges, block_continues;
    """)
