"""A payment shows why it did not happen, in a closed list of reasons."""

from chassis import migrate

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the reason; payments that ended before have none."""
    migrate.execute("ALTER TABLE payments ADD COLUMN failure_reason text")


def downgrade() -> None:
    """Drop it."""
    migrate.execute("ALTER TABLE payments DROP COLUMN failure_reason")
