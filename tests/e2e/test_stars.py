"""Telegram Stars: the bot is asked before they are taken, and told of every charge."""

from demo import clients, stack

STARS = 100


async def test_stars_are_credited_once_and_the_invoice_is_refused_when_it_is_paid(
    where: stack.Stack, customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    registered = where.run_kopilka("payments", "stars-webhook", "demo", f"{where.payments_url}/webhooks/stars/demo")
    assert registered.returncode == 0, registered.stderr
    payment = await customer.start_top_up(STARS, provider="stars", currency="XTR")

    await sandbox.pay(payment["confirmation_url"], payer=customer.telegram_id)
    await customer.wait_for_balance(STARS, asset="XTR")
    await sandbox.pay(payment["confirmation_url"], payer=customer.telegram_id)

    wallet = await customer.balance("XTR")
    assert wallet["balance_minor"] == STARS
    assert len(await customer.statement()) == 1


async def test_stars_of_somebody_else_are_not_taken(
    where: stack.Stack, customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    where.run_kopilka("payments", "stars-webhook", "demo", f"{where.payments_url}/webhooks/stars/demo")
    payment = await customer.start_top_up(STARS, provider="stars", currency="XTR")

    await sandbox.pay(payment["confirmation_url"], payer=customer.telegram_id + 1)

    assert (await customer.balance("XTR"))["balance_minor"] == 0
    assert (await customer.payment(payment["id"]))["status"] == "pending"
