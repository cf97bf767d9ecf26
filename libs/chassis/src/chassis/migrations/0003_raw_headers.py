"""Headers of dead letters that no text can hold, as AMQP encodes them."""

from chassis import migrate

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    migrate.execute("ALTER TABLE dead_letter ADD raw_headers bytea")


def downgrade() -> None:
    """Drop the column."""
    migrate.execute("ALTER TABLE dead_letter DROP raw_headers")
