"""Recipients, notifications and their deliveries."""

from chassis import migrate

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    migrate.execute(
        """
CREATE TABLE recipient (
  tenant text NOT NULL,
  user_id uuid NOT NULL,
  chat_id bigint NOT NULL CHECK (chat_id <> 0),
  reachability text NOT NULL DEFAULT 'unknown' CHECK (reachability IN ('unknown', 'enabled', 'blocked')),
  reachability_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, user_id)
);

CREATE TABLE notification (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  kind text NOT NULL,
  -- kind:entity:recipient, kept for ever: an event replayed next year still tells nobody twice.
  dedupe_key text NOT NULL,
  user_id uuid,  -- nobody means the tenant's managers, whose chat is a setting
  channel text NOT NULL DEFAULT 'telegram' CHECK (channel = 'telegram'),
  text text NOT NULL,
  is_plain boolean NOT NULL DEFAULT false,
  state text NOT NULL DEFAULT 'queued'
    CHECK (state IN ('queued', 'sending', 'sent', 'failed', 'blocked', 'skipped', 'uncertain')),
  reason text,
  attempts smallint NOT NULL DEFAULT 0,
  may_have_arrived boolean NOT NULL DEFAULT false,
  lease integer NOT NULL DEFAULT 0,  -- grows with each lease; only its holder may write the outcome
  next_at timestamptz NOT NULL DEFAULT now(),  -- when to send, or when the lease runs out
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant, dedupe_key)
);
CREATE INDEX notification_due ON notification (tenant, next_at) WHERE state IN ('queued', 'sending');
CREATE INDEX notification_waiting ON notification (tenant, user_id) WHERE state = 'queued';

CREATE TABLE delivery (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  notification_id bigint NOT NULL REFERENCES notification (id),
  outcome text NOT NULL,
  http_status smallint,
  telegram_message_id bigint,
  detail text,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX delivery_notification ON delivery (notification_id);
REVOKE UPDATE, DELETE, TRUNCATE ON delivery FROM {role};
"""
    )


def downgrade() -> None:
    """Drop everything."""
    migrate.execute("DROP TABLE delivery, notification, recipient;")
