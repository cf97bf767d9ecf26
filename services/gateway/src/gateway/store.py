"""The SQL of commands: the accepted requests by idempotency key, and the answers that were given."""

import json
from dataclasses import replace

import asyncpg

from chassis import database
from gateway.domain import commands

RETENTION_DAYS = 30  # a client may repeat a request long after it lost the answer, and these keys move money

_ADD = """
INSERT INTO commands (tenant, user_id, operation, key, id, fingerprint) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, user_id, operation, key) DO NOTHING RETURNING true
"""
_GET = """
SELECT id, fingerprint, answer_status, answer_body FROM commands
WHERE tenant = $1 AND user_id = $2 AND operation = $3 AND key = $4
"""
_ANSWER = """
UPDATE commands
SET answer_status = coalesce(answer_status, $5), answer_body = coalesce(answer_body, $6::text::json)
WHERE tenant = $1 AND user_id = $2 AND operation = $3 AND key = $4
RETURNING answer_status, answer_body
"""
_DELETE = f"""
DELETE FROM commands WHERE (tenant, user_id, operation, key) IN (
  SELECT tenant, user_id, operation, key FROM commands
  WHERE accepted_at < now() - interval '{RETENTION_DAYS} days' ORDER BY accepted_at LIMIT $1
)
"""


async def add_command(tx: database.Tx, command: commands.Command) -> bool:
    """Store a command; False when its key is taken. Waits for a concurrent transaction with the same key to end."""
    return bool(await tx.fetchval(_ADD, *_key(command), command.id, command.fingerprint))


async def get_command(tx: database.Tx, command: commands.Command) -> commands.Command:
    """Return the command that was accepted under the same key, as a replay."""
    row = await tx.fetchrow(_GET, *_key(command))
    assert row is not None  # its key was taken a moment ago, and is kept for weeks
    return replace(command, id=row["id"], fingerprint=row["fingerprint"], answer=_answer(row), is_replay=True)


async def keep_answer(tx: database.Tx, command: commands.Command, answer: commands.Answer) -> commands.Answer:
    """Store the final answer and return the one that is stored: the first one stays."""
    row = await tx.fetchrow(_ANSWER, *_key(command), answer.status, json.dumps(answer.body))
    return (_answer(row) if row else None) or answer


async def delete_commands(tx: database.Tx, limit: int) -> int:
    """Delete the oldest commands past retention, at most `limit`; return their number."""
    return int((await tx.execute(_DELETE, limit)).split()[-1])


def _key(command: commands.Command) -> tuple[str, object, str, str]:
    return command.tenant, command.user_id, command.operation, command.key


def _answer(row: asyncpg.Record) -> commands.Answer | None:
    if row["answer_status"] is None:
        return None
    return commands.Answer(row["answer_status"], row["answer_body"])
