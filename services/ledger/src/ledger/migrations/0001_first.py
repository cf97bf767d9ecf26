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
  owner uuid,
  overdraft_minor bigint NOT NULL CHECK (overdraft_minor >= 0),
  balance_minor bigint NOT NULL DEFAULT 0,
  held_minor bigint NOT NULL DEFAULT 0 CHECK (held_minor >= 0),
  sequence bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
  version bigint NOT NULL DEFAULT 0 CHECK (version >= sequence),
  opened_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT account_name UNIQUE (tenant, code, asset),
  CONSTRAINT account_not_overdrawn CHECK (balance_minor - held_minor >= -overdraft_minor)
) WITH (
  -- Half of each page stays free, so that a hot account's new versions need no index entry.
  fillfactor = 50
);

CREATE TABLE transfer (
  id uuid PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL CHECK (kind IN ('top_up', 'capture')),
  source_key text COLLATE "C" NOT NULL,
  reference text COLLATE "C" NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  event_id uuid NOT NULL,
  CONSTRAINT transfer_happens_once UNIQUE (tenant, kind, source_key)
);

-- No foreign keys: they check row by row and would halve the posting rate. `posting_check` checks whole statements,
-- and neither transfers nor postings can be deleted.
CREATE TABLE posting (
  account_id bigint NOT NULL,
  sequence bigint NOT NULL,
  transfer_id uuid NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  balance_after_minor bigint NOT NULL,
  PRIMARY KEY (account_id, sequence)
);

CREATE TABLE hold (
  tenant text COLLATE "C" NOT NULL,
  id uuid NOT NULL,
  owner uuid NOT NULL,
  asset text COLLATE "C" NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  reference text COLLATE "C" NOT NULL,
  expires_at timestamptz NOT NULL,
  state text NOT NULL CHECK (state IN ('placed', 'captured', 'released', 'expired', 'refused')),
  answer jsonb NOT NULL,
  account_id bigint REFERENCES account,
  captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND amount_minor),
  transfer_id uuid REFERENCES transfer,
  ending jsonb,
  asked_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  CHECK ((account_id IS NULL) = (state = 'refused')),
  CHECK ((ending IS NULL) = (state IN ('placed', 'refused'))),
  CHECK ((transfer_id IS NOT NULL) = (state = 'captured')),
  CHECK ((captured_minor > 0) = (state = 'captured'))
);
CREATE INDEX hold_due ON hold (expires_at) WHERE state = 'placed';
CREATE INDEX hold_open ON hold (account_id) WHERE state = 'placed';

-- What a role may not do needs no trigger to fail; the triggers below stop everybody else.
REVOKE UPDATE, DELETE, TRUNCATE ON transfer, posting FROM {role};
REVOKE DELETE, TRUNCATE ON account, hold FROM {role};
"""

# The checks cost what the statement brings, however large the tables are and whatever the planner believed about them
# when it cached the plan: every lookup is a LATERAL probe of a primary key (LIMIT 1 keeps it one), and no check ends in
# LIMIT 1 itself, which would have the planner prefer what finds a first row fast, where there is normally none.
RULES = """
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: a correction is a new transfer', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER posting_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posting
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- All legs of a transfer come in one statement, so the statement is where a transfer must be whole.
CREATE FUNCTION posting_check() RETURNS trigger LANGUAGE plpgsql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  broken record;
BEGIN
  SELECT whole.* INTO broken
  FROM (
    SELECT leg.transfer_id, account.asset, sum(leg.amount_minor) AS difference
    FROM added leg LEFT JOIN (
      SELECT id, found.asset FROM (SELECT DISTINCT account_id AS id FROM added) AS named
      CROSS JOIN LATERAL (SELECT asset FROM account WHERE account.id = named.id LIMIT 1) AS found
    ) AS account ON account.id = leg.account_id
    GROUP BY leg.transfer_id, account.asset
  ) AS whole
  LEFT JOIN LATERAL (SELECT true AS is_known FROM transfer WHERE id = whole.transfer_id LIMIT 1) AS transfer ON true
  WHERE whole.difference <> 0 OR whole.asset IS NULL OR transfer.is_known IS NULL;
  IF FOUND THEN
    RAISE EXCEPTION 'transfer % is unknown or does not sum to zero: % %',
      broken.transfer_id, broken.difference, coalesce(broken.asset, 'of no account') USING ERRCODE = 'check_violation';
  END IF;
  SELECT leg.account_id, leg.sequence INTO broken
  FROM added leg
  LEFT JOIN added before ON before.account_id = leg.account_id AND before.sequence = leg.sequence - 1
  LEFT JOIN LATERAL (
    SELECT sequence, balance_minor FROM account WHERE before.sequence IS NULL AND id = leg.account_id LIMIT 1
  ) AS account ON true
  WHERE leg.balance_after_minor - leg.amount_minor <> coalesce(before.balance_after_minor, account.balance_minor)
    OR leg.sequence <> coalesce(before.sequence, account.sequence) + 1;
  IF FOUND THEN
    RAISE EXCEPTION 'posting % of account % does not continue the account', broken.sequence, broken.account_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER posting_check AFTER INSERT ON posting REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION posting_check();

-- Postings continue what the account says, and the account says what its newest posting says: a balance that was
-- not posted can't be written.
CREATE FUNCTION account_check() RETURNS trigger LANGUAGE plpgsql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  broken record;
BEGIN
  SELECT changed.id INTO broken
  FROM changed LEFT JOIN LATERAL (
    SELECT sequence, balance_after_minor FROM posting WHERE account_id = changed.id ORDER BY sequence DESC LIMIT 1
  ) AS newest ON true
  WHERE changed.sequence <> coalesce(newest.sequence, 0)
    OR changed.balance_minor <> coalesce(newest.balance_after_minor, 0);
  IF FOUND THEN
    RAISE EXCEPTION 'account % does not say what its postings say', broken.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER account_check_opened AFTER INSERT ON account REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION account_check();
CREATE TRIGGER account_check_changed AFTER UPDATE ON account REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION account_check();
"""


def upgrade() -> None:
    migrate.execute(migrate.MESSAGING + TABLES + RULES)


def downgrade() -> None:
    migrate.execute("""
    DROP TABLE hold, posting, transfer, account, outbox, outbox_slot, outbox_dead, inbox, dead_letter;
    DROP FUNCTION append_only, posting_check, account_check, inbox_maintain, inbox_bound;
    """)
