"""The gateway's tables: its users, the commands it accepted, and the read models.

A read model's row carries the version of what it shows; `version` 0 is what the gateway itself accepted.
"""

from chassis import migrate

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE users (
  tenant text NOT NULL,
  id uuid NOT NULL,
  telegram_id bigint NOT NULL,
  registered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, telegram_id)
);

CREATE TABLE commands (
  tenant text NOT NULL,
  user_id uuid NOT NULL,
  operation text NOT NULL,
  key text NOT NULL,
  id uuid NOT NULL,
  fingerprint bytea NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  answer_status smallint,
  answer_body json,
  PRIMARY KEY (tenant, user_id, operation, key),
  CHECK ((answer_status IS NULL) = (answer_body IS NULL))
);
CREATE INDEX commands_accepted_at ON commands (accepted_at);

CREATE TABLE payments (
  tenant text NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  version bigint NOT NULL,
  status text NOT NULL,
  purpose text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL,
  paid_minor bigint,
  refunded_minor bigint NOT NULL DEFAULT 0,
  provider text NOT NULL,
  confirmation_url text,
  expires_at timestamptz,
  failure_code text,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, id)
);

CREATE TABLE orders (
  tenant text NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  version bigint NOT NULL,
  status text NOT NULL,
  items json,
  total_minor bigint,
  currency text,
  refusal_code text,
  refusal_detail text,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX orders_of_user ON orders (tenant, user_id, id);

CREATE TABLE balances (
  tenant text NOT NULL,
  user_id uuid NOT NULL,
  asset text NOT NULL,
  version bigint NOT NULL,
  balance_minor bigint NOT NULL,
  held_minor bigint NOT NULL,
  PRIMARY KEY (tenant, user_id, asset)
);

CREATE TABLE statement_lines (
  tenant text NOT NULL,
  user_id uuid NOT NULL,
  asset text NOT NULL,
  version bigint NOT NULL,
  kind text NOT NULL,
  amount_minor bigint NOT NULL,
  balance_after_minor bigint NOT NULL,
  held_after_minor bigint NOT NULL,
  reference text NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, user_id, asset, version)
);
CREATE INDEX statement_lines_newest ON statement_lines (tenant, user_id, recorded_at, version, asset);
-- Whether an order's money has been taken; partial, so that the many top-ups pay nothing for it.
CREATE INDEX statement_lines_captured ON statement_lines (tenant, user_id, reference) WHERE kind = 'capture';

CREATE TABLE categories (
  tenant text NOT NULL,
  id text NOT NULL,
  version bigint NOT NULL,
  title text NOT NULL,
  PRIMARY KEY (tenant, id)
);

CREATE TABLE products (
  tenant text NOT NULL,
  id text NOT NULL,
  version bigint NOT NULL,
  category_id text NOT NULL,
  title text NOT NULL,
  description text NOT NULL,
  price_minor bigint NOT NULL CHECK (price_minor > 0),
  currency text NOT NULL,
  is_visible boolean NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX products_listed ON products (tenant, title, id) WHERE is_visible;
"""


def upgrade() -> None:
    """Create the message tables and the gateway's own."""
    migrate.execute(_TABLES)


def downgrade() -> None:
    """Drop everything that the upgrade created."""
    migrate.execute(
        """
        DROP TABLE products, categories, statement_lines, balances, orders, payments, commands, users;
        """
    )
