"""Refunds by an operator, and in the provider's own dashboard."""

from demo import clients, stack

AMOUNT_MINOR = 100_000


async def test_an_operator_gives_a_part_back_and_never_more_than_was_paid(
    where: stack.Stack, customer: clients.Customer
) -> None:
    payment = await customer.top_up(AMOUNT_MINOR)
    await customer.wait_for_balance(AMOUNT_MINOR)

    given = where.run_kopilka("payments", "refund", payment["id"], "--amount", "40000")
    await customer.wait_for_balance(60_000)
    refused = where.run_kopilka("payments", "refund", payment["id"], "--amount", "60001")

    assert given.returncode == 0, given.stdout + given.stderr
    assert refused.returncode == 1, refused.stdout + refused.stderr
    shown = (await customer.get(f"/payments/{payment['id']}")).json()
    assert (shown["status"], shown["refunded_minor"]) == ("partially_refunded", 40_000)
    newest = (await customer.statement())[0]
    assert (newest["kind"], newest["amount_minor"], newest["balance_after_minor"]) == ("refund", -40_000, 60_000)


async def test_a_refund_of_the_dashboard_reaches_the_wallet(
    customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    payment = await customer.top_up(AMOUNT_MINOR)
    await customer.wait_for_balance(AMOUNT_MINOR)

    await sandbox.refund(payment["confirmation_url"])

    await customer.wait_for_balance(0)
    shown = await clients.eventually(
        lambda: customer.payment(payment["id"]), lambda payment: payment["status"] == "refunded"
    )
    assert shown["refunded_minor"] == AMOUNT_MINOR
