"""Webhooks are compared by what is believed of them, and no longer by all of their bytes."""

from chassis import migrate

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Name the hash after what it is of; a copy of a webhook that is stored already is looked up once more."""
    migrate.execute("ALTER TABLE webhook RENAME body_sha256 TO content_sha256")


def downgrade() -> None:
    """Take the name back."""
    migrate.execute("ALTER TABLE webhook RENAME content_sha256 TO body_sha256")
