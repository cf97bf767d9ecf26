"""Processes killed in the middle of payments: nothing is lost and nothing is credited twice."""

import asyncio

import httpx
import pytest

from demo import clients, stack

CROWD = 60
AMOUNT_MINOR = 10_000


@pytest.mark.parametrize("process", ["ledger-worker", "payments-worker", "gateway-worker"])
async def test_a_worker_killed_in_the_middle_of_payments_credits_each_once(
    where: stack.Stack, http: httpx.AsyncClient, sandbox: clients.Sandbox, process: str
) -> None:
    crowd = [clients.Customer(where, http, sandbox) for _ in range(CROWD)]
    payments = []
    for customer in crowd:
        await customer.log_in()
        payments.append(await customer.start_top_up(AMOUNT_MINOR))
    half = CROWD // 2

    await asyncio.gather(*(sandbox.pay(payment["confirmation_url"]) for payment in payments[:half]))
    await asyncio.to_thread(where.kill, process)
    await asyncio.gather(*(sandbox.pay(payment["confirmation_url"]) for payment in payments[half:]))
    await asyncio.to_thread(where.restart, process)

    await asyncio.gather(*(customer.wait_for_balance(AMOUNT_MINOR) for customer in crowd))
    lines = await asyncio.gather(*(customer.statement() for customer in crowd))
    assert [len(statement) for statement in lines] == [1] * CROWD
    proof = await asyncio.to_thread(where.run_kopilka, "ledger", "verify")
    assert proof.returncode == 0, proof.stdout + proof.stderr
