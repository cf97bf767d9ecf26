"""Keeps the ledger's balances of clearing accounts, for the comparison with our payments."""

from collections.abc import Sequence

import contracts.ledger
from chassis import database, inbox
from payments import reconciliation


async def follow_clearing(
    db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, contracts.ledger.TransferPosted]]
) -> None:
    """Save the latest balance of each clearing account that a batch of transfers moved; most move none."""
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        events = [event for delivery, event in deliveries if delivery.envelope.id in fresh]
        balances = reconciliation.domain.clearing.latest_balances(events)
        await reconciliation.store.clearing_balances.save(tx, balances)
