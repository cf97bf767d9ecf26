"""Builders of messages, helpers that settle them, and queries of the books by SQL of their own."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from chassis import database, envelope, inbox, retries, testing
from contracts import ledger, payments
from contracts.message import Currency, Message, Money, TenantId, UserId
from ledger import handlers
from ledger.domain import accounts, requests

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))
OTHER = UserId(UUID(int=2))
WALLET = f"user:{USER}:wallet"
POINTS = f"user:{USER}:points"
CLEARING = "clearing:yookassa:demo"


def paid(amount_minor: int = 500, asset: Currency = "RUB", **changes: Any) -> payments.PaymentPaid:
    """Build a payment of one user that was just paid."""
    return payments.PaymentPaid(
        tenant=DEMO,
        payment_id=payments.PaymentId(uuid4()),
        user_id=USER,
        purpose="top_up",
        provider="yookassa",
        amount=Money(amount_minor=amount_minor, currency=asset),
        version=2,
        provider_account="demo",
        provider_ref="ref",
        paid_at=envelope.now(),
        accepted_at=envelope.now(),
    ).model_copy(update=changes)


def place(amount_minor: int, *, also: int | None = None, lasts_s: float = 900, **changes: Any) -> ledger.PlaceHold:
    """Build a hold of roubles, and of points where `also` is given."""
    return ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(uuid4()),
        user_id=USER,
        amount=Money(amount_minor=amount_minor, currency="RUB"),
        reference="order:1",
        expires_at=envelope.now() + timedelta(seconds=lasts_s),
        also=None if also is None else Money(amount_minor=also, currency="PTS"),
    ).model_copy(update=changes)


def capture(hold: ledger.PlaceHold, amount_minor: int, *, part: int = 0, keeps: bool = False) -> ledger.CaptureHold:
    """Build a capture; `part` numbers several of one hold."""
    capture_id = UUID(int=hold.hold_id.int ^ part) if part else None
    return ledger.CaptureHold(
        tenant=hold.tenant, hold_id=hold.hold_id, amount_minor=amount_minor, capture_id=capture_id, keep_rest=keeps
    )


def release(hold: ledger.PlaceHold) -> ledger.ReleaseHold:
    """Build a release."""
    return ledger.ReleaseHold(tenant=hold.tenant, hold_id=hold.hold_id)


def extend(hold: ledger.PlaceHold, seconds: float) -> ledger.ExtendHold:
    """Build an extension."""
    expires_at = hold.expires_at + timedelta(seconds=seconds)
    return ledger.ExtendHold(tenant=hold.tenant, hold_id=hold.hold_id, expires_at=expires_at)


def leg(
    account: str, amount_minor: int, asset: Currency = "RUB", *, expires_at: datetime | None = None
) -> ledger.RequestedLeg:
    """Build one leg of a requested transfer."""
    return ledger.RequestedLeg(account=account, asset=asset, amount_minor=amount_minor, expires_at=expires_at)


def transfer(
    *legs: ledger.RequestedLeg, kind: ledger.RequestedKind = "adjustment", occurred_at: datetime | None = None
) -> ledger.RequestedTransfer:
    """Build one requested transfer."""
    return ledger.RequestedTransfer(kind=kind, reference="order:1", legs=legs, occurred_at=occurred_at)


def post(*transfers: ledger.RequestedTransfer, key: str | None = None) -> ledger.PostTransfers:
    """Build a command that posts a group of transfers."""
    return ledger.PostTransfers(tenant=DEMO, request_id=key or str(uuid4()), transfers=transfers)


def grant(
    amount_minor: int, *, lasts_s: float | None = None, user_id: UserId = USER, asset: Currency = "PTS"
) -> ledger.PostTransfers:
    """Build a grant of points, in a lot that expires or, without `lasts_s`, never does."""
    expires_at = None if lasts_s is None else envelope.now() + timedelta(seconds=lasts_s)
    account = f"user:{user_id}:points"
    legs = (leg("promotion", -amount_minor, asset), leg(account, amount_minor, asset, expires_at=expires_at))
    return post(transfer(*legs, kind="grant"))


def spend(amount_minor: int, *, asset: Currency = "PTS", account: str = POINTS) -> ledger.PostTransfers:
    """Build a purchase without a hold."""
    return post(transfer(leg(account, -amount_minor, asset), leg("revenue", amount_minor, asset), kind="spend"))


def send(
    amount_minor: int,
    *,
    source: UserId = USER,
    destination: UserId = OTHER,
    key: str | None = None,
    asset: Currency = "RUB",
) -> ledger.TransferFunds:
    """Build a transfer from one user to another."""
    return ledger.TransferFunds(
        tenant=DEMO,
        request_id=key or str(uuid4()),
        from_user_id=source,
        to_user_id=destination,
        amount=Money(amount_minor=amount_minor, currency=asset),
        reference="gift",
    )


def reverse(
    transfer_id: ledger.TransferId, amount_minor: int | None = None, *, key: str | None = None
) -> ledger.ReverseTransfer:
    """Build a reversal of a transfer or of a part of it."""
    return ledger.ReverseTransfer(
        tenant=DEMO,
        request_id=key or str(uuid4()),
        transfer_id=transfer_id,
        reference="refund:1",
        amount_minor=amount_minor,
    )


def account_command(
    command_type: type[ledger.AccountCommand], account: str = WALLET, asset: Currency = "RUB", **more: Any
) -> accounts.CommandOnAccount:
    """Build a command on an account."""
    request_id = more.pop("key", None) or str(uuid4())
    command = command_type(tenant=DEMO, request_id=request_id, account=account, asset=asset, **more)
    return cast("accounts.CommandOnAccount", command)


async def deliver(db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, Any]]) -> handlers.Outcomes:
    """Settle a batch as the consumer does: a lost race is retried at once."""
    outcomes: list[handlers.Outcomes] = []

    async def attempt() -> None:
        outcomes.append(await handlers.settle(db, deliveries))

    await retries.FailurePolicy(db, cast("Any", None)).with_retries(attempt)
    return outcomes[-1]


def failed(outcomes: handlers.Outcomes) -> dict[UUID, Exception]:
    """Return the messages that could not be settled, and the reasons."""
    return {event_id: outcome for event_id, outcome in outcomes.items() if isinstance(outcome, Exception)}


async def settle(db: database.Database, *messages: Message) -> list[requests.Outcome]:
    """Settle messages in one transaction; returns their outcomes. Raises the exception that one of them has."""
    deliveries = [(testing.delivery_of(message, "ledger.commands"), message) for message in messages]
    outcomes = await deliver(db, deliveries)
    settled = []
    for delivery, _ in deliveries:
        outcome = outcomes[delivery.envelope.id]
        if isinstance(outcome, Exception):
            raise outcome
        settled.append(outcome)
    return settled


async def answer_to(db: database.Database, message: Message) -> Any:
    """Settle one message in a transaction of its own; returns its answer, None for a payment."""
    (settled,) = await settle(db, message)
    return settled.answer


async def refusal_code(db: database.Database, command: Message) -> str | None:
    """Settle a command; returns the code of its refusal, None when it succeeded."""
    return getattr(await answer_to(db, command), "code", None)


async def posted(db: database.Database, command: Message) -> ledger.TransferId:
    """Settle a command that posts one transfer; returns the transfer's id."""
    answer = await answer_to(db, command)
    if isinstance(answer, ledger.HoldCaptured):
        return answer.transfer_id
    assert isinstance(answer, ledger.RequestPosted), answer
    return answer.transfer_ids[0]


