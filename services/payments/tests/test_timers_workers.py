from typing import Any

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
