"""Stripe beyond what every provider promises: the names of a payment, its account, currencies, disputes, failures."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import stripe as sdk
from providers import sandbox_harness, stripe_adapter

from contracts.message import Money
from payments import clients
from payments.clients import stripe
from payments.domain import facts


@pytest.fixture
async def shop(harness: sandbox_harness.Harness) -> AsyncIterator[stripe_adapter.Adapter]:
    made = stripe_adapter.Adapter(harness)
    yield made
    await made.close()


@pytest.fixture
def official(shop: stripe_adapter.Adapter) -> sdk.StripeClient:
    """The official SDK before the same account."""
    addresses: Any = {"api": f"{shop.harness.url}/stripe"}
    return sdk.StripeClient(stripe_adapter.SECRET_KEY, base_addresses=addresses, max_network_retries=0)


def own(shop: stripe_adapter.Adapter, **options: Any) -> stripe.api.Stripe:
    made = shop.client(**options)
    assert isinstance(made, stripe.api.Stripe)
    return made


def silent() -> stripe.api.Stripe:
    """Give a client that talks to nobody."""
    nobody: Any = None
    return own(stripe_adapter.Adapter(nobody), base_url="http://127.0.0.1:9")


async def paid(shop: stripe_adapter.Adapter, client: stripe.api.Stripe, **changes: Any) -> facts.Fact:
    made = await client.create(shop.order(**changes), key=f"pay.{uuid4()}")
    await shop.pay(client, made)
    return await client.fetch(made.provider_ref)


# --- names ---------------------------------------------------------------------------------------------


async def test_a_payment_is_also_found_by_its_payment_intent(
    shop: stripe_adapter.Adapter, official: sdk.StripeClient
) -> None:
    client = own(shop)
    fact = await paid(shop, client)
    intent = official.v1.checkout.sessions.retrieve(fact.provider_ref).payment_intent

    assert await client.fetch(str(intent)) == fact


async def test_a_payment_intent_without_a_session_is_not_ours(
    shop: stripe_adapter.Adapter, official: sdk.StripeClient
) -> None:
    intent = official.v1.payment_intents.create({"amount": 1_000, "currency": "eur"})

    with pytest.raises(clients.Foreign):
        await own(shop).fetch(intent.id)


async def test_every_event_of_a_payments_life_leads_to_it(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    fact = await paid(shop, client, is_held=True)
    await client.capture(fact.provider_ref, shop.part(), key="pay.1.capture.1")
    await client.refund(shop.refund_order(fact, shop.part(4)), key="ref.1")
    await shop.harness.act(fact.provider_ref, "dispute", outcome="open")
    await shop.harness.act(fact.provider_ref, "dispute", outcome="won")

    read = [content for one in shop.webhooks() if isinstance(content := client.read(one), facts.WebhookContent)]
    came = {content.event: content for content in read}

    assert {
        *("checkout.session.completed", "payment_intent.amount_capturable_updated", "charge.captured"),
        *("payment_intent.succeeded", "refund.created", "charge.refunded"),
        *("charge.dispute.created", "charge.dispute.funds_reinstated", "charge.dispute.closed"),
    } <= set(came)
    for content in came.values():
        assert (await client.fetch(content.provider_ref)).provider_ref == fact.provider_ref
    assert came["refund.created"].provider_ref == fact.provider_ref


@pytest.mark.parametrize(
    ("kind", "subject", "ref"),
    [
        ("checkout.session.expired", {"id": "cs_1", "object": "checkout.session"}, "cs_1"),
        ("payment_intent.canceled", {"id": "pi_1", "object": "payment_intent"}, "pi_1"),
        ("refund.failed", {"id": "re_1", "object": "refund", "payment_intent": "pi_1"}, "pi_1"),
        ("refund.failed", {"id": "re_1", "object": "refund", "metadata": {"session": "cs_1"}}, "cs_1"),
    ],
)
def test_an_event_names_the_payment_to_fetch(kind: str, subject: dict[str, Any], ref: str) -> None:
    client = silent()

    content = client.read(stripe_adapter.signed(stripe_adapter.event(kind, subject).encode()))

    assert content == facts.WebhookContent(event=kind, dedupe_key="evt_1", provider_ref=ref)


# dj-stripe#530, stripe/sync-engine#121, wyyerd/stripe-rs#118, stripe/stripe-java#2256
@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("refund.failed", {"id": "re_1", "object": "refund", "metadata": {"session": "../x"}}),
        ("charge.succeeded", {"id": "ch_1", "object": "charge", "metadata": {"session": "cs_1"}}),
        ("checkout.session.completed", {"id": "../x", "object": "checkout.session"}),
        ("payout.paid", {"id": "po_1", "object": "payout"}),
        ("customer.created", {"id": "cus_1", "object": "customer"}),
        ("product.created", {"id": "top-up-500", "object": "product"}),
        ("coupon.created", {"id": "SUMMER-25", "object": "coupon"}),
        ("invoice.upcoming", {"object": "invoice"}),
        ("balance.available", {"object": "balance", "available": []}),
        ("plan.created", None),
    ],
)
def test_an_event_about_no_payment_is_ignored(kind: str, subject: Any) -> None:
    content = silent().read(stripe_adapter.signed(stripe_adapter.event(kind, subject).encode()))

    assert content == facts.Ignored(kind)


def test_a_thin_event_is_ignored() -> None:
    thin = {"id": "evt-thin", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered"}

    content = silent().read(stripe_adapter.signed(json.dumps(thin).encode()))

    assert content == facts.Ignored("v1.billing.meter.error_report_triggered")


@pytest.mark.parametrize(("account", "is_ours"), [("acct_1DemoKopilkaSandbox", True), ("acct_other", False)])
def test_an_event_of_a_connected_account_is_about_no_payment(account: str, is_ours: bool) -> None:  # noqa: FBT001 - a table's column
    body = json.loads(stripe_adapter.Adapter.samples[0]) | {"account": account}

    content = silent().read(stripe_adapter.signed(json.dumps(body).encode()))

    assert isinstance(content, facts.WebhookContent) is is_ours


# --- the account ---------------------------------------------------------------------------------------


async def test_a_key_of_another_account_makes_no_payments(shop: stripe_adapter.Adapter) -> None:
    shop.shop_id = "acct_other"  # type: ignore[misc] # for this test

    with pytest.raises(clients.AuthFailed, match="another account"):
        await own(shop).create(shop.order(), key="pay.1.create.1")

    assert await shop.harness.made("stripe") == []


@pytest.mark.parametrize("shop_id", ["", "demo", "sk_test_demo"])
def test_an_account_without_its_id_is_not_opened(shop_id: str) -> None:
    account = replace(silent().account, shop_id=shop_id)

    with pytest.raises(ValueError, match="acct_"):
        stripe.api.Stripe(account, base_url="http://127.0.0.1:9", timeout_s=1, secret_key="s", webhook_secrets=["w"])


async def test_the_account_is_checked_once(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    fact = await paid(shop, client)
    await client.fetch(fact.provider_ref)

    asked = [one["path"] for one in await shop.harness.requests("stripe")]

    assert sum(path.endswith("/v1/account") for path in asked) == 1


# --- money ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("currency", ["JPY", "KRW", "VND", "CLP", "XAF"])
async def test_an_amount_of_a_currency_without_decimals_is_the_same_number(
    shop: stripe_adapter.Adapter, official: sdk.StripeClient, currency: str
) -> None:
    amount = Money(amount_minor=500, currency=currency)

    fact = await paid(shop, own(shop), amount=amount)

    session = official.v1.checkout.sessions.retrieve(fact.provider_ref)
    assert (session.amount_total, session.currency) == (500, currency.lower())
    assert (fact.amount, fact.captured_minor) == (amount, 500)


@pytest.mark.parametrize("currency", ["ISK", "UGX", "MGA", "XTR1", "TON2", "POINTS"])
async def test_a_currency_whose_smallest_unit_differs_is_not_taken(shop: stripe_adapter.Adapter, currency: str) -> None:
    with pytest.raises(clients.Rejected) as rejected:
        await own(shop).create(shop.order(amount=Money(amount_minor=500, currency=currency)), key="pay.1.create.1")

    assert rejected.value.code == "currency_not_supported"


async def test_a_currency_that_stripe_itself_does_not_know_is_rejected(shop: stripe_adapter.Adapter) -> None:
    with pytest.raises(clients.Rejected):
        await own(shop).create(shop.order(amount=Money(amount_minor=500, currency="XTR")), key="pay.1.create.1")


async def test_the_fee_is_that_of_the_balance_transaction(shop: stripe_adapter.Adapter) -> None:
    fact = await paid(shop, own(shop))

    assert fact.fee_minor == 4_500 * 29 // 1000 + 30


async def test_a_refund_or_capture_in_another_currency_is_refused(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    fact = await paid(shop, client, is_held=True)
    dollars = Money(amount_minor=100, currency="USD")

    with pytest.raises(clients.Rejected, match="currency_differs"):
        await client.capture(fact.provider_ref, dollars, key="pay.1.capture.1")
    with pytest.raises(clients.Rejected, match="currency_differs"):
        await client.refund(shop.refund_order(fact, dollars), key="ref.1")


def sepa(official: sdk.StripeClient) -> sdk.checkout.Session:
    """Open a page for a method whose money takes days."""
    price = {"currency": "eur", "unit_amount": 4_500, "product_data": {"name": "A thing"}}
    asked: Any = {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "success_url": "https://shop.example",
        "payment_method_types": ["sepa_debit"],
    }
    return official.v1.checkout.sessions.create(asked)


async def test_a_slow_method_is_pending_until_its_money_is_there(
    shop: stripe_adapter.Adapter, official: sdk.StripeClient
) -> None:
    client = own(shop)
    made = sepa(official)
    await shop.harness.act(made.id, "pay")
    agreed = await client.fetch(made.id)

    await shop.harness.act(made.id, "pay")

    assert (agreed.state, agreed.captured_minor, agreed.paid_at) == ("pending", 0, None)
    assert (await client.fetch(made.id)).state == "paid"


async def test_a_slow_method_that_fails_cancels_the_payment_with_the_banks_reason(
    shop: stripe_adapter.Adapter, official: sdk.StripeClient
) -> None:
    made = sepa(official)
    await shop.harness.act(made.id, "pay")

    await shop.harness.act(made.id, "decline")

    fact = await own(shop).fetch(made.id)
    assert (fact.state, fact.reason, fact.failure_reason) == ("canceled", "insufficient_funds", "insufficient_funds")
    assert fact.is_payer_gone


# --- disputes ------------------------------------------------------------------------------------------


async def test_a_dispute_is_open_until_it_is_decided(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    fact = await paid(shop, client)
    assert await client.fetch_disputes(fact.provider_ref) == []

    await shop.harness.act(fact.provider_ref, "dispute", amount_minor=1_000, outcome="open")

    (opened,) = await client.fetch_disputes(fact.provider_ref)
    assert (opened.state, opened.provider_ref, opened.reason) == ("open", fact.provider_ref, "fraudulent")
    assert (opened.amount, opened.fee_minor) == (Money(amount_minor=1_000, currency="EUR"), 1_500)
    assert opened.due_by is not None
    assert opened.due_by > opened.created_at


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_the_report_shows_how_a_dispute_was_decided(shop: stripe_adapter.Adapter, outcome: str) -> None:
    client = own(shop)
    fact = await paid(shop, client)
    await shop.harness.act(fact.provider_ref, "dispute", outcome="open")
    await shop.harness.act(fact.provider_ref, "dispute", outcome=outcome)
    now = datetime.now(UTC)

    found: list[facts.Movement] = []
    cursor: str | None = None
    for _ in range(4):
        page = await client.list_movements(now - timedelta(hours=1), now + timedelta(hours=1), cursor)
        found += page.movements
        cursor = page.cursor

    assert cursor is None
    disputes = [one for one in found if isinstance(one, facts.DisputeFact)]
    assert disputes == await client.fetch_disputes(fact.provider_ref)
    assert [one.state for one in disputes] == [outcome]


async def test_a_disputed_payment_is_not_refunded_besides(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    fact = await paid(shop, client)
    await shop.harness.act(fact.provider_ref, "dispute", outcome="open")

    with pytest.raises(clients.Rejected, match="charge_disputed"):
        await client.refund(shop.refund_order(fact, shop.amount), key="ref.1")


# --- failures ------------------------------------------------------------------------------------------


async def test_a_key_in_use_leaves_the_outcome_unknown(shop: stripe_adapter.Adapter) -> None:
    client = own(shop)
    await shop.warm_up(client)
    await shop.harness.fault("stripe", "http:409", route=shop.create_route)

    with pytest.raises(clients.OutcomeUnknown, match="in use"):
        await client.create(shop.order(), key="pay.1.create.1")


async def test_a_replayed_failure_leaves_the_outcome_unknown(shop: stripe_adapter.Adapter) -> None:
    client, order = own(shop), shop.order()
    await shop.warm_up(client)
    await shop.harness.fault("stripe", "http:500", route=shop.create_route)
    with pytest.raises(clients.OutcomeUnknown, match="status 500"):
        await client.create(order, key="pay.1.create.1")

    with pytest.raises(clients.OutcomeUnknown, match="replayed"):
        await client.create(order, key="pay.1.create.1")
