"""The message handler: events of payments and commands, many in one transaction, each with an outcome of its own."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import prometheus_client

from chassis import batch, database, envelope, errors, failpoints, inbox, outbox
from contracts import payments
from ledger import store
from ledger.domain import batches, posted, provider, requests

ATTEMPTS_MAX = 4

CREDITS = prometheus_client.Counter("kopilka_ledger_credits_total", "Payments credited to a wallet.", ["asset"])
CREDIT_LATENCY = prometheus_client.Histogram(
    "kopilka_credit_latency_seconds",
    "From the acceptance of the provider's webhook to the commit of the credit.",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60, 300),
)

Outcomes = Mapping[UUID, requests.Outcome | Exception]
"""The outcome of each message by its id; nothing for messages that were handled before.

An exception stands for a message that could not be settled. It is removed from the inbox, so that it can come again.
"""


async def settle(
    db: database.Database,
    deliveries: Sequence[batch.Delivered],
    *,
    prewrite: bool = True,
    attempts: int = ATTEMPTS_MAX,
) -> Outcomes:
    """Settle messages in one transaction: claim them, load what they require, decide, save.

    A payment is credited once, whichever event reports it, and the same command gets the same answer. A refused payment
    has Unprocessable as its outcome, and a message whose hold or payment is not known yet PrerequisiteMissing.

    With `prewrite` transfers of payments are written before the locks are taken; where one of them is refused after
    all, the transaction is made again without that. One that lost a race is made again too, up to so many `attempts`.
    """
    try:
        async with db.transaction() as tx:
            claimed = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
            new = [
                (delivery, requests.Request(message, delivery.envelope.id))
                for delivery, message in deliveries
                if delivery.envelope.id in claimed
            ]
            ledger_batch = await store.load(tx, [request for _, request in new], prewrite=prewrite)
            outcomes: dict[UUID, requests.Outcome | Exception] = {}
            events: list[outbox.OutboxMessage] = []
            causes: list[envelope.Cause] = []
            unsettled: list[inbox.Delivery] = []
            for delivery, request in new:
                outcome = outcomes[request.event_id] = _settle(ledger_batch, request)
                if isinstance(outcome, requests.Outcome):
                    events += outcome.events
                    causes += [delivery.envelope.cause] * len(outcome.events)
                else:
                    unsettled.append(delivery)
            await inbox.unclaim(tx, unsettled)
            await store.save(tx, ledger_batch, events, causes=causes)
            failpoints.passed("ledger.in_transaction")
    except store.PrewriteRefused:
        return await settle(db, deliveries, prewrite=False, attempts=attempts)
    except asyncpg.PostgresError as error:
        if attempts <= 1 or not database.is_transient(error):
            raise
        await asyncio.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
        return await settle(db, deliveries, prewrite=prewrite, attempts=attempts - 1)
    _measure(
        [message for delivery, message in deliveries if _has_credited(message, outcomes.get(delivery.envelope.id))]
    )
    return outcomes


BATCH_QUEUES = (
    batch.BatchQueue("ledger.payments", provider.EVENTS, settle, in_flight=2),
    batch.BatchQueue("ledger.commands", requests.COMMANDS, settle),
)


def _settle(ledger_batch: batches.Batch, request: requests.Request) -> requests.Outcome | Exception:
    try:
        outcome = ledger_batch.settle(request)
    except requests.PrerequisiteMissing as missing:
        return missing
    if outcome.refusal is not None and outcome.answer is None:
        return errors.Unprocessable(outcome.refusal.detail)
    return outcome


def _has_credited(message: requests.Message, outcome: requests.Outcome | Exception | None) -> bool:
    """Tell whether a message credited a payment, rather than adding the fee of one that was credited before."""
    if not isinstance(message, payments.PaymentPaid) or not isinstance(outcome, requests.Outcome):
        return False
    return any(isinstance(event, posted.PostedTransfer) and event.transfer.kind == "top_up" for event in outcome.events)


def _measure(credited: Sequence[payments.PaymentPaid]) -> None:
    now = envelope.now()
    for asset, count in Counter(event.amount.currency for event in credited).items():
        CREDITS.labels(asset).inc(count)
    for event in credited:
        CREDIT_LATENCY.observe(max(0.0, (now - event.accepted_at).total_seconds()))
