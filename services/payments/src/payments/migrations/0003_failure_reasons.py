"""A payment keeps why it did not happen."""

from chassis import migrate

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the provider's code, and our reason; payments that ended before have neither."""
    migrate.execute("ALTER TABLE payment ADD COLUMN failure_code text, ADD COLUMN failure_reason text")


def downgrade() -> None:
    """Drop both."""
    migrate.execute("ALTER TABLE payment DROP COLUMN failure_code, DROP COLUMN failure_reason")
