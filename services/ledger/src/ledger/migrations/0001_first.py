"""Accounts, transfers, postings and holds, and the triggers that protect them."""

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

-- `number` is the order of sealing; `reverses` is the transfer that this one reverses.
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
-- Numbers and ids grow with time and so do pages, so a block range index finds a transfer at next to no cost.
-- `summarize_ranges` keeps it up to date; with autosummarize the server would log a line for each range under load.
CREATE INDEX transfer_number ON transfer USING brin (number) WITH (pages_per_range = 32);
CREATE INDEX posting_transfer ON posting USING brin (transfer_id) WITH (pages_per_range = 16);

-- Every command and its answer, for ever: the same key again gets the same outcome.
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

-- What is held of one account; `shares` are the lots that it is allocated to, as [lot, amount].
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

-- The service's role lacks the privileges; the triggers below stop all other roles.
REVOKE UPDATE, DELETE, TRUNCATE ON transfer, posting, lot_use, request FROM {role};
REVOKE DELETE, TRUNCATE ON hold, hold_part, lot FROM {role};
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON account FROM {role};
GRANT INSERT (tenant, code, asset, kind, exponent, owner, overdraft_minor) ON account TO {role};
GRANT UPDATE (held_minor, overdraft_minor, state, version) ON account TO {role};
"""

RULES = """
-- The range index finds the few pages that hold the postings of a transfer; other plans are disabled, whatever the
-- planner believes about the table.
CREATE FUNCTION postings_of(of_transfer uuid) RETURNS SETOF posting LANGUAGE sql STABLE ROWS 4
  SET search_path FROM CURRENT SET enable_seqscan = off SET enable_indexscan = off AS $$
  SELECT * FROM posting WHERE transfer_id = of_transfer
$$;

-- Summarizes the pages that were filled since the last time; until then a search reads them. Writers do not wait.
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

-- Checked at commit, because a transaction may debit before it credits; queued only where a row violates it.
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

-- All legs of a transfer are inserted by one statement, so a statement must insert whole transfers. Its postings must
-- continue each account, which is then brought up to date: nothing else can write a balance.
--
-- Its cost depends on the inserted rows alone, however large the tables are and whatever the planner believed of them
-- when it cached the plan: accounts are probed by their key, and transfers, whose ids grow with time, by a key range.
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


def upgrade() -> None:
    migrate.execute(TABLES + RULES)


def downgrade() -> None:
    migrate.execute("""
    DROP FUNCTION summarize_ranges, postings_of;
    DROP TABLE lot_use, lot, hold_part, hold, request, posting, transfer, account;
    DROP FUNCTION append_only, balance_is_posted, account_not_overdrawn, posting_check;
    """)
