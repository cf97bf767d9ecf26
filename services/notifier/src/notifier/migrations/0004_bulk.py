"""Notifications of which many may come at once give way to all others."""

from chassis import migrate

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the mark; what waits now keeps its turn."""
    migrate.execute("ALTER TABLE notification ADD COLUMN is_bulk boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Drop the mark."""
    migrate.execute("ALTER TABLE notification DROP COLUMN is_bulk")
