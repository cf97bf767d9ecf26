"""The events of a payment keep the correlation id of the request that it began with."""

from collections.abc import Sequence

import contracts.payments
from chassis import database, envelope, outbox
from payments.domain import lifecycle


async def put(tx: database.Tx, payment: lifecycle.Payment, events: Sequence[contracts.payments.PaymentEvent]) -> None:
    """Put events of a payment into the outbox, as a part of the payment's own journey."""
    current = envelope.current_cause()
    cause = envelope.Cause(payment.correlation_id, current.causation_id, current.traceparent or payment.traceparent)
    await outbox.put(tx, events, causes=[cause] * len(events))
