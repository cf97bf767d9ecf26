-- A schema as the product made it before the messaging tables had migrations of their own, with rows in each.
-- The service's first migration created them all; there was no other version than the service's.

CREATE SCHEMA notes;
SET search_path = notes, pg_temp;
CREATE TABLE schema_version (version_num varchar(32) NOT NULL CONSTRAINT schema_version_pkc PRIMARY KEY);
INSERT INTO schema_version VALUES ('0001');

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

CREATE TABLE note (note_id uuid NOT NULL, body text NOT NULL, consumer text NOT NULL);

INSERT INTO dead_letter VALUES ('018f0000-0000-7000-8000-000000000005', 'notes.commands', 'notes.note.write.v1', 'key-1', '{"ce-id": "018f0000-0000-7000-8000-000000000005", "ce-time": "2026-01-31T12:00:00Z", "ce-type": "notes.note.written.v1", "ce-source": "/kopilka/notes", "ce-tenant": "demo", "ce-subject": "key-1", "ce-sequence": "0", "ce-specversion": "1.0", "ce-partitionkey": "key-1", "ce-correlationid": "correlation-1"}', convert_to('{"tenant": "demo", "note_id": "018f0000-0000-7000-8000-00000000000a", "body": "fine", "key": "key-1"}', 'UTF8'), 'unprocessable', 'Unprocessable: never', 0, '2026-01-31 12:00:00+00', NULL, NULL);
INSERT INTO inbox VALUES ('018f0000-0000-7000-8000-000000000004', 'notes.commands', '2026-01-31 12:00:00+00');
INSERT INTO note VALUES ('018f0000-0000-7000-8000-00000000000a', 'fine', 'notes.commands');
INSERT INTO outbox OVERRIDING SYSTEM VALUE VALUES (3, '018f0000-0000-7000-8000-000000000003', 'kopilka.events', 'notes.note.written.v1', 2, 'good', '{"ce-specversion": "1.0", "ce-id": "018f0000-0000-7000-8000-000000000003", "ce-type": "notes.note.written.v1", "ce-source": "/kopilka/notes", "ce-time": "2026-01-31T12:00:00Z", "ce-subject": "good", "ce-tenant": "demo", "ce-partitionkey": "good", "ce-sequence": "0", "ce-correlationid": "correlation-1"}', convert_to('{"tenant": "demo", "note_id": "018f0000-0000-7000-8000-00000000000a", "body": "fine", "key": "good"}', 'UTF8'), '2026-01-31 12:00:00+00', 0, NULL);
INSERT INTO outbox_dead VALUES (1, '018f0000-0000-7000-8000-000000000001', 'kopilka.events', 'notes.note.written.v1', 11, 'bad', '{"ce-specversion": "1.0", "ce-id": "018f0000-0000-7000-8000-000000000001", "ce-type": "notes.note.written.v1", "ce-source": "/kopilka/notes", "ce-time": "2026-01-31T12:00:00Z", "ce-subject": "bad", "ce-tenant": "demo", "ce-partitionkey": "bad", "ce-sequence": "0", "ce-correlationid": "correlation-1"}', convert_to('{"tenant": "demo", "note_id": "018f0000-0000-7000-8000-00000000000a", "body": "fine", "key": "bad"}', 'UTF8'), '2026-01-31 12:00:00+00', 10, 'PublishError: returned', '2026-01-31 12:30:00+00');
INSERT INTO outbox_dead VALUES (2, '018f0000-0000-7000-8000-000000000002', 'kopilka.events', 'notes.note.written.v1', 11, 'bad', '{"ce-specversion": "1.0", "ce-id": "018f0000-0000-7000-8000-000000000002", "ce-type": "notes.note.written.v1", "ce-source": "/kopilka/notes", "ce-time": "2026-01-31T12:00:00Z", "ce-subject": "bad", "ce-tenant": "demo", "ce-partitionkey": "bad", "ce-sequence": "0", "ce-correlationid": "correlation-1"}', convert_to('{"tenant": "demo", "note_id": "018f0000-0000-7000-8000-00000000000a", "body": "fine", "key": "bad"}', 'UTF8'), '2026-01-31 12:00:00+00', 10, 'PublishError: returned', '2026-01-31 12:30:00+00');
SELECT setval('outbox_id_seq', 3, true);
