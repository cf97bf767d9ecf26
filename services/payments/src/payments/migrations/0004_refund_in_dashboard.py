"""The finding of a refund that was made in the provider's dashboard is named after it."""

from chassis import migrate

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rename the kind of stored findings; what old code opens until it is replaced keeps the old name."""
    migrate.execute("UPDATE finding SET kind = 'refund_in_dashboard' WHERE kind = 'refund_in_cabinet'")


def downgrade() -> None:
    """Take the name back."""
    migrate.execute("UPDATE finding SET kind = 'refund_in_cabinet' WHERE kind = 'refund_in_dashboard'")
