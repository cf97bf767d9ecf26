"""Messages that could not be published become dead letters.

Until now they went to `outbox_dead`, where no command could see them. The table stays for one version more: processes
of the version before insert into it during a rollout, and a trigger turns these rows into dead letters at once.
"""

from chassis import migrate

revision = "0002"
down_revision = "0001"

SCRIPT = r"""
-- Both are set for a message that could not be published: where it was to go, and its place in the outbox's order.
ALTER TABLE dead_letter ADD exchange text, ADD outbox_id bigint,
  ADD CONSTRAINT dead_letter_is_outgoing
    CHECK ((consumer = 'outbox') = (exchange IS NOT NULL AND outbox_id IS NOT NULL));

CREATE FUNCTION dead_letter_of(dead outbox_dead) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
  INSERT INTO dead_letter (
    event_id, consumer, event_type, partition_key, headers, payload, reason, error, attempts, failed_at, exchange,
    outbox_id
  )
  VALUES (
    dead.event_id, 'outbox', dead.event_type, dead.partition_key,
    replace(dead.headers, '\u0000', '\ufffd')::jsonb,  -- no jsonb can hold a NUL
    dead.payload, 'unpublishable', coalesce(dead.last_error, ''), dead.attempts, dead.died_at, dead.exchange, dead.id
  )
  ON CONFLICT (event_id, consumer) DO UPDATE SET failed_at = excluded.failed_at, resolved_at = NULL, resolution = NULL,
    error = excluded.error, attempts = excluded.attempts
$$;

CREATE FUNCTION outbox_dead_insert() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM dead_letter_of(NEW);
  RETURN NULL;
END $$;

-- First the trigger, whose lock waits for rows that are being inserted; then the rows that are there.
CREATE TRIGGER outbox_dead_insert BEFORE INSERT ON outbox_dead FOR EACH ROW EXECUTE FUNCTION outbox_dead_insert();
SELECT dead_letter_of(outbox_dead) FROM outbox_dead;
DELETE FROM outbox_dead;
"""


def upgrade() -> None:
    """Move the rows, and those that come."""
    migrate.execute(SCRIPT)


def downgrade() -> None:
    """Take the columns away; this happens on the way to `base` only, so no row is brought back."""
    migrate.execute("""
    DROP TRIGGER outbox_dead_insert ON outbox_dead;
    DROP FUNCTION outbox_dead_insert, dead_letter_of;
    DELETE FROM dead_letter WHERE consumer = 'outbox';
    ALTER TABLE dead_letter DROP exchange, DROP outbox_id;
    """)
