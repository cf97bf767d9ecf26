"""The message door of the notifier: what happened elsewhere becomes a notification, or an address to send one to.

Nothing is sent here: a message to Telegram inside a transaction would hold a row for as long as Telegram likes.
"""

from collections.abc import Sequence
from typing import get_args

from chassis import batch, broker, database, inbox
from contracts import gateway, ledger, orders, payments
from notifier import domain, store

Alert = payments.PaymentDisputed | payments.DepositReceived | payments.FindingOpened


async def learn_recipient(db: database.Database, delivery: inbox.Delivery, event: gateway.UserRegistered) -> None:
    """Remember where a new user can be reached."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.learn_recipient(tx, event.tenant, event.user_id, event.telegram_id)


async def queue_transfers(
    db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, ledger.TransferPosted]]
) -> None:
    """Queue what movements of money tell their owners; most movements tell nothing and cost nothing."""
    telling = [(delivery, drafts) for delivery, event in deliveries if (drafts := domain.of_transfer(event))]
    if not telling:
        return
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in telling])
        await store.add(tx, [one for delivery, drafts in telling if delivery.envelope.id in fresh for one in drafts])


async def queue_paid_order(db: database.Database, delivery: inbox.Delivery, event: orders.OrderPaid) -> None:
    """Queue what a paid order tells the payer and the managers."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.add(tx, domain.of_paid_order(event))


async def queue_alert(db: database.Database, delivery: inbox.Delivery, event: Alert) -> None:
    """Queue what the managers should know of money that did not go as it should."""
    async with db.transaction() as tx:
        if await inbox.claim(tx, delivery):
            await store.add(tx, _alert_of(event))


def _alert_of(event: Alert) -> list[domain.Draft]:
    match event:
        case payments.PaymentDisputed():
            return domain.of_dispute(event)
        case payments.DepositReceived():
            return domain.of_deposit(event)
        case payments.FindingOpened():
            return domain.of_finding(event)


QUEUES = (
    broker.Queue("notifier.gateway", {gateway.UserRegistered: learn_recipient}),
    broker.Queue("notifier.orders", {orders.OrderPaid: queue_paid_order}),
    broker.Queue("notifier.payments", dict.fromkeys(get_args(Alert), queue_alert)),
)
# Every movement of money comes this way, so it is taken in by the batch.
BATCH_QUEUES = (batch.BatchQueue("notifier.ledger", (ledger.TransferPosted,), queue_transfers),)
