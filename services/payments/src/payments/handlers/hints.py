"""Hints that settle nothing yet: they wait, and those that waited too long become findings."""

from collections.abc import Sequence

from chassis import database
from payments.domain import schedule
from payments.store import findings, webhooks


async def postpone(db: database.Database, hints: Sequence[webhooks.Webhook]) -> None:
    """Let hints wait whose payment could not be fetched; those that waited for days become findings."""
    async with db.transaction() as tx:
        stale = [hint for hint in hints if hint.age > schedule.HINT_LIFETIME]
        await _orphan(tx, stale, "webhook_never_fetched")
        if fresh := [hint for hint in hints if hint not in stale]:
            rest_s = schedule.fetch_rest_s(max(hint.attempts for hint in fresh))
            await webhooks.park(tx, fresh, rest_s=rest_s, is_miss=False)


async def park_unknown(db: database.Database, hints: Sequence[webhooks.Webhook]) -> None:
    """Let hints wait that belong to no payment of ours; after some looks they become findings."""
    async with db.transaction() as tx:
        for hint in hints:
            rest_s = schedule.unknown_ref_rest_s(hint.misses + 1)
            if rest_s is None:
                await _orphan(tx, [hint], "orphan_webhook")
            else:
                await webhooks.park(tx, [hint], rest_s=rest_s, is_miss=True)


async def _orphan(tx: database.Tx, hints: Sequence[webhooks.Webhook], kind: str) -> None:
    await webhooks.settle(tx, hints, "orphan")
    for hint in hints:
        await findings.open_finding(
            tx,
            tenant=hint.tenant,
            kind=kind,
            details={"provider_ref": hint.provider_ref},
            webhook_id=hint.webhook_id,
            provider=hint.provider,
            account=hint.account,
        )
