from typing import Any

import payments.webhooks.store.webhooks
from chassis import worker_pool


async def test_a_fetch_without_a_response_delays_no_other_payment(shop: Any, sandbox: Any, client_of: Any) -> None:
    (slow_id, slow), (quick_id, quick) = await shop.pending(), await shop.pending()
    for ref in (slow, quick):
        sandbox.act(ref, "pay")
    shop.use(client_of(sandbox.yookassa_url, timeout_s=3))
    sandbox.fault("timeout_before", route=f"GET /payments/{slow}")
    await shop.send_webhook(slow)
    await shop.webhooks_pool.tick()

    await shop.send_webhook(quick)
    await shop.webhooks_pool.tick()
    await shop.until(lambda: shop.is_paid(quick_id))

    assert (await shop.payment(slow_id))["state"] == "pending"
    await shop.webhooks_pool.finish()


async def test_no_more_webhooks_are_leased_than_there_are_workers(shop: Any) -> None:
    for number in range(worker_pool.WORKERS_PER_KEY_MAX + 4):
        await shop.send_webhook(f"ref-{number}")

    begun = await shop.webhooks_pool.tick()
    await shop.webhooks_pool.finish()
    more = await shop.webhooks_pool.tick()
    await shop.webhooks_pool.finish()

    assert (begun, more) == (worker_pool.WORKERS_PER_KEY_MAX, 4)


async def test_webhooks_leased_by_a_killed_process_are_due_within_seconds_then_later_each_time(shop: Any) -> None:
    await shop.send_webhook("ref-1")
    pauses_s = []
    for _ in range(4):
        async with shop.db.transaction() as tx:
            await payments.webhooks.store.webhooks.lease(tx, limit=1, lease_s=60)
            pauses_s.append(await tx.fetchval("SELECT extract(epoch FROM next_at - now())::int FROM webhook"))
        await shop.make_due("webhook")

    assert pauses_s == [10, 20, 40, 60]


async def test_a_look_that_fails_late_does_not_wake_a_webhook_that_another_settled(shop: Any) -> None:
    await shop.send_webhook("ref-1")
    async with shop.db.transaction() as tx:
        leased = await payments.webhooks.store.webhooks.lease(tx, limit=1, lease_s=60)

    async with shop.db.transaction() as tx:
        await payments.webhooks.store.webhooks.settle(tx, leased, "applied")
        await payments.webhooks.store.webhooks.park(tx, leased, pause_s=1, is_miss=False)
        await payments.webhooks.store.webhooks.settle(tx, leased, "ignored")

    assert await shop.webhook_states() == ["applied"]
