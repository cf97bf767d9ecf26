"""A write: stored with its command in one transaction, then waited for.

The request survives the broker, its repetition is the same request, and it is answered with the result when that comes
within the wait, else with where to look.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from fastapi import Request
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel

from chassis import database, envelope, outbox, telemetry, web
from gateway.api import deps
from gateway.domain import commands, sessions
from gateway.store import commands as store

RETRY_AFTER_S = 1

KEYS = Counter("kopilka_idempotency_total", "Writes by their key: new, replayed, mismatch.", ["result"])


@dataclass(frozen=True, slots=True)
class Write:
    """What one kind of write does: what it says, how it is shown, and when it is answered."""

    operation: str
    location: str
    """Where the result can be read, before its id."""
    accept: Callable[[database.Tx, UUID], Awaitable[outbox.OutboxMessage]]
    """Shows what was accepted under an id from then on, and gives the command to say."""
    look: Callable[[database.Tx, UUID], Awaitable[tuple[BaseModel, commands.Answer | None]]]
    """Gives what is shown now, and the final answer once there is one."""


async def carry_out(
    deps: deps.Deps, request: Request, session: sessions.Session, body: BaseModel, write: Write
) -> JSONResponse:
    """Accept a write and answer it. Repeating it with the same key gives the same answer and changes nothing."""
    wait_s = commands.wait_of(request.headers.getlist("prefer"), default_s=deps.settings.wait_s)
    wanted = commands.Command(
        id=envelope.uuid7(),
        tenant=session.tenant,
        user_id=session.user_id,
        operation=write.operation,
        key=commands.key_of(request.headers.getlist("idempotency-key")),
        fingerprint=commands.fingerprint_of(body),
    )
    command = await _accept(deps, wanted, write)
    answer = command.answer or await deps.waiters.wait_for(
        command.id, partial(_settle, deps, command, write), wait_s=wait_s
    )
    telemetry.log.info(
        "gateway.write.done", operation=write.operation, id=str(command.id), is_answered=answer is not None
    )
    response = await _pending(deps, command, write) if answer is None else _final(request, answer)
    response.headers["Location"] = f"{write.location}/{command.id}"
    if command.id != wanted.id:
        response.headers["Idempotency-Replayed"] = "true"
    return response


async def _accept(deps: deps.Deps, wanted: commands.Command, write: Write) -> commands.Command:
    """Store a new command with everything it causes, or give the one that its key already names."""
    async with deps.db.transaction() as tx:
        is_new = await store.add(tx, wanted)
        if is_new:
            await outbox.put(tx, [await write.accept(tx, wanted.id)])
        command = wanted if is_new else await store.get(tx, wanted)
    is_same = command.fingerprint == wanted.fingerprint
    KEYS.labels("new" if is_new else "replayed" if is_same else "mismatch").inc()
    if not is_same:
        raise commands.IdempotencyKeyReused
    return command


async def _settle(deps: deps.Deps, command: commands.Command, write: Write) -> commands.Answer | None:
    """Give the final answer and keep it, or None while there is none."""
    async with deps.db.statement() as tx:
        _, answer = await write.look(tx, command.id)
        # What was seen is final, so the answer may be kept by a statement of its own.
        return answer and await store.answer(tx, command, answer)


async def _pending(deps: deps.Deps, command: commands.Command, write: Write) -> JSONResponse:
    async with deps.db.statement() as tx:
        view, _ = await write.look(tx, command.id)
    return JSONResponse(view.model_dump(mode="json"), status_code=202, headers={"Retry-After": str(RETRY_AFTER_S)})


def _final(request: Request, answer: commands.Answer) -> JSONResponse:
    if answer.status < 400:
        return JSONResponse(answer.body, status_code=answer.status)
    return web.answer(request, answer.status, **answer.body)
