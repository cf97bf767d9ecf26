"""Settles disputes by what the provider tells."""

from chassis import database
from payments import disputes
from payments.domain import facts, lifecycle


async def settle(
    tx: database.Tx, payment: lifecycle.Payment, *, fact: facts.DisputeFact
) -> tuple[lifecycle.Payment, lifecycle.Events, bool]:
    """Apply a fact that opens or closes a dispute, and save the dispute.

    Gives the payment after it, the events to publish, and whether anything changed. Raises FactMismatchError.
    """
    dispute = await disputes.store.read(tx, payment, fact.dispute_ref)
    changed, settled, events = disputes.domain.apply(payment, dispute, fact)
    if settled == dispute:
        return changed, events, False
    await disputes.store.save(tx, settled)
    return changed, events, True
