"""Payments, requests to providers, what the providers told, and what needs a person's attention."""

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
  state text NOT NULL CHECK (state IN
    ('created', 'pending', 'authorized', 'failed', 'canceled', 'paid', 'partially_refunded', 'refunded')),
  version integer NOT NULL CHECK (version >= 0),
  correlation_id text NOT NULL,
  traceparent text,
  is_held boolean NOT NULL DEFAULT false,
  description text,
  payer text,
  account text,
  provider_ref text,
  confirmation_url text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  capture_before timestamptz,
  paid_at timestamptz,
  paid_by text,
  capture_asked_minor bigint CHECK (capture_asked_minor BETWEEN 1 AND amount_minor),
  captured_minor bigint NOT NULL DEFAULT 0,
  refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
  reserved_minor bigint NOT NULL DEFAULT 0 CHECK (reserved_minor >= 0),
  disputed_minor bigint NOT NULL DEFAULT 0 CHECK (disputed_minor >= 0),
  -- The provider's fee, as it named it.
  fee_minor bigint NOT NULL DEFAULT 0 CHECK (fee_minor >= 0),
  origin_id uuid REFERENCES payment,
  -- When to poll the payment again, or the end of a lease; null when polling has ended.
  next_at timestamptz,
  checks smallint NOT NULL DEFAULT 0,
  -- By our clock, not by the provider's.
  changed_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant, provider, account, provider_ref),
  CHECK (captured_minor BETWEEN 0 AND amount_minor),
  CHECK (refunded_minor + reserved_minor <= captured_minor),
  CHECK ((captured_minor > 0) = (state IN ('paid', 'partially_refunded', 'refunded'))),
  CHECK ((refunded_minor > 0) = (state IN ('partially_refunded', 'refunded'))),
  CHECK ((state = 'refunded') = (refunded_minor > 0 AND refunded_minor = captured_minor)),
  CHECK (captured_minor = 0 OR (provider_ref IS NOT NULL AND paid_at IS NOT NULL))
);
CREATE INDEX payment_to_check ON payment (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX payment_open ON payment (state) WHERE state IN ('created', 'pending', 'authorized');
-- For the comparison with a provider's report, a few days at a time.
CREATE INDEX payment_created ON payment USING brin (created_at);

CREATE TABLE refund (
  refund_id uuid PRIMARY KEY,
  payment_id uuid NOT NULL REFERENCES payment,
  tenant text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  state text NOT NULL CHECK (state IN ('requested', 'pending', 'succeeded', 'canceled')),
  refund_ref text,
  reason text,
  is_ours boolean NOT NULL DEFAULT true,
  requested_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  UNIQUE (payment_id, refund_ref),
  CHECK ((settled_at IS NOT NULL) = (state IN ('succeeded', 'canceled')))
);

CREATE TABLE dispute (
  payment_id uuid NOT NULL REFERENCES payment,
  dispute_ref text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
  state text NOT NULL CHECK (state IN ('open', 'won', 'lost')),
  opened_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (payment_id, dispute_ref)
);
CREATE INDEX dispute_open ON dispute (opened_at) WHERE state = 'open';

-- Written before a request is sent, so that after a crash it is known that it may have been carried out.
CREATE TABLE provider_attempt (
  idempotence_key text PRIMARY KEY CHECK (idempotence_key ~ '^[0-9a-zA-Z._-]{1,64}$'),
  payment_id uuid NOT NULL REFERENCES payment,
  op text NOT NULL CHECK (op IN ('create', 'capture', 'cancel', 'refund')),
  refund_id uuid REFERENCES refund,
  tries smallint NOT NULL DEFAULT 0,
  outcome text NOT NULL DEFAULT 'waiting' CHECK (outcome IN
    ('waiting', 'sent', 'ok', 'rejected', 'refused', 'unknown', 'given_up')),
  -- The provider's stable code of a refusal.
  code text,
  -- True when the outcome of an earlier try is unknown: it may have been carried out.
  is_uncertain boolean NOT NULL DEFAULT false,
  asked_at timestamptz NOT NULL DEFAULT now(),
  first_sent_at timestamptz,
  sent_at timestamptz,
  -- Personal: kept only until the request is closed.
  receipt jsonb,
  -- When to send it again, or the end of a lease; null when it is not sent again.
  next_at timestamptz DEFAULT now(),
  CHECK ((op = 'refund') = (refund_id IS NOT NULL)),
  CHECK (receipt IS NULL OR next_at IS NOT NULL)
);
CREATE INDEX provider_attempt_due ON provider_attempt (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX provider_attempt_payment ON provider_attempt (payment_id);

-- A webhook names a payment to fetch. Its body may hold personal data and is not kept, only its fingerprint; where a
-- provider has no call to fetch a payment, the movement of the webhook is kept as well.
CREATE TABLE webhook (
  webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  provider text NOT NULL,
  account text NOT NULL,
  event text NOT NULL,
  dedupe_key text NOT NULL,
  provider_ref text,
  movement jsonb,
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

-- How far each account's reports were read: deposits by the provider's cursor, movements by time.
CREATE TABLE reading (
  tenant text NOT NULL,
  provider text NOT NULL,
  account text NOT NULL,
  what text NOT NULL CHECK (what IN ('deposits', 'movements', 'comparison', 'clearing')),
  cursor text,
  read_until timestamptz,
  PRIMARY KEY (tenant, provider, account, what)
);

CREATE TABLE deposit (
  tenant text NOT NULL,
  provider text NOT NULL,
  account text NOT NULL,
  provider_ref text NOT NULL,
  currency text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  payment_id uuid REFERENCES payment,
  -- The part that pays no payment, and why.
  left_minor bigint NOT NULL CHECK (left_minor BETWEEN 0 AND amount_minor),
  cause text CHECK (cause IN ('unmatched', 'underpaid', 'overpaid', 'reused')),
  received_at timestamptz NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, provider, account, provider_ref),
  CHECK ((left_minor > 0) = (cause IS NOT NULL))
);

-- The ledger's latest balance of the clearing account of each provider account, and the unexplained difference.
CREATE TABLE clearing (
  tenant text NOT NULL,
  provider text NOT NULL,
  account text NOT NULL,
  asset text NOT NULL,
  balance_minor bigint NOT NULL DEFAULT 0,
  -- The ledger's own; 0 before its first event.
  version bigint NOT NULL DEFAULT 0,
  -- What people posted, such as a payout of the provider; nothing that follows from our events.
  by_hand_minor bigint NOT NULL DEFAULT 0,
  difference_minor bigint,
  compared_at timestamptz,
  PRIMARY KEY (tenant, provider, account, asset),
  CHECK ((difference_minor IS NULL) = (compared_at IS NULL))
);

CREATE TABLE finding (
  finding_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  kind text NOT NULL,
  provider text,
  account text,
  payment_id uuid REFERENCES payment,
  webhook_id bigint REFERENCES webhook,
  -- What else it is about: a movement of the provider, or a day of an account.
  about text,
  details jsonb NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  resolution text
);
-- A resolved finding may be opened again.
CREATE UNIQUE INDEX finding_open_once ON finding (tenant, kind, payment_id, webhook_id, about) NULLS NOT DISTINCT
  WHERE resolved_at IS NULL;
CREATE INDEX finding_webhook ON finding (webhook_id) WHERE webhook_id IS NOT NULL;
CREATE INDEX finding_open ON finding (finding_id) WHERE resolved_at IS NULL;
"""


def upgrade() -> None:
    """Create the tables of payments."""
    migrate.execute(TABLES)


def downgrade() -> None:
    """Drop everything that upgrade created."""
    migrate.execute(
        "DROP TABLE finding, clearing, deposit, reading, webhook, provider_attempt, dispute, refund, payment;"
    )
