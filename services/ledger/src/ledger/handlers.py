"""The message door: paid payments and commands, many in one transaction, each with an outcome of its own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

import prometheus_client

from chassis import batch, database, envelope, errors, failpoints, inbox, outbox
from contracts import payments
from ledger.domain import posted, provider, requests
from ledger.store import desk as store

CREDITS = prometheus_client.Counter("kopilka_ledger_credits_total", "Payments credited to a wallet.", ["asset"])
CREDIT_LATENCY = prometheus_client.Histogram(
    "kopilka_credit_latency_seconds",
    "From the acceptance of the provider's hint to the commit of the credit.",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60, 300),
)

Outcomes = Mapping[UUID, requests.Outcome | Exception]
"""What became of each message, by its id; nothing for those that were handled before.

An exception stands for a message that could not be settled: its claim is given back.
"""


async def settle(db: database.Database, deliveries: Sequence[batch.Delivered], *, is_ahead: bool = True) -> Outcomes:
    """Settle requests in one transaction: each is carried out or refused, and what it says is said.

    A payment is credited once for ever, whatever event carries it; a command is answered the same for ever. A credit
    that is refused is unprocessable; what is about a hold or a payment that is not there yet comes too early.
    With `is_ahead` transfers of payments are written before the locks; where one was in vain, all is made anew.
    """
    outcomes: dict[UUID, requests.Outcome | Exception] = {}
    try:
        async with db.transaction() as tx:
            fresh = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
            asked = [
                (delivery, requests.Request(message, delivery.envelope.id))
                for delivery, message in deliveries
                if delivery.envelope.id in fresh
            ]
            desk = await store.open_desk(tx, [request for _, request in asked], is_ahead=is_ahead)
            says: list[outbox.OutboxMessage] = []
            causes: list[envelope.Cause] = []
            unsettled: list[inbox.Delivery] = []
            for delivery, request in asked:
                outcome = outcomes[request.event_id] = _settle(desk, request)
                if isinstance(outcome, requests.Outcome):
                    says += outcome.events
                    causes += [delivery.envelope.cause] * len(outcome.events)
                else:
                    unsettled.append(delivery)
            await inbox.unclaim(tx, unsettled)
            rows = await store.close_desk(tx, desk, meanwhile=partial(outbox.rows_of, tx, says, causes=causes))
            await outbox.put_rows(tx, rows)
            failpoints.passed("ledger.in_transaction")
    except store.WrittenInVain:
        return await settle(db, deliveries, is_ahead=False)
    _measure([request.message for _, request in asked if _has_credited(request, outcomes[request.event_id])])
    return outcomes


BATCH_QUEUES = (
    batch.BatchQueue("ledger.payments", provider.EVENTS, settle, in_flight=2),
    batch.BatchQueue("ledger.commands", requests.COMMANDS, settle),
)


def _settle(desk: requests.Batch, request: requests.Request) -> requests.Outcome | Exception:
    try:
        settled = desk.settle(request)
    except requests.PrerequisiteMissing as too_early:
        return too_early
    if settled.refusal is not None and settled.answer is None:
        return errors.Unprocessable(settled.refusal.detail)
    return settled


def _has_credited(request: requests.Request, outcome: requests.Outcome | Exception) -> bool:
    """Tell whether this is what credited a payment, and not only told of its fee."""
    if not isinstance(request.message, payments.PaymentPaid) or not isinstance(outcome, requests.Outcome):
        return False
    return any(isinstance(said, posted.PostedTransfer) and said.transfer.kind == "top_up" for said in outcome.events)


def _measure(credited: Sequence[payments.PaymentPaid]) -> None:
    now = envelope.now()
    for asset, count in Counter(event.amount.currency for event in credited).items():
        CREDITS.labels(asset).inc(count)
    for event in credited:
        CREDIT_LATENCY.observe(max(0.0, (now - event.accepted_at).total_seconds()))
