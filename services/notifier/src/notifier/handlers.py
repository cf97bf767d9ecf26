"""The message handlers: events become notifications, or the chat to send them to.

Nothing is sent here: a call to Telegram inside a transaction would hold row locks for as long as it takes.
"""

from collections.abc import Sequence
from typing import assert_never, get_args

from chassis import batch, broker, database, inbox
from contracts import gateway, ledger, orders, payments
from notifier import store
from notifier.domain import templates

Alert = payments.PaymentDisputed | payments.RefundReversed | payments.DepositReceived | payments.FindingOpened
Ended = payments.PaymentFailed | payments.PaymentCanceled


async def save_recipient(db: database.Database, delivery: inbox.Delivery, event: gateway.UserRegistered) -> None:
    """Store the chat of a new user."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.save_recipient(tx, event.tenant, event.user_id, event.telegram_id, event.language)


async def queue_transfers(
    db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, ledger.TransferPosted]]
) -> None:
    """Queue notifications of transfers for their owners; a batch without any needs no transaction."""
    relevant = [(delivery, drafts) for delivery, event in deliveries if (drafts := templates.of_transfer(event))]
    if not relevant:
        return
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in relevant])
        await store.add(
            tx, [draft for delivery, drafts in relevant if delivery.envelope.id in fresh for draft in drafts]
        )


async def queue_paid_order(db: database.Database, delivery: inbox.Delivery, event: orders.OrderPaid) -> None:
    """Queue notifications of a paid order for the payer and the managers."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.add(tx, templates.of_paid_order(event))


async def queue_alert(db: database.Database, delivery: inbox.Delivery, event: Alert) -> None:
    """Queue a notification of a dispute, a failed refund, a deposit or a finding for the managers."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.add(tx, _drafts_of(event))


async def queue_ended_payment(db: database.Database, delivery: inbox.Delivery, event: Ended) -> None:
    """Queue a notification for the payer of a payment that did not happen, where no page could tell them."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            language = await store.language_of(tx, event.tenant, event.user_id)
            await store.add(tx, templates.of_ended_payment(event, language, at=delivery.envelope.time))


def _drafts_of(event: Alert) -> list[templates.Draft]:
    match event:
        case payments.PaymentDisputed():
            return templates.of_dispute(event)
        case payments.RefundReversed():
            return templates.of_reversed_refund(event)
        case payments.DepositReceived():
            return templates.of_deposit(event)
        case payments.FindingOpened():
            return templates.of_finding(event)
        case _:
            assert_never(event)


QUEUES = (
    broker.Queue("notifier.gateway", {gateway.UserRegistered: save_recipient}),
    broker.Queue("notifier.orders", {orders.OrderPaid: queue_paid_order}),
    broker.Queue(
        "notifier.payments",
        {**dict.fromkeys(get_args(Alert), queue_alert), **dict.fromkeys(get_args(Ended), queue_ended_payment)},
    ),
)
# Every transfer comes through this queue, so it is consumed in batches.
BATCH_QUEUES = (batch.BatchQueue("notifier.ledger", (ledger.TransferPosted,), queue_transfers),)
