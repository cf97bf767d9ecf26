"""A table to see effects in, without a unique key, so that a double one shows."""

from chassis import migrate

revision = "0001"
down_revision = None


def upgrade() -> None:
    migrate.execute("CREATE TABLE note (note_id uuid NOT NULL, body text NOT NULL, consumer text NOT NULL);")


def downgrade() -> None:
    migrate.execute("DROP TABLE note;")
