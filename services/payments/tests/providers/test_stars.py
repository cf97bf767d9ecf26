"""Telegram Stars beyond what every provider promises: questions, charges by their ids, renewals, refunds."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from providers import stars_adapter
from providers.stars_adapter import method, own

import contracts.payments
from payments import clients
from payments.clients import stars
from payments.domain import facts

TOKEN, PAYER = stars_adapter.TOKEN, stars_adapter.PAYER
MONTH_S = 2_592_000


async def shown(bot: stars_adapter.Adapter, fact: facts.Fact) -> Any:
    return (await bot.harness.control("GET", f"/payments/{bot.invoice(fact)}"))["payment"]


async def paid(bot: stars_adapter.Adapter, client: stars.api.Stars, fact: facts.Fact, payer: int = PAYER) -> facts.Fact:
    await bot.pay(client, fact, payer=payer)
    return await bot.current_fact(client, fact)


async def test_an_invoice_carries_our_payment_id_and_no_other_data(bot: stars_adapter.Adapter) -> None:
    order = bot.order(description="Fifty coins for the garden of forking paths")

    fact = await own(bot).create(order, key="pay.1.create.1")

    invoice = await shown(bot, fact)
    assert fact.provider_ref == invoice["payload"] == str(order.payment_id)
    assert (invoice["currency"], invoice["total_amount"]) == ("XTR", 90)
    assert invoice["title"] == "Fifty coins for the garden of fo"
    assert invoice["description"] == "Fifty coins for the garden of forking paths"


async def test_an_order_with_a_blank_description_has_the_title_of_the_shop(bot: stars_adapter.Adapter) -> None:
    order = bot.order(description="  ")

    invoice = await shown(bot, await own(bot).create(order, key="pay.1.create.1"))

    assert invoice["title"] == "Top-up"


async def test_a_repeated_creation_is_another_link_to_the_same_payment(bot: stars_adapter.Adapter) -> None:
    client, order = own(bot), bot.order()

    first = await client.create(order, key="pay.1.create.1")
    again = await client.create(order, key="pay.1.create.1")

    assert again.provider_ref == first.provider_ref
    assert again.confirmation_url != first.confirmation_url
    assert (await bot.ask(client, again)).payment_id == order.payment_id


async def test_a_pre_checkout_query_has_payment_amount_and_payer(bot: stars_adapter.Adapter) -> None:
    client, order = own(bot), bot.order()

    pre_checkout = await bot.ask(client, await client.create(order, key="pay.1.create.1"), payer=77)

    assert (pre_checkout.payment_id, pre_checkout.amount, pre_checkout.payer) == (order.payment_id, order.amount, "77")


async def test_a_refusal_reaches_the_payer_as_text(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    fact = await client.create(bot.order(), key="pay.1.create.1")

    await client.answer(await bot.ask(client, fact), "This is paid already." + "!" * 500)

    checkout = (await shown(bot, fact))["checkouts"][-1]
    assert checkout["state"] == "refused"
    assert checkout["error_message"].startswith("This is paid already.!")
    assert bot.movements(client) == []


async def test_an_answer_that_comes_too_late_is_rejected(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    pre_checkout = await bot.ask(client, await client.create(bot.order(), key="pay.1.create.1"))
    await bot.harness.control("POST", "/clock", advance_s=11)

    with pytest.raises(clients.Rejected) as rejected:
        await client.answer(pre_checkout, None)

    assert rejected.value.code.startswith("query_is_too_old")


async def test_an_answer_times_out_early_enough_for_another(bot: stars_adapter.Adapter) -> None:
    client = own(bot, timeout_s=30)
    pre_checkout = await bot.ask(client, await client.create(bot.order(), key="pay.1.create.1"))
    await bot.harness.fault("telegram", "timeout_before", route="answerPreCheckoutQuery")
    started = time.monotonic()

    with pytest.raises(clients.OutcomeUnknown):
        await client.answer(pre_checkout, None)

    assert time.monotonic() - started < stars.api.ANSWER_S_MAX + 1
    await client.answer(pre_checkout, None)


async def test_a_limit_on_other_calls_silences_no_answer(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    pre_checkout = await bot.ask(client, await client.create(bot.order(), key="pay.1.create.1"))
    await bot.harness.fault("telegram", "http:429:30", route="createInvoiceLink")
    with pytest.raises(clients.RateLimited):
        await client.create(bot.order(), key="pay.2.create.1")

    await client.answer(pre_checkout, None)

    await bot.harness.post.wait("telegram", lambda one: b"successful_payment" in one.body)


async def test_one_invoice_paid_twice_is_two_charges_of_one_payment(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    made = await client.create(bot.order(), key="pay.1.create.1")

    first = await paid(bot, client, made)
    second = await paid(bot, client, made, payer=43)

    assert first.provider_ref != second.provider_ref
    assert first.payment_id == second.payment_id == made.payment_id
    assert (first.payer, second.payer) == (str(PAYER), "43")
    assert not first.is_recurring
    assert not second.is_recurring


async def test_a_renewal_is_a_recurring_charge_of_its_own(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    payment_id = contracts.payments.PaymentId(uuid4())
    link = await method(
        bot,
        "createInvoiceLink",
        title="Club",
        description="A month",
        payload=str(payment_id),
        currency="XTR",
        prices=[{"label": "Club", "amount": 90}],
        subscription_period=MONTH_S,
    )
    made = await client.create(bot.order(payment_id=payment_id), key="pay.1.create.1")
    await bot.pay(client, replace(made, confirmation_url=link))

    await bot.harness.control("POST", "/clock", advance_s=MONTH_S + 1)

    await bot.harness.post.wait("telegram", lambda one: one == bot.webhooks()[-1] and len(bot.webhooks()) == 3)
    first, renewal = bot.movements(client)
    assert isinstance(first, facts.Fact)
    assert isinstance(renewal, facts.Fact)
    assert first.provider_ref != renewal.provider_ref
    assert first.payment_id == renewal.payment_id == payment_id
    assert first.is_recurring
    assert renewal.is_recurring


async def test_a_refund_without_an_answer_is_made_once_when_it_is_repeated(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    charge = await paid(bot, client, await client.create(bot.order(), key="pay.1.create.1"))
    order = bot.refund_order(charge, bot.amount)
    await bot.harness.fault("telegram", "timeout_after_commit", route="refundStarPayment")
    with pytest.raises(clients.OutcomeUnknown):
        await own(bot, timeout_s=0.4).refund(order, key="ref.1")

    made = await client.refund(order, key="ref.1")

    assert (made.state, made.refund_id, made.refund_ref) == ("succeeded", order.refund_id, charge.provider_ref)
    assert (await method(bot, "getMyStarBalance"))["amount"] == 0
    assert len((await method(bot, "getStarTransactions"))["transactions"]) == 2


async def test_the_update_of_a_refund_has_the_refs_of_the_requested_refund(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    charge = await paid(bot, client, await client.create(bot.order(), key="pay.1.create.1"))

    made = await client.refund(bot.refund_order(charge, bot.amount), key="ref.1")

    await bot.harness.post.wait("telegram", lambda one: b"refunded_payment" in one.body)
    listed = bot.movements(client)[-1]
    assert isinstance(listed, facts.RefundFact)
    assert (listed.refund_ref, listed.provider_ref, listed.amount) == (made.refund_ref, charge.provider_ref, bot.amount)
    assert listed.refund_id is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"payer": None}, "payer_unknown"),
        ({"payer": "999"}, "charge_not_found"),
        ({"provider_ref": "stx-unknown"}, "charge_not_found"),
        ({"captured_minor": 91}, "partial_refund_not_supported"),
    ],
)
async def test_a_refund_that_can_not_be_is_rejected(
    bot: stars_adapter.Adapter, change: dict[str, Any], code: str
) -> None:
    client = own(bot)
    charge = await paid(bot, client, await client.create(bot.order(), key="pay.1.create.1"))

    with pytest.raises(clients.Rejected) as rejected:
        await client.refund(bot.refund_order(charge, bot.amount, **change), key="ref.1")

    assert rejected.value.code == code
    assert (await method(bot, "getMyStarBalance"))["amount"] == 90


async def test_the_report_names_charges_as_the_webhooks_do(bot: stars_adapter.Adapter) -> None:
    client = own(bot)
    charge = await paid(bot, client, await client.create(bot.order(), key="pay.1.create.1"))
    await client.refund(bot.refund_order(charge, bot.amount), key="ref.1")
    await bot.harness.post.wait("telegram", lambda one: b"refunded_payment" in one.body)
    now = datetime.now(UTC)

    page = await client.list_movements(now - timedelta(days=1), now + timedelta(days=1), None)

    assert list(page.movements) == bot.movements(client)
    assert page.cursor is None
