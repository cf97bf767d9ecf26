"""A provider that is down, through the real pools: it delays its own payments, and is called with growing pauses."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import fake_providers
import pytest

import contracts.payments
from chassis import worker_pool
from contracts.message import Money
from payments import clients
from payments.domain import accounts, facts

PAYMENTS = 3 * worker_pool.WORKERS_PER_KEY_MAX


class Down(fake_providers.FakeProvider):
    """A provider that gives no answer until the call's time is over; mended, it is like any other."""

    def __init__(self, account: accounts.Account, *, timeout_s: float) -> None:
        super().__init__(account)
        self._timeout_s = timeout_s
        self.is_down = False
        self.answers_again = asyncio.Event()
        self.under_way = 0
        self.given_up = 0

    async def fetch(self, provider_ref: str) -> facts.Fact:
        await self._hang()
        return await super().fetch(provider_ref)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        await self._hang()
        return await super().create(order, key=key)

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        await self._hang()
        return await super().fetch_refunds(provider_ref)

    async def _hang(self) -> None:
        if not self.is_down:
            return
        self.under_way += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self.answers_again.wait()
        self.under_way -= 1
        self.given_up += 1
        raise clients.OutcomeUnknown("no answer in time")


def opened(
    fake_shop: Any, fake_provider: fake_providers.FakeProvider, account: accounts.Account, *, timeout_s: float
) -> Down:
    """Let the shop take payments with a second provider too."""
    down = Down(replace(account, provider="stripe"), timeout_s=timeout_s)
    fake_shop.providers = clients.Providers([fake_provider, down])
    fake_shop.restart()
    return down


async def send_webhook(fake_shop: Any, ref: str) -> None:
    body = json.dumps({"ref": ref, "key": ref})
    await fake_shop.post("/webhooks/stripe/demo", body, x_fake_provider=fake_providers.SECRET)


async def waiting(fake_shop: Any, down: Down) -> list[Any]:
    """Give payments of the second provider: paid, with webhooks, just before it went down, and requested after."""
    made = [await fake_shop.request(provider="stripe") for _ in range(PAYMENTS)]
    await fake_shop.send_attempts()
    for ref in list(down.payments):
        down.pay(ref)
        await send_webhook(fake_shop, ref)
    down.is_down = True
    for _ in range(PAYMENTS):
        await fake_shop.request(provider="stripe")
    return made


@contextlib.asynccontextmanager
async def working(fake_shop: Any) -> AsyncIterator[None]:
    """Run every pool as its timer does."""
    stopped = asyncio.Event()

    async def tick(pool: worker_pool.WorkerPool[Any]) -> None:
        while not stopped.is_set():
            if not await pool.tick():
                await asyncio.sleep(0.02)

    every = (fake_shop.attempts_pool, fake_shop.webhooks_pool, fake_shop.polling_pool)
    running = [asyncio.create_task(tick(pool)) for pool in every]
    yield
    stopped.set()
    await asyncio.gather(*running)
    for pool in every:
        await pool.finish()


@pytest.mark.rule("PA21")
async def test_a_provider_that_hangs_delays_no_payment_of_another(
    fake_shop: Any, fake_provider: fake_providers.FakeProvider, account: accounts.Account
) -> None:
    # Longer than all of the test: whatever is settled is settled while each slot of the other hangs.
    down = opened(fake_shop, fake_provider, account, timeout_s=200)
    await waiting(fake_shop, down)

    async with working(fake_shop):
        await fake_shop.until(lambda: _is(down.under_way == 2 * worker_pool.WORKERS_PER_KEY_MAX))
        async with asyncio.timeout(100):
            for _ in range(10):
                await _through(fake_shop, fake_provider)
        hanging, given_up = down.under_way, down.given_up
        down.answers_again.set()

    assert (hanging, given_up) == (2 * worker_pool.WORKERS_PER_KEY_MAX, 0)
    assert (await fake_shop.event_names()).count("refunded.v1") == 10


async def test_a_provider_that_is_down_is_called_with_growing_pauses_and_loses_nothing(
    fake_shop: Any, fake_provider: fake_providers.FakeProvider, account: accounts.Account
) -> None:
    down = opened(fake_shop, fake_provider, account, timeout_s=0.02)
    made = await waiting(fake_shop, down)

    async with working(fake_shop):
        await fake_shop.until(lambda: _are_tried(fake_shop))
    webhooks = await fake_shop.rows("SELECT attempts, next_at - now() AS rest FROM webhook")
    attempts = await fake_shop.rows(
        "SELECT tries, next_at - now() AS rest FROM provider_attempt WHERE outcome = 'unknown'"
    )
    calls = down.given_up
    down.is_down = False
    for table in ("webhook", "provider_attempt"):
        await fake_shop.make_due(table)
    async with working(fake_shop):
        await fake_shop.until(lambda: _all_are(fake_shop, made))

    # Rests of 1, 2 and 4 s for a look, of 2 and 60 s for a request.
    assert all(1 <= row["attempts"] <= 3 for row in webhooks)
    assert all(1 <= row["tries"] <= 2 for row in attempts)
    assert len(webhooks) == len(attempts) == PAYMENTS
    assert calls <= PAYMENTS * (3 + 2)
    assert (await fake_shop.event_names()).count("paid.v1") == PAYMENTS


async def _are_tried(fake_shop: Any) -> bool:
    """Tell whether each webhook was tried twice and each request once."""
    return not await fake_shop.rows(
        "SELECT 1 FROM webhook WHERE attempts < 2 "
        "UNION ALL SELECT 1 FROM provider_attempt WHERE outcome IN ('waiting', 'sent')"
    )


async def _through(fake_shop: Any, fake_provider: fake_providers.FakeProvider) -> None:
    """Let a payment of the provider that is well be created, paid, settled and refunded."""
    command = await fake_shop.request()
    await fake_shop.until(lambda: _stands(fake_shop, command, "pending"))
    ref = (await fake_shop.payment(command.payment_id))["provider_ref"]
    fake_provider.pay(ref)
    await fake_shop.send_fake_webhook(ref, key=f"paid {ref}")
    await fake_shop.until(lambda: _stands(fake_shop, command, "paid"))
    await fake_shop.refund(command.payment_id, amount=Money(amount_minor=150_000, currency="RUB"))
    await fake_shop.until(lambda: _stands(fake_shop, command, "refunded"))


async def _stands(fake_shop: Any, command: contracts.payments.CreatePayment, state: str) -> bool:
    return bool((await fake_shop.payment(command.payment_id))["state"] == state)


async def _all_are(fake_shop: Any, made: Sequence[contracts.payments.CreatePayment]) -> bool:
    ids = [command.payment_id for command in made]
    rows = await fake_shop.rows("SELECT FROM payment WHERE state = 'paid' AND payment_id = ANY($1)", ids)
    pending = await fake_shop.rows("SELECT FROM payment WHERE state = 'created'")
    return len(rows) == len(made) and not pending


async def _is(value: bool) -> bool:  # noqa: FBT001 - what `until` needs
    return value
