"""A refund may fail after it has succeeded."""

from chassis import migrate

revision = "0005"
down_revision = "0004"

_STATES = """
ALTER TABLE refund DROP CONSTRAINT refund_state_check, DROP CONSTRAINT refund_check,
  ADD CONSTRAINT refund_state_check CHECK (state IN ('requested', 'pending', {ended})),
  ADD CONSTRAINT refund_check CHECK ((settled_at IS NOT NULL) = (state IN ({ended})));
"""


def upgrade() -> None:
    """Allow the state `failed`."""
    migrate.execute(_STATES.format(ended="'succeeded', 'canceled', 'failed'"))


def downgrade() -> None:
    """Call failed refunds canceled, which they are to older code."""
    migrate.execute("UPDATE refund SET state = 'canceled' WHERE state = 'failed'")
    migrate.execute(_STATES.format(ended="'succeeded', 'canceled'"))
