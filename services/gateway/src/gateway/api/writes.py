"""Writes: a request is stored with its command in one transaction, then waits for the answer.

An accepted request is carried out whatever happens to the broker or to this process, and its repetition is the same
request. A route has three steps: `command_of`, `claim` in its transaction, `respond`.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel

from chassis import database, envelope, telemetry, web
from gateway import store
from gateway.api import deps
from gateway.domain import commands, sessions

RETRY_AFTER_S = 1

KEYS = Counter("kopilka_idempotency_total", "Writes by their key: new, replayed, mismatch.", ["result"])

Read = Callable[[database.Tx, commands.Command], Awaitable[tuple[BaseModel, commands.Answer | None]]]
"""Returns the read model that a command has made, and its final answer once there is one."""


def command_of(request: Request, session: sessions.Session, body: BaseModel, *, operation: str) -> commands.Command:
    """Return the command that a request asks for, under a new id.

    Raises IdempotencyKeyRequired or IdempotencyKeyInvalid.
    """
    return commands.Command(
        id=envelope.uuid7(),
        tenant=session.tenant,
        user_id=session.user_id,
        operation=operation,
        key=commands.key_of(request.headers.getlist("idempotency-key")),
        fingerprint=commands.fingerprint_of(body),
    )


async def claim(tx: database.Tx, command: commands.Command) -> commands.Command:
    """Store a new command, or return the one that was accepted under its key before, marked as a replay.

    Raises IdempotencyKeyReused when that one came with another body.
    """
    if await store.add_command(tx, command):
        database.on_commit(tx, KEYS.labels("new").inc)
        return command
    accepted = await store.get_command(tx, command)
    if accepted.fingerprint != command.fingerprint:
        KEYS.labels("mismatch").inc()
        raise commands.IdempotencyKeyReused
    KEYS.labels("replayed").inc()
    return accepted


async def respond(deps: deps.Deps, request: Request, command: commands.Command, read: Read) -> JSONResponse:
    """Wait for the final answer to a command and return it, or 202 with what `read` shows when the wait is over.

    The first final answer is stored: every repetition gets that one.
    """
    answer, shown = command.answer, None
    wait_s = commands.wait_of(request.headers.getlist("prefer"), default_s=deps.settings.wait_s)
    with deps.wakeups.waiting(command.id, timeout_s=wait_s) as waiter:
        while answer is None and await waiter.next():
            async with deps.db.statement() as tx:
                shown, answer = await read(tx, command)
                if answer is not None:
                    # What was read is final, so the answer may be stored by a statement of its own.
                    answer = await store.keep_answer(tx, command, answer)
    telemetry.log.info(
        "gateway.write.done", operation=command.operation, id=str(command.id), is_answered=answer is not None
    )
    response = _final(request, answer) if answer is not None else _pending(shown)
    response.headers["Location"] = f"{request.url.path}/{command.id}"
    if command.is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _pending(shown: BaseModel | None) -> JSONResponse:
    assert shown is not None  # a waiter lets its request read at least once
    return JSONResponse(shown.model_dump(mode="json"), status_code=202, headers={"Retry-After": str(RETRY_AFTER_S)})


def _final(request: Request, answer: commands.Answer) -> JSONResponse:
    if answer.status < 400:
        return JSONResponse(answer.body, status_code=answer.status)
    fields = dict(answer.body)
    return web.answer(request, answer.status, str(fields.pop("code")), str(fields.pop("detail")), **fields)
