"""A provider that is down, through the real pools: it delays its own payments, and is asked ever more seldom."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import bank as banks
import pytest

from chassis import worker_pool
from contracts import payments
from contracts.message import Money
from payments import clients
from payments.domain import facts

PAYMENTS = 3 * worker_pool.WORKERS_PER_KEY_MAX


class Down(banks.Bank):
    """A provider that gives no answer until the call's time is over; mended, it is like any other."""

    def __init__(self, account: facts.Account, *, timeout_s: float) -> None:
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


def opened(counter: Any, bank: banks.Bank, account: facts.Account, *, timeout_s: float) -> Down:
    """Let the shop take payments with a second provider too."""
    down = Down(replace(account, provider="stripe"), timeout_s=timeout_s)
    counter.accounts = clients.Accounts([bank, down])
    counter.restart()
    return down


async def hint(counter: Any, ref: str) -> None:
    body = json.dumps({"ref": ref, "key": ref})
    await counter.post("/webhooks/stripe/demo", body, x_bank=banks.SECRET)


async def waiting(counter: Any, down: Down) -> list[Any]:
    """Give payments of the second provider that were paid and told just before it went down, and new ones after."""
    made = [await counter.ask(provider="stripe") for _ in range(PAYMENTS)]
    await counter.create()
    for ref in list(down.payments):
        down.pay(ref)
        await hint(counter, ref)
    down.is_down = True
    for _ in range(PAYMENTS):
        await counter.ask(provider="stripe")
    return made


@contextlib.asynccontextmanager
async def working(counter: Any) -> AsyncIterator[None]:
    """Run every pool as its timer does."""
    stopped = asyncio.Event()

    async def tick(pool: worker_pool.WorkerPool[Any]) -> None:
        while not stopped.is_set():
            if not await pool.tick():
                await asyncio.sleep(0.02)

    every = (counter.creations, counter.settlements, counter.checks)
    running = [asyncio.create_task(tick(pool)) for pool in every]
    yield
    stopped.set()
    await asyncio.gather(*running)
    for pool in every:
        await pool.finish()


@pytest.mark.rule("PA21")
async def test_a_provider_that_hangs_delays_no_payment_of_another(
    counter: Any, bank: banks.Bank, account: facts.Account
) -> None:
    # Longer than all of the test: whatever is settled is settled while each slot of the other hangs.
    down = opened(counter, bank, account, timeout_s=20)
    await waiting(counter, down)

    async with working(counter):
        await counter.until(lambda: _is(down.under_way == 2 * worker_pool.WORKERS_PER_KEY_MAX))
        async with asyncio.timeout(5):
            for _ in range(10):
                await _through(counter, bank)
        hanging, given_up = down.under_way, down.given_up
        down.answers_again.set()

    assert (hanging, given_up) == (2 * worker_pool.WORKERS_PER_KEY_MAX, 0)
    assert (await counter.said()).count("refunded.v1") == 10


async def test_a_provider_that_is_down_is_asked_ever_more_seldom_and_loses_nothing(
    counter: Any, bank: banks.Bank, account: facts.Account
) -> None:
    down = opened(counter, bank, account, timeout_s=0.02)
    made = await waiting(counter, down)

    async with working(counter):
        await asyncio.sleep(3)  # a hundredth of five minutes
    hints = await counter.rows("SELECT attempts, next_at - now() AS rest FROM webhook")
    asks = await counter.rows("SELECT tries, next_at - now() AS rest FROM provider_attempt WHERE outcome = 'unknown'")
    asked = down.given_up
    down.is_down = False
    for table in ("webhook", "provider_attempt"):
        await counter.due(table)
    async with working(counter):
        await counter.until(lambda: _all_are(counter, made))

    # Rests of 1, 2 and 4 s for a look, of 2 and 60 s for a request.
    assert all(1 <= row["attempts"] <= 3 for row in hints)
    assert all(1 <= row["tries"] <= 2 for row in asks)
    assert len(hints) == len(asks) == PAYMENTS
    assert asked <= PAYMENTS * (3 + 2)
    assert (await counter.said()).count("paid.v1") == PAYMENTS


async def _through(counter: Any, bank: banks.Bank) -> None:
    """Let a payment of the provider that is well be made, paid, told and given back."""
    command = await counter.ask()
    await counter.until(lambda: _stands(counter, command, "pending"))
    ref = (await counter.payment(command.payment_id))["provider_ref"]
    bank.pay(ref)
    await counter.hint(ref, key=f"paid {ref}")
    await counter.until(lambda: _stands(counter, command, "paid"))
    await counter.refund(command.payment_id, amount=Money(amount_minor=150_000, currency="RUB"))
    await counter.until(lambda: _stands(counter, command, "refunded"))


async def _stands(counter: Any, command: payments.CreatePayment, state: str) -> bool:
    return bool((await counter.payment(command.payment_id))["state"] == state)


async def _all_are(counter: Any, made: Sequence[payments.CreatePayment]) -> bool:
    ids = [command.payment_id for command in made]
    rows = await counter.rows("SELECT FROM payment WHERE state = 'paid' AND payment_id = ANY($1)", ids)
    pending = await counter.rows("SELECT FROM payment WHERE state = 'created'")
    return len(rows) == len(made) and not pending


async def _is(truth: bool) -> bool:  # noqa: FBT001 - what `until` asks for
    return truth
