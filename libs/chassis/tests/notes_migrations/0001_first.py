"""The message door's tables, and a table to see effects in."""

from chassis import migrate

revision = "0001"
down_revision = None


def upgrade() -> None:
    migrate.execute(migrate.MESSAGING + "CREATE TABLE note (id uuid PRIMARY KEY, body text NOT NULL);")


def downgrade() -> None:
    migrate.execute("DROP TABLE note, outbox, outbox_slot, outbox_dead, inbox, dead_letter;")
