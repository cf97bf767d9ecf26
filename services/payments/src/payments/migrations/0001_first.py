"""Payments, what we asked providers for, what they told us, and what needs a person's eye."""

from chassis import migrate

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE payment (
  payment_id uuid PRIMARY KEY,
  tenant text NOT NULL,
  user_id uuid NOT NULL,
  purpose text NOT NULL,
  provider text NOT NULL,
  currency text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  return_url text NOT NULL,
  state text NOT NULL CHECK (state IN ('created', 'pending', 'authorized', 'failed', 'canceled', 'paid')),
  version integer NOT NULL CHECK (version >= 0),
  correlation_id text NOT NULL,
  traceparent text,
  account text,
  provider_ref text,
  confirmation_url text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  paid_at timestamptz,
  -- When to look at the payment again, or the end of a lease; null when nothing is left to look for.
  next_at timestamptz DEFAULT now(),
  checks smallint NOT NULL DEFAULT 0,
  UNIQUE (tenant, provider, account, provider_ref),
  CHECK (state <> 'paid' OR (provider_ref IS NOT NULL AND paid_at IS NOT NULL))
);
CREATE INDEX payment_to_create ON payment (next_at) WHERE state = 'created' AND next_at IS NOT NULL;
CREATE INDEX payment_to_check ON payment (next_at) WHERE state IN ('pending', 'authorized') AND next_at IS NOT NULL;

-- Written before a request leaves, so that after a crash we know that it may have been carried out.
CREATE TABLE provider_attempt (
  payment_id uuid NOT NULL REFERENCES payment,
  op text NOT NULL,
  idempotence_key text NOT NULL UNIQUE CHECK (idempotence_key ~ '^[0-9a-zA-Z._-]{1,64}$'),
  tries smallint NOT NULL DEFAULT 1,
  outcome text NOT NULL DEFAULT 'sent' CHECK (outcome IN ('sent', 'ok', 'rejected', 'refused', 'unknown')),
  -- True when an earlier try may have been carried out without our learning of it.
  is_uncertain boolean NOT NULL DEFAULT false,
  first_sent_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (payment_id, op)
);

-- A webhook is a hint where to look. Its body may hold personal data and is not kept, only its fingerprint.
CREATE TABLE webhook (
  webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  provider text NOT NULL,
  account text NOT NULL,
  event text NOT NULL,
  dedupe_key text NOT NULL,
  provider_ref text,
  body_sha256 bytea NOT NULL,
  body_bytes integer NOT NULL,
  state text NOT NULL CHECK (state IN ('new', 'waiting', 'applied', 'ignored', 'conflict', 'orphan')),
  attempts smallint NOT NULL DEFAULT 0,
  misses smallint NOT NULL DEFAULT 0,
  next_at timestamptz,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  correlation_id text NOT NULL,
  traceparent text,
  UNIQUE (tenant, provider, account, dedupe_key, body_sha256)
);
CREATE INDEX webhook_due ON webhook (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX webhook_received ON webhook USING brin (received_at);

CREATE TABLE finding (
  finding_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  kind text NOT NULL,
  payment_id uuid REFERENCES payment,
  webhook_id bigint REFERENCES webhook,
  details jsonb NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  UNIQUE NULLS NOT DISTINCT (tenant, kind, payment_id, webhook_id)
);
CREATE INDEX finding_webhook ON finding (webhook_id) WHERE webhook_id IS NOT NULL;
CREATE INDEX finding_open ON finding (opened_at) WHERE resolved_at IS NULL;
"""


def upgrade() -> None:
    """Create the tables of payments and of the message door."""
    migrate.execute(migrate.MESSAGING + TABLES)


def downgrade() -> None:
    """Drop everything that upgrade created."""
    migrate.execute("DROP TABLE finding, webhook, provider_attempt, payment;" + migrate.UNDO_MESSAGING)
