"""A binding that is lost while customers pay: noticed, put back, and what went astray carried out after a replay."""

import aio_pika
import httpx

from chassis import topology
from contracts import payments
from demo import clients, stack

LOST = payments.CreatePayment.TYPE
TRIES_MAX = 5
TOP_UP = {
    "purpose": "top_up",
    "amount": {"amount_minor": 50_000, "currency": "RUB"},
    "provider": "yookassa",
    "return_url": "https://t.me/demo_shop_bot/app",
}


async def lose_binding(where: stack.Stack) -> None:
    async with await aio_pika.connect(where.environment["KOPILKA_AMQP_URL"]) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("payments.commands", ensure=False)
        await queue.unbind(topology.COMMANDS, routing_key=LOST)


async def warning(where: stack.Stack, http: httpx.AsyncClient) -> str:
    report: clients.Json = (await http.get(f"{where.gateway_url}/health/ready")).json()
    return str(report.get("warnings", {}).get("routing", ""))


async def test_a_payment_whose_command_went_astray_is_shown_and_carried_out_after_a_replay(
    where: stack.Stack, customer: clients.Customer, http: httpx.AsyncClient
) -> None:
    def is_astray() -> bool:
        return where.run_kopilka("unrouted", "list", "--type", LOST).stdout.endswith("1 shown\n")

    async def has_gone_on() -> bool:
        return is_astray() or "confirmation_url" in await customer.payment(payment_id)

    for _ in range(TRIES_MAX):  # the binding may be back before the command is published
        await lose_binding(where)
        answer = await customer.post("/payments", TOP_UP)
        payment_id = answer.json()["id"]
        await clients.eventually(has_gone_on, bool)
        if is_astray():
            break
    shown = await clients.eventually(lambda: warning(where, http), lambda text: "unrouted" in text)

    async def is_replayed() -> bool:  # the binding is back within seconds
        return where.run_kopilka("unrouted", "replay", "--type", LOST).returncode == 0

    await clients.eventually(is_replayed, bool)
    payment = await clients.eventually(
        lambda: customer.payment(payment_id), lambda found: bool(found.get("confirmation_url"))
    )
    assert "1 unrouted messages" in shown
    assert payment["status"] == "pending"
    assert await clients.eventually(lambda: warning(where, http), lambda text: not text) == ""
