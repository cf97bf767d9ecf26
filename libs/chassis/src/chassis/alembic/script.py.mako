"""${message}."""

from chassis import migrate

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Apply this step."""
    migrate.execute("""
    """)


def downgrade() -> None:
    """Undo this step."""
    migrate.execute("""
    """)
