import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from payments.timers import lane as lanes


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


async def test_no_more_pieces_are_leased_than_there_are_slots(shop: Any) -> None:
    for number in range(lanes.SLOTS_OF_PROVIDER + 4):
        await shop.tell(f"ref-{number}")

    begun = await shop.settlements.tick()
    await shop.settlements.finish()
    more = await shop.settlements.tick()
    await shop.settlements.finish()

    assert (begun, more) == (lanes.SLOTS_OF_PROVIDER, 4)


async def test_a_piece_that_breaks_ends_no_other() -> None:
    carried: list[int] = []
    waiting = [[1, 2, 3], []]

    async def lease(_: int, busy: Sequence[str]) -> list[int]:
        return waiting.pop(0)

    async def carry(piece: int) -> None:
        if piece == 2:
            raise RuntimeError
        carried.append(piece)

    lane = lanes.Lane(lease, carry, of=str)
    await lane.tick()
    await lane.finish()

    assert carried == [1, 3]


@pytest.mark.rule("PA21")
async def test_a_provider_that_is_down_delays_only_its_own_payments() -> None:
    due = {"down": list(range(100)), "well": list(range(100))}
    carried: list[str] = []
    mended = asyncio.Event()

    async def lease(limit: int, busy: Sequence[str]) -> list[str]:
        taken: list[str] = []
        for provider in ("down", "well"):  # what waits longest comes first
            while due[provider] and provider not in busy and len(taken) < limit:
                due[provider].pop()
                taken.append(provider)
        return taken

    async def carry(provider: str) -> None:
        if provider == "down":
            await mended.wait()
        carried.append(provider)

    lane = lanes.Lane(lease, carry, of=str)
    async with asyncio.timeout(5):
        while due["well"]:
            await lane.tick()
            await asyncio.sleep(0)

    assert set(carried) == {"well"}
    assert len(due["down"]) == 100 - lanes.SLOTS_OF_PROVIDER
    mended.set()
    await lane.finish()
