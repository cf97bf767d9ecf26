"""The tables of outbox, inbox and dead letters."""

from chassis import migrate

revision = "0001"
down_revision = None

OUTBOX = """
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL,
  exchange text NOT NULL,
  event_type text NOT NULL,
  slot smallint NOT NULL,
  partition_key text NOT NULL,
  headers text NOT NULL,  -- JSON that only the relay reads; parsing it at every insert would be for nothing
  payload bytea NOT NULL,
  enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts smallint NOT NULL DEFAULT 0,
  last_error text
) WITH (
  -- The table is a queue: nearly empty, and rewritten all day. Vacuum by rows, not by a share of nothing.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000
);
CREATE INDEX outbox_slot_id ON outbox (slot, id);
CREATE TABLE outbox_slot (
  slot smallint PRIMARY KEY,
  blocked_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO outbox_slot (slot) SELECT generate_series(0, 15);
CREATE TABLE outbox_dead (LIKE outbox INCLUDING DEFAULTS, died_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id));
"""

INBOX = """
CREATE TABLE inbox (
  event_id uuid NOT NULL,
  consumer text NOT NULL,
  claimed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (event_id, consumer)
) PARTITION BY RANGE (event_id);
CREATE TABLE inbox_default PARTITION OF inbox DEFAULT;

CREATE FUNCTION inbox_bound(day date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT rpad(lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- The role of the service owns no table, so making and dropping partitions is lent to it by this function.
CREATE FUNCTION inbox_maintain() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  day date;
  dropped integer := 0;
  old regclass;
BEGIN
  FOR day IN SELECT generate_series(current_date - 1, current_date + 3, '1 day')::date LOOP
    IF to_regclass('inbox_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF inbox FOR VALUES FROM (%L) TO (%L)',
        'inbox_' || to_char(day, 'YYYYMMDD'), inbox_bound(day), inbox_bound(day + 1));
    END IF;
  END LOOP;
  FOR old IN
    SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'inbox'::regclass
      AND relname ~ '^inbox_[0-9]{8}$' AND substr(relname, 7) < to_char(current_date - 14, 'YYYYMMDD')
  LOOP
    EXECUTE format('DROP TABLE %s', old);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$;
SELECT inbox_maintain();
"""

DEAD_LETTERS = """
CREATE TABLE dead_letter (
  event_id uuid NOT NULL,
  consumer text NOT NULL,
  event_type text NOT NULL,
  partition_key text NOT NULL,
  headers jsonb NOT NULL,
  payload bytea NOT NULL,
  reason text NOT NULL,
  error text NOT NULL,
  attempts smallint NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  resolution text,
  PRIMARY KEY (event_id, consumer)
);
CREATE INDEX dead_letter_open ON dead_letter (failed_at) WHERE resolved_at IS NULL;
"""


def upgrade() -> None:
    """Create everything."""
    migrate.execute(OUTBOX + INBOX + DEAD_LETTERS)


def downgrade() -> None:
    """Drop everything."""
    migrate.execute("""
    DROP TABLE outbox, outbox_slot, outbox_dead, inbox, dead_letter;
    DROP FUNCTION inbox_maintain, inbox_bound;
    """)