async def rows(db: database.Database, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of one statement."""
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(sql, *values)]


async def balance_and_held(db: database.Database, account: str = WALLET, asset: Currency = "RUB") -> tuple[int, int]:
    """Return balance and held of an account; zeros when it was never opened."""
    sql = "SELECT balance_minor, held_minor FROM account WHERE (tenant, code, asset) = ('demo', $1, $2)"
    found = await rows(db, sql, account, asset)
    return (found[0][0], found[0][1]) if found else (0, 0)


async def lots(db: database.Database, account: str = POINTS, asset: Currency = "PTS") -> list[tuple[int, int]]:
    """Return what is left and held of an account's unspent lots, the first to expire first."""
    sql = """
    SELECT left_minor, lot.held_minor FROM lot JOIN account ON account.id = account_id
    WHERE code = $1 AND asset = $2 AND left_minor > 0 ORDER BY expires_at NULLS LAST, lot.id
    """
    return [(left, held) for left, held in await rows(db, sql, account, asset)]


async def pass_time(administrator: Any, seconds: float) -> None:
    """Move the ends of all holds and lots closer, as if time had passed."""
    for table in ("hold", "lot"):
        await administrator.execute(f"UPDATE {table} SET expires_at = expires_at - $1::interval", timedelta(0, seconds))
