from typing import Any

from payments import timers


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


async def test_no_more_pieces_are_leased_than_there_are_slots(shop: Any, sandbox: Any) -> None:
    for number in range(timers.SLOTS + 4):
        await shop.tell(f"ref-{number}")
    sandbox.fault("slow:300", count=timers.SLOTS)

    begun = await shop.settlements.tick()
    more = await shop.settlements.tick()
    await shop.settlements.finish()

    assert begun == timers.SLOTS
    assert 1 <= more <= 4


async def test_a_piece_that_breaks_ends_no_other() -> None:
    carried: list[int] = []
    waiting = [[1, 2, 3], []]

    async def lease(_: int) -> list[int]:
        return waiting.pop(0)

    async def carry(piece: int) -> None:
        if piece == 2:
            raise RuntimeError
        carried.append(piece)

    lane = timers.Lane(lease, carry)
    await lane.tick()
    await lane.finish()

    assert carried == [1, 3]
