"""The catalog, and the orders with their lines and history."""

from chassis import migrate

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    migrate.execute(
        """
CREATE TABLE category (
  tenant text NOT NULL,
  id text NOT NULL,
  title text NOT NULL,
  version integer NOT NULL DEFAULT 1 CHECK (version > 0),
  PRIMARY KEY (tenant, id)
);

CREATE TABLE product (
  tenant text NOT NULL,
  id text NOT NULL,
  category_id text NOT NULL,
  title text NOT NULL,
  description text NOT NULL,
  price_minor bigint NOT NULL CHECK (price_minor > 0),
  currency text NOT NULL,
  is_visible boolean NOT NULL,
  version integer NOT NULL DEFAULT 1 CHECK (version > 0),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, category_id) REFERENCES category (tenant, id)
);

-- In the plural because ORDER is a word of SQL.
CREATE TABLE orders (
  tenant text NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  demand jsonb NOT NULL,
  state text NOT NULL CHECK (state IN ('holding', 'capturing', 'paid', 'refused', 'canceled')),
  version integer NOT NULL CHECK (version > 0),
  total_minor bigint CHECK (total_minor > 0),
  currency text,
  asks smallint NOT NULL DEFAULT 0 CHECK (asks >= 0),
  deadline_at timestamptz,
  placed_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, id),
  CHECK ((total_minor IS NULL) = (currency IS NULL)),
  -- Only an order that was refused before it had prices has no total.
  CHECK (state = 'refused' OR total_minor IS NOT NULL),
  CHECK (deadline_at IS NULL OR state IN ('holding', 'capturing'))
);
CREATE INDEX orders_deadline ON orders (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX orders_open ON orders (state) WHERE state IN ('holding', 'capturing');

CREATE TABLE order_line (
  tenant text NOT NULL,
  order_id uuid NOT NULL,
  position smallint NOT NULL,
  product_id text NOT NULL,
  title text NOT NULL,
  quantity integer NOT NULL CHECK (quantity > 0),
  unit_price_minor bigint NOT NULL CHECK (unit_price_minor > 0),
  PRIMARY KEY (tenant, order_id, position),
  FOREIGN KEY (tenant, order_id) REFERENCES orders (tenant, id)
);

-- The key says that an order moves from each version once, whoever tries.
CREATE TABLE order_history (
  tenant text NOT NULL,
  order_id uuid NOT NULL,
  version integer NOT NULL,
  from_state text,
  to_state text NOT NULL,
  reason text NOT NULL,
  occurred_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, order_id, version),
  FOREIGN KEY (tenant, order_id) REFERENCES orders (tenant, id)
);

-- What was sold and what happened is written once.
REVOKE UPDATE, DELETE, TRUNCATE ON order_line, order_history FROM {role};
REVOKE DELETE, TRUNCATE ON orders FROM {role};
"""
    )


def downgrade() -> None:
    """Drop everything."""
    migrate.execute("DROP TABLE order_history, order_line, orders, product, category;")
