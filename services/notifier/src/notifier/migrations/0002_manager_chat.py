"""What became of the managers' chat, and notifications that an operator sends again."""

from chassis import migrate

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table and the column."""
    migrate.execute(
        """
CREATE TABLE manager_chat (
  tenant text NOT NULL,
  chat_id bigint NOT NULL,  -- as the setting has it: after a change of the setting nothing of this is true
  migrated_to bigint,
  down_since timestamptz,
  down_reason text,
  probes smallint NOT NULL DEFAULT 0,
  probe_at timestamptz,
  PRIMARY KEY (tenant, chat_id),
  CHECK ((down_since IS NULL) = (probe_at IS NULL))
);
ALTER TABLE notification ADD COLUMN resent_at timestamptz;
"""
    )


def downgrade() -> None:
    """Drop both."""
    migrate.execute("ALTER TABLE notification DROP COLUMN resent_at; DROP TABLE manager_chat;")
