"""A recipient has the language that their Telegram had."""

from chassis import migrate

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; who registered before has none, and reads English."""
    migrate.execute("ALTER TABLE recipient ADD COLUMN language text")


def downgrade() -> None:
    """Drop the column."""
    migrate.execute("ALTER TABLE recipient DROP COLUMN language")
