from typing import Any

from chassis import worker_pool


async def test_a_fetch_without_an_answer_holds_up_no_other_payment(shop: Any, sandbox: Any, client_of: Any) -> None:
    (slow_id, slow), (quick_id, quick) = await shop.pending(), await shop.pending()
    for ref in (slow, quick):
        sandbox.act(ref, "pay")
    shop.use(client_of(sandbox.yookassa_url, timeout_s=3))
    sandbox.fault("timeout_before", route=f"GET /payments/{slow}")
    await shop.tell(slow)
    await shop.settlements.tick()

    await shop.tell(quick)
    await shop.settlements.tick()
    await shop.until(lambda: shop.is_paid(quick_id))

    assert (await shop.payment(slow_id))["state"] == "pending"
    await shop.settlements.finish()


async def test_no_more_webhooks_are_leased_than_there_are_workers(shop: Any) -> None:
    for number in range(worker_pool.WORKERS_PER_KEY_MAX + 4):
        await shop.tell(f"ref-{number}")

    begun = await shop.settlements.tick()
    await shop.settlements.finish()
    more = await shop.settlements.tick()
    await shop.settlements.finish()

    assert (begun, more) == (worker_pool.WORKERS_PER_KEY_MAX, 4)
