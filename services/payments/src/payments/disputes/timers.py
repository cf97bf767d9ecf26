"""Settles disputes by what the provider tells."""

from chassis import database
from payments import disputes, store
from payments.domain import accounts, facts, lifecycle


async def settle(
    tx: database.Tx, payment: lifecycle.Payment, *, account: accounts.Account, fact: facts.DisputeFact
) -> tuple[lifecycle.Payment, lifecycle.Events, bool]:
    """Apply a fact that opens or closes a dispute, and save the dispute.

    Gives the payment after it, the events to publish, and whether anything changed. Raises FactMismatchError.
    """
    dispute = await disputes.store.read(tx, payment, fact.dispute_ref)
    changed, settled, events = disputes.domain.apply(payment, dispute, fact, account.disputes)
    if settled == dispute:
        return changed, events, False
    await disputes.store.save(tx, settled)
    if dispute is None and settled.state == "open":
        details: dict[str, object] = {
            **fact.amount.model_dump(mode="json"),
            "reason": fact.reason,
            "due_by": fact.due_by.isoformat() if fact.due_by else None,
            "policy": account.disputes,
        }
        about = settled.dispute_ref
        await store.findings.open_for(tx, payment, "dispute_opened", details, account=account, about=about)
    return changed, events, True
