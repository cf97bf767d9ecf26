"""What the ledger tells of its clearing accounts, kept for the comparison with what we said that moved."""

from collections.abc import Sequence

from chassis import database, inbox
from contracts import ledger
from payments.domain import clearing
from payments.store import clearing as store


async def follow_clearing(
    db: database.Database, deliveries: Sequence[tuple[inbox.Delivery, ledger.TransferPosted]]
) -> None:
    """Keep the latest balance of each clearing account that many transfers moved; most move none."""
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in deliveries])
        events = [event for delivery, event in deliveries if delivery.envelope.id in fresh]
        await store.keep(tx, clearing.latest(events))
