"""The message door: paid payments in batches, commands on holds one by one; one function, one transaction."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import prometheus_client

from chassis import batch, broker, database, envelope, failpoints, inbox, ladder, outbox
from contracts import ledger, payments
from ledger import store
from ledger.domain import books, holds

CREDITS = prometheus_client.Counter("kopilka_ledger_credits_total", "Payments credited to a wallet.", ["asset"])
CREDIT_LATENCY = prometheus_client.Histogram(
    "kopilka_credit_latency_seconds",
    "From the acceptance of the provider's hint to the commit of the credit.",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60, 300),
)

Paid = tuple[inbox.Delivery, payments.PaymentPaid]


class UnknownHold(Exception):  # noqa: N818 - a state of the command, not a failure of ours
    """Nobody asked for this hold yet. Its PlaceHold may be on the retry ladder, so what follows it climbs it too."""


class _Credit(NamedTuple):
    delivery: inbox.Delivery
    event: payments.PaymentPaid
    top_up: books.TopUp


async def credit_wallets(db: database.Database, deliveries: Sequence[Paid]) -> None:
    """Credit paid payments to their payers' wallets, each payment once for ever, whatever event carries it.

    Raises Hopeless when a balance would no longer fit its account; the intake then handles the batch one by one.
    """
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        asked = _one_per_payment(item for item in deliveries if item[0].envelope.id in fresh)
        new = await store.add_transfers(tx, [credit.top_up.transfer for credit in asked])
        credits_ = [credit for credit in asked if credit.top_up.transfer.id in new]
        if credits_:
            await _post(tx, credits_)
        failpoints.passed("ledger.in_transaction")
    _measure([credit.event for credit in credits_])


async def place_hold(db: database.Database, delivery: inbox.Delivery, command: ledger.PlaceHold) -> None:
    """Set a user's money aside or refuse it; the same hold id gets the same answer for ever."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        hold = await store.find_or_reserve_hold(tx, command.tenant, command.hold_id)
        if hold is not None:
            await outbox.put(tx, [holds.answer_again(hold, command)])
            return
        name = books.wallet(command.tenant, command.user_id, command.amount.currency).name
        book = await store.lock_accounts(tx, [name])
        hold = holds.place(book, command, at=await store.clock(tx))
        await store.close_books(tx, book)
        await store.add_hold(tx, hold)
        await outbox.put(tx, [hold.answer])


async def capture_hold(db: database.Database, delivery: inbox.Delivery, command: ledger.CaptureHold) -> None:
    """Turn a hold into revenue and release the rest, or refuse. Raises UnknownHold."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        hold = await _locked_hold(tx, command)
        book = await store.open_books(tx, [hold.wallet, hold.revenue])
        captured = holds.capture(
            book,
            hold,
            command.amount_minor,
            transfer_id=ledger.TransferId(envelope.uuid7()),
            event_id=delivery.envelope.id,
            at=await store.clock(tx),
        )
        if captured.transfer is not None:
            await store.add_transfers(tx, [captured.transfer])
            await store.close_books(tx, book)
            await store.end_holds(tx, [captured.hold])
        await outbox.put(tx, captured.messages)


async def release_hold(db: database.Database, delivery: inbox.Delivery, command: ledger.ReleaseHold) -> None:
    """Give a hold back to its owner; one that has ended says again how it ended. Raises UnknownHold."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        hold = await _locked_hold(tx, command)
        book = await store.lock_accounts(tx, [hold.wallet.name])
        ended, event = holds.release(book, hold, at=await store.clock(tx))
        if ended is not hold:
            await store.close_books(tx, book)
            await store.end_holds(tx, [ended])
        await outbox.put(tx, [event])


QUEUES = (
    broker.Queue(
        "ledger.commands",
        {ledger.PlaceHold: place_hold, ledger.CaptureHold: capture_hold, ledger.ReleaseHold: release_hold},
    ),
)
INTAKES = (batch.Intake("ledger.payments", (payments.PaymentPaid, payments.PaymentPaidLate), credit_wallets),)


def _one_per_payment(items: Iterable[Paid]) -> list[_Credit]:
    """Give the first of each payment: one batch may carry the same payment twice, by one event or by two."""
    credits_: dict[tuple[str, str], _Credit] = {}
    for delivery, event in items:
        top_up = books.top_up(event, transfer_id=ledger.TransferId(envelope.uuid7()), event_id=delivery.envelope.id)
        credits_.setdefault((event.tenant, top_up.transfer.source_key), _Credit(delivery, event, top_up))
    return list(credits_.values())


async def _post(tx: database.Tx, credits_: Sequence[_Credit]) -> None:
    top_ups = [credit.top_up for credit in credits_]
    book = await store.open_books(tx, {opening for top_up in top_ups for opening in (top_up.clearing, top_up.wallet)})
    try:
        posted = [book.post(top_up.transfer, top_up.legs) for top_up in top_ups]
    except books.BalanceOutOfRange as refusal:
        raise ladder.Hopeless(refusal.detail) from refusal
    await store.close_books(tx, book)
    await outbox.put(tx, posted, causes=[credit.delivery.envelope.cause for credit in credits_])


async def _locked_hold(tx: database.Tx, command: ledger.CaptureHold | ledger.ReleaseHold) -> holds.Hold:
    hold = await store.lock_hold(tx, command.tenant, command.hold_id)
    if hold is None:
        raise UnknownHold(command.subject)
    return hold


def _measure(credited: Sequence[payments.PaymentPaid]) -> None:
    now = envelope.now()
    for asset, count in Counter(event.amount.currency for event in credited).items():
        CREDITS.labels(asset).inc(count)
    for event in credited:
        CREDIT_LATENCY.observe(max(0.0, (now - event.accepted_at).total_seconds()))
