"""Requests of an operator about one payment, by the same rules as commands.

The workers send the request to the provider; the operator's command waits a while for its outcome.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import ValidationError

import contracts.payments
from chassis import app, database, envelope, errors
from contracts.message import Money
from payments import store
from payments.domain import accounts, lifecycle
from payments.operations import context

WAIT_S, WAIT_S_MAX = 30.0, 600.0
LOOK_EVERY_S = 0.1

Command = TypeVar("Command", bound=contracts.payments.PaymentCommand)


class Outcome(NamedTuple):
    """The outcome of a request: done, refused, failed, unknown or under_way; `code` says why."""

    outcome: str
    code: str | None = None
    detail: str | None = None


Look = Callable[[database.Tx], Awaitable[Outcome | None]]


class Request(NamedTuple, Generic[Command]):
    """A request: its command for a payment, how it is stored, and how to see its outcome."""

    command: Callable[[lifecycle.Payment], Command]
    store: Callable[[database.Tx, accounts.Registry, Command], Awaitable[None]]
    look: Look


def options(service: app.Service, name: str, description: str | None) -> argparse.ArgumentParser:
    """Give the parser of a command about one payment."""
    parser = argparse.ArgumentParser(prog=f"{service.name} {name}", description=description)
    parser.add_argument("payment", type=UUID, help="our id of it")
    parser.add_argument("--wait", type=_seconds, default=WAIT_S, metavar="S", help="how long to wait for the outcome")
    return parser


async def carry_out(
    service: app.Service,
    parser: argparse.ArgumentParser,
    chosen: argparse.Namespace,
    request: Request[Command],
    **shown: str,
) -> int:
    """Store a request, wait for its outcome and print it; gives 0 when it was done, else 1."""
    async with context.opened(service) as operator:
        try:
            outcome = await _store(operator, chosen.payment, request)
        except ValidationError as error:
            parser.error(str(error.errors(include_url=False, include_input=False)[0]["msg"]))
        outcome = outcome or await _wait(operator.db, request.look, chosen.wait)
    line = {"payment_id": str(chosen.payment), **shown, **outcome._asdict()}
    sys.stdout.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    return 0 if outcome.outcome == "done" else 1


def look_for_state(
    payment_id: contracts.payments.PaymentId, op: store.attempts.Op, done: frozenset[lifecycle.State]
) -> Look:
    """Give the look that sees a request done when its payment has one of these states."""

    async def look(tx: database.Tx) -> Outcome | None:
        payment = await store.payments.read(tx, payment_id)
        if payment is not None and payment.state in done:
            return Outcome("done")
        return await failure(tx, payment_id, op)

    return look


async def failure(
    tx: database.Tx,
    payment_id: contracts.payments.PaymentId,
    op: store.attempts.Op,
    refund_id: contracts.payments.RefundId | None = None,
) -> Outcome | None:
    """Give the outcome of the latest request of a kind where it failed or is unknown; None for any other."""
    states = await store.attempts.latest(tx, payment_id)
    latest = next((state for state in states if (state.op, state.refund_id) == (op, refund_id)), None)
    if latest is None or latest.is_open or latest.outcome == "ok":
        return None
    # A request that was refused without being sent has a code too; only one that nobody answered has none.
    return Outcome("failed", latest.code) if latest.code else Outcome("unknown")


def money(payment: lifecycle.Payment, amount_minor: int | None) -> Money | None:
    """Give an amount in the payment's asset; None for none."""
    return None if amount_minor is None else payment.money(amount_minor)


async def _store(
    operator: context.OperatorContext, payment_id: contracts.payments.PaymentId, request: Request[Command]
) -> Outcome | None:
    async with operator.db.statement() as tx:
        payment = await store.payments.read(tx, payment_id)
    if payment is None:
        return Outcome("refused", "unknown_payment", "There is no such payment.")
    command = request.command(payment)
    try:
        with envelope.caused_by(envelope.Cause(payment.correlation_id, None, payment.traceparent)):
            async with operator.db.transaction() as tx:
                await request.store(tx, operator.providers.registry, command)
    except errors.Refusal as refusal:
        return Outcome("refused", refusal.code, refusal.detail)
    return None


async def _wait(db: database.Database, look: Look, wait_s: float) -> Outcome:
    for _ in range(1 + int(wait_s / LOOK_EVERY_S)):
        async with db.statement() as tx:
            outcome = await look(tx)
        if outcome is not None:
            return outcome
        await asyncio.sleep(LOOK_EVERY_S)
    return Outcome("under_way", detail="The workers go on with it; `show` tells its outcome.")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= WAIT_S_MAX:
        raise argparse.ArgumentTypeError(f"from 0 to {WAIT_S_MAX:g} seconds")
    return seconds
