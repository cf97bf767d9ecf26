"""What an operator asks of a provider about one payment, by the same rules as whoever sends a command.

What was asked for is carried out by the workers; the operator waits a while for what becomes of it.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from chassis import app, database, envelope
from contracts import payments
from contracts.message import Money
from payments import clients
from payments.domain import payment
from payments.domain import refund as refunds
from payments.domain.conflict import Refused
from payments.handlers import commands
from payments.operations import desk
from payments.store import attempts
from payments.store import payments as store
from payments.store import refunds as refund_store

if TYPE_CHECKING:
    pass

WAIT_S, WAIT_S_MAX = 30.0, 600.0
LOOK_EVERY_S = 0.1


Begin = Callable[[database.Tx, clients.Accounts, Any], Awaitable[None]]


class Asking(NamedTuple):
    """What is asked for: the command for a payment, the rules that it begins by, and how to see what became of it."""

    command: Callable[[payment.Payment], payments.PaymentCommand]
    begin: Begin
    look: "Look"


class Outcome(NamedTuple):
    """What became of it: done, refused, failed, unknown or under_way; `code` says why not."""

    outcome: str
    code: str | None = None
    detail: str | None = None


Look = Callable[[database.Tx], Awaitable[Outcome | None]]


async def refund(service: app.Service, arguments: Sequence[str]) -> int:
    """Give money back, all that is left or an amount; gives 0 when it went back, 1 when not, or not yet."""
    options = _options(service, "refund", refund.__doc__)
    options.add_argument("--amount", type=int, metavar="MINOR", help="in minor units; all that is left by default")
    options.add_argument("--reason", help="a word for the provider; no personal data")
    chosen = options.parse_args(arguments)
    refund_id = payments.RefundId(envelope.uuid7())

    def ask(known: payment.Payment) -> payments.RefundPayment:
        return payments.RefundPayment(
            tenant=known.tenant,
            payment_id=known.payment_id,
            refund_id=refund_id,
            amount=_money(known, chosen.amount),
            reason=chosen.reason,
        )

    async def look(tx: database.Tx) -> Outcome | None:
        asked = await refund_store.read(tx, refund_id)
        if asked is not None and asked.state is refunds.State.SUCCEEDED:
            return Outcome("done")
        failure = await _failure(tx, chosen.payment, "refund", refund_id)
        is_over = asked is not None and asked.state is refunds.State.CANCELED
        return failure or (Outcome("failed") if is_over else None)

    asking = Asking(ask, commands.begin_refund, look)
    return await _act(service, options, chosen, asking, refund_id=str(refund_id))


async def capture(service: app.Service, arguments: Sequence[str]) -> int:
    """Take what a payment holds, or an amount of it; gives 0 when it was taken, 1 when not, or not yet."""
    options = _options(service, "capture", capture.__doc__)
    options.add_argument("--amount", type=int, metavar="MINOR", help="in minor units; all that is held by default")
    chosen = options.parse_args(arguments)

    def ask(known: payment.Payment) -> payments.CapturePayment:
        amount = _money(known, chosen.amount)
        return payments.CapturePayment(tenant=known.tenant, payment_id=known.payment_id, amount=amount)

    look = _look(chosen.payment, "capture", payment.SETTLED)
    return await _act(service, options, chosen, Asking(ask, commands.begin_capture, look))


async def cancel(service: app.Service, arguments: Sequence[str]) -> int:
    """Let go of what a payment holds; gives 0 when it was let go, 1 when not, or not yet."""
    options = _options(service, "cancel", cancel.__doc__)
    chosen = options.parse_args(arguments)

    def ask(known: payment.Payment) -> payments.CancelPayment:
        return payments.CancelPayment(tenant=known.tenant, payment_id=known.payment_id)

    look = _look(chosen.payment, "cancel", frozenset({payment.State.CANCELED}))
    return await _act(service, options, chosen, Asking(ask, commands.begin_cancel, look))


async def _act(
    service: app.Service,
    options: argparse.ArgumentParser,
    chosen: argparse.Namespace,
    asking: Asking,
    **told: str,
) -> int:
    async with desk.opened(service) as opened:
        try:
            outcome = await _begin(opened, chosen.payment, asking)
        except ValidationError as error:
            options.error(str(error.errors(include_url=False, include_input=False)[0]["msg"]))
        outcome = outcome or await _wait(opened.db, asking.look, chosen.wait)
    line = {"payment_id": str(chosen.payment), **told, **outcome._asdict()}
    sys.stdout.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    return 0 if outcome.outcome == "done" else 1


async def _begin(opened: desk.Desk, payment_id: payments.PaymentId, asking: Asking) -> Outcome | None:
    async with opened.db.statement() as tx:
        known = await store.read(tx, payment_id)
    if known is None:
        return Outcome("refused", "unknown_payment", "There is no such payment.")
    command = asking.command(known)
    try:
        with envelope.caused_by(envelope.Cause(known.correlation_id, None, known.traceparent)):
            async with opened.db.transaction() as tx:
                await asking.begin(tx, opened.accounts, command)
    except Refused as refused:
        return Outcome("refused", refused.code, refused.detail)
    return None


async def _wait(db: database.Database, look: Look, wait_s: float) -> Outcome:
    for _ in range(1 + int(wait_s / LOOK_EVERY_S)):
        async with db.statement() as tx:
            outcome = await look(tx)
        if outcome is not None:
            return outcome
        await asyncio.sleep(LOOK_EVERY_S)
    return Outcome("under_way", detail="The workers go on with it; `show` tells what becomes of it.")


def _look(payment_id: payments.PaymentId, op: attempts.Op, done: frozenset[payment.State]) -> Look:
    async def look(tx: database.Tx) -> Outcome | None:
        known = await store.read(tx, payment_id)
        if known is not None and known.state in done:
            return Outcome("done")
        return await _failure(tx, payment_id, op, None)

    return look


async def _failure(
    tx: database.Tx, payment_id: payments.PaymentId, op: attempts.Op, refund_id: payments.RefundId | None
) -> Outcome | None:
    """Tell whether the latest request of a kind will not be carried out, or nobody knows whether it was."""
    requests = await attempts.latest(tx, payment_id)
    latest = next((one for one in requests if (one.op, one.refund_id) == (op, refund_id)), None)
    if latest is None or latest.is_open or latest.outcome == "ok":
        return None
    # What was refused without being sent has a code too; only what nobody answered has none.
    return Outcome("failed", latest.code) if latest.code else Outcome("unknown")


def _options(service: app.Service, name: str, words: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=f"{service.name} {name}", description=words)
    options.add_argument("payment", type=UUID, help="our id of it")
    options.add_argument("--wait", type=_seconds, default=WAIT_S, metavar="S", help="how long to wait for the outcome")
    return options


def _seconds(written: str) -> float:
    seconds = float(written)
    if not 0 <= seconds <= WAIT_S_MAX:
        raise argparse.ArgumentTypeError(f"from 0 to {WAIT_S_MAX:g} seconds")
    return seconds


def _money(known: payment.Payment, amount_minor: int | None) -> Money | None:
    return None if amount_minor is None else Money(amount_minor=amount_minor, currency=known.amount.currency)
