"""The whole service with each provider's own client against the sandbox: from the command to the money, and back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from providers import adapters, sandbox_harness, stars_adapter, stripe_adapter, suite, ton_adapter

import contracts.payments
from chassis import database
from payments import clients
from payments.deposits.timers import watch_deposits
from payments.domain import accounts, facts
from payments.reconciliation import timers
from payments.reconciliation.verify import provider_side

Open = Callable[[adapters.Adapter], tuple[Any, clients.Provider]]


@pytest.fixture
def open_shop(db: database.Database, new_shop: Any, command: contracts.payments.CreatePayment) -> Open:
    """Gives a shop that takes payments with a provider."""

    def opened(provider: adapters.Adapter) -> tuple[Any, clients.Provider]:
        client = provider.client()
        asked = command.model_copy(update={"provider": provider.name, "amount": provider.amount})
        return new_shop(db, client, asked), client

    return opened


async def created(shop: Any, provider: adapters.Adapter) -> facts.Fact:
    """Give what the provider made of a command, as far as its payer needs it."""
    command = await shop.request(amount=provider.amount)
    await shop.send_attempts()
    row = await shop.payment(command.payment_id)
    assert row["state"] == "pending"
    return facts.Fact(
        provider_ref=row["provider_ref"],
        state="pending",
        amount=provider.amount,
        captured_minor=0,
        shop_id=provider.shop_id,
        is_test=True,
        payment_id=command.payment_id,
        created_at=row["created_at"],
        confirmation_url=row["confirmation_url"],
    )


async def deliver(shop: Any, provider: adapters.Adapter, *, times: int = 2) -> None:
    """Let everything that the provider sent so far come to the real API, and settle it."""
    for webhook in [*provider.webhooks()] * times:
        assert await tell(shop, provider, webhook) == 200
    for _ in range(2):
        await shop.make_due("webhook")
        await shop.settle_webhooks()


async def tell(shop: Any, provider: adapters.Adapter, webhook: facts.WebhookRequest) -> int:
    """Let one webhook come to the real API; gives the status."""
    headers = {
        name.replace("-", "_"): value
        for name, value in webhook.headers.items()
        if name not in {"host", "content-length", "connection"}
    }
    (answer,) = await shop.post(f"/webhooks/{provider.name}/demo", webhook.body, webhook.peer, **headers)
    return int(answer.status_code)


def named(client: clients.Provider, webhook: facts.WebhookRequest) -> str | None:
    """Give the name by which a webhook knows its payment."""
    content = client.read(webhook)
    assert isinstance(content, facts.WebhookContent)
    return content.provider_ref


async def compare(shop: Any, client: clients.Provider) -> provider_side.Outcome:
    # Later than now, so that nothing is still on its way.
    until = datetime.now(UTC) + timedelta(hours=2)
    return await provider_side.compare(shop.db, client, since=until - timedelta(hours=48), until=until)


@suite.chosen(lambda cls: cls.has_webhooks)
async def test_a_payment_is_created_paid_and_published_once(provider: adapters.Adapter, open_shop: Open) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)

    await provider.pay(client, fact)
    await deliver(shop, provider)

    row = await shop.payment(fact.payment_id)
    assert (row["state"], row["captured_minor"]) == ("paid", provider.amount.amount_minor)
    assert (await shop.event_names()).count("paid.v1") == 1
    assert await shop.findings() == []


@pytest.mark.rule("PA22")
@suite.chosen(lambda cls: cls.has_webhooks and accounts.Capability.LIST in cls.capabilities)
async def test_our_payments_agree_with_the_providers_report(provider: adapters.Adapter, open_shop: Open) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)
    if accounts.Capability.REFUND in provider.capabilities:
        await shop.refund(fact.payment_id)
        await shop.send_attempts()
        assert (await shop.payment(fact.payment_id))["state"] == "refunded"

    outcome = await compare(shop, client)

    assert (outcome.found, outcome.money_minor) == (0, {provider.amount.currency: 0})
    assert await shop.findings() == []


@suite.chosen(lambda cls: accounts.Capability.PARTIAL_REFUND in cls.capabilities)
async def test_parts_are_refunded_and_a_refund_of_the_dashboard_is_adopted(
    provider: adapters.Adapter, open_shop: Open
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)

    await shop.refund(fact.payment_id, amount=provider.part(3))
    await shop.send_attempts()
    await provider.refund_in_dashboard(fact, provider.part(4))
    await deliver(shop, provider)
    await shop.refund(fact.payment_id)
    await shop.send_attempts()

    row = await shop.payment(fact.payment_id)
    assert (row["state"], row["reserved_minor"]) == ("refunded", 0)
    assert (await shop.event_names()).count("refunded.v1") == 3
    assert await shop.findings() == ["refund_in_dashboard"]


@pytest.mark.parametrize("provider", [stripe_adapter.Adapter], indirect=True)
async def test_a_refund_that_fails_days_after_it_has_succeeded_is_undone(
    provider: adapters.Adapter, open_shop: Open
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await shop.settle_webhooks()
    await deliver(shop, provider)
    await shop.refund(fact.payment_id, amount=provider.part(3))
    await shop.send_attempts()
    (row,) = await shop.rows("SELECT refund_ref, state FROM refund")
    assert row["state"] == "succeeded"

    await provider.harness.control("POST", f"/refunds/{row['refund_ref']}/cancel")
    await deliver(shop, provider)

    row = await shop.payment(fact.payment_id)
    assert (row["state"], row["refunded_minor"]) == ("paid", 0)
    assert (await shop.event_names()).count("refund.reversed.v1") == 1
    assert await shop.findings() == ["refund_failed_later"]
    outcome = await compare(shop, client)
    assert (outcome.found, outcome.money_minor) == (0, {provider.amount.currency: 0})


@suite.chosen(lambda cls: accounts.Capability.PARTIAL_CAPTURE in cls.capabilities)
async def test_a_part_of_an_authorization_is_captured(provider: adapters.Adapter, open_shop: Open) -> None:
    shop, client = open_shop(provider)
    command = await shop.request(amount=provider.amount, is_held=True)
    await shop.send_attempts()
    row = await shop.payment(command.payment_id)
    fact = facts.Fact(
        provider_ref=row["provider_ref"],
        state="pending",
        amount=provider.amount,
        captured_minor=0,
        shop_id=provider.shop_id,
        is_test=True,
        payment_id=command.payment_id,
        created_at=row["created_at"],
        confirmation_url=row["confirmation_url"],
    )
    await provider.pay(client, fact)
    await deliver(shop, provider)

    await shop.capture(command.payment_id, amount=provider.part())
    await shop.send_attempts()
    await deliver(shop, provider)

    row = await shop.payment(command.payment_id)
    assert (row["state"], row["captured_minor"]) == ("paid", provider.part().amount_minor)
    assert await shop.event_names() == ["created.v1", "authorized.v1", "paid.v1"]
    assert await shop.findings() == []


@pytest.mark.rule("PA18")
@pytest.mark.parametrize("provider", [stars_adapter.Adapter], indirect=True)
async def test_a_pre_checkout_is_approved_and_the_charge_pays(provider: stars_adapter.Adapter, open_shop: Open) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)

    await provider.ask(client, fact)
    await deliver(shop, provider, times=1)
    post = provider.harness.post
    await post.wait(provider.target, lambda webhook: b"successful_payment" in webhook.body)
    await deliver(shop, provider)

    assert await shop.event_names() == ["created.v1", "paid.v1"]
    assert (await shop.payment(fact.payment_id))["paid_by"] == str(stars_adapter.PAYER)


@pytest.mark.rule("PA20")
@pytest.mark.parametrize("provider", [ton_adapter.Adapter], indirect=True)
async def test_only_final_deposits_to_our_own_wallets_pay(
    provider: ton_adapter.Adapter, open_shop: Open, harness: sandbox_harness.Harness
) -> None:
    shop, _ = open_shop(provider)
    fact = await created(shop, provider)
    coins = {"account": ton_adapter.WALLET, "amount": provider.amount.amount_minor, "comment": fact.provider_ref}
    await harness.control("POST", "/ton/deposits", **coins, is_bounced=True)
    await harness.control(
        "POST", "/ton/deposits", **coins, jetton={"master": ton_adapter.USDT, "is_foreign_wallet": True}
    )
    waiting = await harness.control("POST", "/ton/deposits", **coins, is_final=False)

    await watch(shop)
    before = await shop.payment(fact.payment_id)
    await harness.control("POST", "/ton/finalize", hash=waiting["hash"])
    await watch(shop)
    await harness.control("POST", "/ton/deposits", **coins)
    await watch(shop)

    assert before["state"] == "pending"
    assert await shop.event_names() == ["created.v1", "paid.v1", "deposit.received.v1"]
    assert await shop.findings() == ["deposit_reused"]


async def watch(shop: Any) -> None:
    for _ in range(20):
        await watch_deposits(shop.db, shop.providers)


@pytest.mark.parametrize("outcome", ["won", "lost"])
@suite.chosen(lambda cls: accounts.Capability.DISPUTE in cls.capabilities)
async def test_a_dispute_is_published_when_it_opens_and_when_it_closes(
    provider: adapters.Adapter, open_shop: Open, outcome: str
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)

    count = len(provider.webhooks())
    await provider.harness.act(fact.provider_ref, "dispute")
    names = {named(client, webhook) for webhook in provider.webhooks()[count:]}
    await deliver(shop, provider)
    opened = await shop.payment(fact.payment_id)
    await provider.harness.act(fact.provider_ref, "dispute", outcome=outcome)
    await deliver(shop, provider)

    closed = await shop.payment(fact.payment_id)
    assert fact.provider_ref not in names  # its events know the payment by another name
    assert opened["disputed_minor"] == provider.amount.amount_minor
    assert closed["disputed_minor"] == (0 if outcome == "won" else provider.amount.amount_minor)
    assert await shop.event_names() == ["created.v1", "paid.v1", "disputed.v1", "dispute.closed.v1"]
    assert await shop.findings() == ["dispute_opened"]


@suite.chosen(lambda cls: accounts.Capability.DISPUTE in cls.capabilities)
async def test_refunds_and_a_dispute_at_once_are_settled_in_any_order_of_webhooks(
    provider: adapters.Adapter, open_shop: Open
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)
    count = len(provider.webhooks())

    await provider.plan_refunds("pending")
    for divisor in (5, 10):
        await shop.refund(fact.payment_id, amount=provider.part(divisor))
        await shop.send_attempts()
    await provider.refund_in_dashboard(fact, provider.part(9))
    await provider.harness.act(fact.provider_ref, "dispute", amount_minor=provider.part(3).amount_minor)
    for webhook in reversed(provider.webhooks()[count:]):
        await tell(shop, provider, webhook)
        await shop.settle_webhooks()

    row = await shop.payment(fact.payment_id)
    assert row["reserved_minor"] == provider.part(5).amount_minor
    assert row["refunded_minor"] == provider.part(10).amount_minor + provider.part(9).amount_minor
    assert row["disputed_minor"] == provider.part(3).amount_minor
    names = ["disputed.v1", *["refund.requested.v1"] * 2, *["refunded.v1"] * 2]
    assert sorted((await shop.event_names())[2:]) == names
    assert sorted(await shop.findings()) == ["dispute_opened", "refund_in_dashboard"]


@suite.chosen(lambda cls: accounts.Capability.DISPUTE in cls.capabilities)
async def test_a_webhook_under_another_id_settles_open_refunds_and_disputes(
    provider: adapters.Adapter, open_shop: Open
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)
    await provider.harness.act(fact.provider_ref, "dispute")
    await deliver(shop, provider)
    opened = next(one for one in provider.webhooks() if b"charge.dispute.created" in one.body)
    await provider.harness.control("POST", "/webhooks", plan="drop")
    await provider.harness.act(fact.provider_ref, "dispute", outcome="lost")

    # Neither its name nor its event tells of the dispute; only the payment does.
    other = opened.body.replace(b"charge.dispute.created", b"charge.updated").replace(b'"evt_', b'"evt_other')
    await tell(shop, provider, provider.sealed(other))
    await shop.settle_webhooks()

    assert named(client, opened) != fact.provider_ref
    assert (await shop.event_names())[2:] == ["disputed.v1", "dispute.closed.v1"]


@suite.chosen(lambda cls: accounts.Capability.DISPUTE in cls.capabilities)
async def test_a_dispute_that_closes_without_a_webhook_is_fetched_every_night(
    provider: adapters.Adapter, open_shop: Open
) -> None:
    shop, client = open_shop(provider)
    fact = await created(shop, provider)
    await provider.pay(client, fact)
    await deliver(shop, provider)
    # At another time than ours, so that the report of these days does not name it, as it names none of months ago.
    await provider.harness.control("POST", "/clock", advance_s=80 * 86_400)
    await provider.harness.act(fact.provider_ref, "dispute")
    await tell(shop, provider, provider.sealed(provider.webhooks()[-1].body))
    await shop.settle_webhooks()
    await provider.harness.control("POST", "/webhooks", plan="drop")
    await provider.harness.act(fact.provider_ref, "dispute", outcome="won")

    await timers.compare_reports(shop.db, shop.providers, hour=0)

    assert (await shop.event_names())[2:] == ["disputed.v1", "dispute.closed.v1"]
    assert (await shop.payment(fact.payment_id))["disputed_minor"] == 0
