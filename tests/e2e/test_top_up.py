"""A top-up: from the Mini App through the provider's page to the wallet and the chat, exactly once."""

import asyncio

import pytest

from demo import clients

AMOUNT_MINOR = 150_000


async def test_a_paid_top_up_reaches_the_wallet_the_statement_and_the_chat(
    customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    payment = await customer.start_top_up(AMOUNT_MINOR)

    await sandbox.pay(payment["confirmation_url"])

    wallet = await customer.wait_for_balance(AMOUNT_MINOR)
    assert wallet == {
        "asset": "RUB",
        "balance_minor": AMOUNT_MINOR,
        "held_minor": 0,
        "available_minor": AMOUNT_MINOR,
    }
    [line] = await customer.statement()
    assert (line["kind"], line["amount_minor"], line["balance_after_minor"]) == ("credit", AMOUNT_MINOR, AMOUNT_MINOR)
    chat = await clients.eventually(lambda: sandbox.chat(customer.telegram_id), bool)
    assert len(chat) == 1
    assert "1,500.00 RUB" in chat[0]
    settled = (await customer.get(f"/payments/{payment['id']}")).json()
    assert settled["status"] == "paid"


@pytest.mark.rule("PA1")
async def test_fifty_more_notifications_change_nothing(customer: clients.Customer, sandbox: clients.Sandbox) -> None:
    payment = await customer.top_up(AMOUNT_MINOR)
    await customer.wait_for_balance(AMOUNT_MINOR)
    notification = await sandbox.notification(payment["confirmation_url"])

    statuses = [
        status for _ in range(5) for status in await asyncio.gather(*(sandbox.notify(notification) for _ in range(10)))
    ]

    assert statuses == [200] * 50
    # A later payment goes the same way: when it has arrived, what the notifications caused would have arrived too.
    await customer.top_up(AMOUNT_MINOR)
    await customer.wait_for_balance(2 * AMOUNT_MINOR)
    chat = await clients.eventually(lambda: sandbox.chat(customer.telegram_id), lambda texts: len(texts) > 1)
    assert (await customer.balance())["balance_minor"] == 2 * AMOUNT_MINOR
    assert len(await customer.statement()) == 2
    assert len(chat) == 2


async def test_a_declined_payment_credits_nothing(customer: clients.Customer, sandbox: clients.Sandbox) -> None:
    payment = await customer.start_top_up(AMOUNT_MINOR)

    await sandbox.decline(payment["confirmation_url"])

    async def status() -> str:
        return str((await customer.get(f"/payments/{payment['id']}")).json()["status"])

    assert await clients.eventually(status, lambda seen: seen == "canceled") == "canceled"
    assert (await customer.balance())["balance_minor"] == 0


@pytest.mark.rule("GW8")
async def test_the_same_key_gives_the_same_payment_and_another_body_is_refused(customer: clients.Customer) -> None:
    first = await customer.start_top_up(AMOUNT_MINOR, key="one-tap")

    second = await customer.start_top_up(AMOUNT_MINOR, key="one-tap")
    other = await customer.post(
        "/payments",
        {
            "purpose": "top_up",
            "amount": {"amount_minor": 1_000, "currency": "RUB"},
            "provider": "yookassa",
            "return_url": "https://t.me/demo_shop_bot/app",
        },
        key="one-tap",
    )

    assert second["id"] == first["id"]
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.rule("PA9")
async def test_a_create_that_timed_out_at_the_provider_becomes_one_payment(
    customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    await sandbox.plan_fault(target="yookassa", fault="timeout_after_commit", count=1)

    payment = await customer.start_top_up(AMOUNT_MINOR)
    await sandbox.pay(payment["confirmation_url"])

    await customer.wait_for_balance(AMOUNT_MINOR)
    assert len(await customer.statement()) == 1
