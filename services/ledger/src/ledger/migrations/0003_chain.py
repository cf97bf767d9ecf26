"""The hash chain: blocks that can't be changed, each linked to the one before by its hash."""

from chassis import migrate

revision = "0003"
down_revision = "0002"

CHAIN = """
-- Blocks of transfers in the order of their numbers, each linked to the one before; `leaves` has 32 bytes per transfer.
CREATE TABLE block (
  number bigint PRIMARY KEY CHECK (number > 0),
  first_number bigint NOT NULL CHECK (first_number > 0),
  last_number bigint NOT NULL CHECK (last_number >= first_number),
  transfers integer NOT NULL CHECK (transfers BETWEEN 1 AND 1024),
  root bytea NOT NULL CHECK (octet_length(root) = 32),
  previous bytea NOT NULL CHECK (octet_length(previous) = 32),
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  sealed_at timestamptz NOT NULL,
  leaves bytea NOT NULL CHECK (octet_length(leaves) = 32 * transfers)
);
CREATE UNIQUE INDEX block_last ON block (last_number);
ALTER TABLE block ALTER COLUMN leaves SET STORAGE EXTERNAL; -- hashes can't be compressed
REVOKE UPDATE, DELETE, TRUNCATE ON block FROM {role};
CREATE TRIGGER block_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON block
  FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE FUNCTION block_continues() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  before block;
BEGIN
  SELECT * INTO before FROM block ORDER BY number DESC LIMIT 1;
  IF NEW.number <> coalesce(before.number, 0) + 1 OR NEW.first_number <= coalesce(before.last_number, 0)
    OR NEW.previous <> coalesce(before.hash, decode(repeat('00', 32), 'hex'))
  THEN
    RAISE EXCEPTION 'block % does not continue the chain', NEW.number USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER block_continues BEFORE INSERT ON block FOR EACH ROW EXECUTE FUNCTION block_continues();
"""


def upgrade() -> None:
    migrate.execute(CHAIN)


def downgrade() -> None:
    migrate.execute("DROP TABLE block; DROP FUNCTION block_continues;")
