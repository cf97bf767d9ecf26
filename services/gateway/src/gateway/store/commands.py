"""Which requests were accepted, under which key, and what was answered."""

import json
from dataclasses import replace

import asyncpg

from chassis import database
from gateway.domain import commands

RETENTION_DAYS = 30  # money moves by these keys, and a client may repeat a request long after it lost its answer

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
_FORGET = f"""
DELETE FROM commands WHERE (tenant, user_id, operation, key) IN (
  SELECT tenant, user_id, operation, key FROM commands
  WHERE accepted_at < now() - interval '{RETENTION_DAYS} days' ORDER BY accepted_at LIMIT $1
)
"""


async def add(tx: database.Tx, command: commands.Command) -> bool:
    """Keep a command; False when its key is taken. Waits for a concurrent holder of the same key to commit."""
    return bool(await tx.fetchval(_ADD, *_key(command), command.id, command.fingerprint))


async def get(tx: database.Tx, command: commands.Command) -> commands.Command:
    """Give the command that was accepted under the same key."""
    row = await tx.fetchrow(_GET, *_key(command))
    assert row is not None  # the key was found taken, and is kept far longer than a request lasts
    return replace(command, id=row["id"], fingerprint=row["fingerprint"], answer=_answer(row), is_replay=True)


async def answer(tx: database.Tx, command: commands.Command, answer: commands.Answer) -> commands.Answer:
    """Keep the final answer; the first one stays, and every repetition is given that one."""
    row = await tx.fetchrow(_ANSWER, *_key(command), answer.status, json.dumps(answer.body))
    return (_answer(row) if row else None) or answer


async def forget(tx: database.Tx, limit: int) -> int:
    """Delete the oldest commands past retention, at most `limit`; gives how many."""
    return int((await tx.execute(_FORGET, limit)).split()[-1])


def _key(command: commands.Command) -> tuple[str, object, str, str]:
    return command.tenant, command.user_id, command.operation, command.key


def _answer(row: asyncpg.Record) -> commands.Answer | None:
    if row["answer_status"] is None:
        return None
    return commands.Answer(row["answer_status"], row["answer_body"])
