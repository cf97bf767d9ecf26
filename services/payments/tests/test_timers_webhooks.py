import asyncio
from dataclasses import replace
from typing import Any

import pytest

from payments import clients
from payments.domain import facts


@pytest.mark.rule("PA1")
async def test_fifty_webhooks_at_once_credit_once_also_after_a_restart(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "pay")

    statuses = await shop.send_webhook(ref, times=50)
    await shop.settle_webhooks()
    shop.restart()
    statuses += await shop.send_webhook(ref, times=50)
    await shop.settle_webhooks()

    assert statuses == [200] * 100
    assert await shop.webhook_states() == ["applied"]
    assert await shop.event_names() == ["created.v1", "paid.v1"]
    assert (await shop.payment(payment_id))["state"] == "paid"


async def test_two_settlers_at_once_credit_once(shop: Any, sandbox: Any) -> None:
    refs = [(await shop.pending())[1] for _ in range(5)]
    for ref in refs:
        sandbox.act(ref, "pay")
        await shop.send_webhook(ref)

    await asyncio.gather(*(shop.settle_webhooks() for _ in range(3)))

    assert await shop.event_names() == ["created.v1"] * 5 + ["paid.v1"] * 5


@pytest.mark.rule("PA4")
async def test_a_forged_success_of_a_pending_payment_is_ignored(shop: Any) -> None:
    payment_id, ref = await shop.pending()

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["ignored"]
    assert (await shop.payment(payment_id))["state"] == "pending"
    assert await shop.event_names() == ["created.v1"]


@pytest.mark.rule("PA4")
@pytest.mark.parametrize("fault", ["timeout_before", "http:500", "http:429:1", "http:401", "http:400", "drop"])
async def test_a_webhook_whose_payment_cannot_be_fetched_waits(
    shop: Any, sandbox: Any, client_of: Any, fault: str
) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "pay")
    shop.use(client_of(sandbox.yookassa_url, timeout_s=0.3))
    sandbox.fault(fault)
    await shop.send_webhook(ref)

    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["waiting"]
    assert (await shop.payment(payment_id))["state"] == "pending"

    shop.use(client_of(sandbox.yookassa_url))
    await shop.make_due("webhook")
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["applied"]
    assert await shop.event_names() == ["created.v1", "paid.v1"]


@pytest.mark.rule("PA5")
@pytest.mark.parametrize(
    ("finding", "change"),
    [
        ("amount_mismatch", {"amount": {"value": "1.00", "currency": "RUB"}}),
        ("amount_mismatch", {"amount": {"value": "1500.01", "currency": "RUB"}}),
        ("currency_mismatch", {"amount": {"value": "1500.00", "currency": "USD"}}),
        ("shop_mismatch", {"recipient": {"account_id": "other-shop", "gateway_id": "1"}}),
        ("test_mismatch", {"test": False}),
        ("payment_id_mismatch", {"metadata": {"payment_id": "00000000-0000-0000-0000-000000000009"}}),
    ],
)
async def test_a_fact_that_differs_from_the_request_is_a_finding(
    shop: Any, scripted_server: Any, client_of: Any, finding: str, change: dict[str, Any]
) -> None:
    payment_id, ref = await shop.pending()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(payment_id, ref, **change)

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["conflict"]
    assert await shop.findings() == [finding]
    assert (await shop.payment(payment_id))["state"] == "pending"
    assert await shop.event_names() == ["created.v1"]


@pytest.mark.rule("PA5")
async def test_a_second_payment_of_the_provider_for_one_of_ours_is_a_finding(
    shop: Any, scripted_server: Any, client_of: Any
) -> None:
    payment_id, _ = await shop.pending()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(payment_id, "ref-of-a-second-one")

    await shop.send_webhook("ref-of-a-second-one")
    await shop.settle_webhooks()

    assert await shop.findings() == ["provider_ref_mismatch"]
    assert await shop.event_names() == ["created.v1"]


async def test_a_webhook_about_a_payment_of_another_program_is_settled_by_one_look(
    fake_shop: Any, fake_provider: Any
) -> None:
    _, ref = await fake_shop.pending()
    fake_provider.pay(ref)
    fake_provider.payments["foreign"] = replace(fake_provider.payments[ref], provider_ref="foreign", payment_id=None)

    await fake_shop.send_fake_webhook("foreign", "event-1")
    await fake_shop.settle_webhooks()

    assert await fake_shop.webhook_states() == ["ignored"]
    assert await fake_shop.findings() == []
    assert await fake_shop.rows("SELECT FROM webhook WHERE next_at IS NOT NULL") == []


# whopio/whop-sdk-ts#198
async def test_a_payment_without_our_metadata_is_credited_by_its_id(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.pending()
    fake_provider.pay(ref)
    fake_provider.payments[ref] = replace(fake_provider.payments[ref], payment_id=None)

    await fake_shop.send_fake_webhook(ref, "event-1")
    await fake_shop.settle_webhooks()

    assert (await fake_shop.payment(payment_id))["state"] == "paid"
    assert await fake_shop.findings() == ["metadata_missing"]


@pytest.mark.rule("PA7")
async def test_a_webhook_about_an_unknown_payment_is_parked_and_then_a_finding(shop: Any) -> None:
    statuses = await shop.send_webhook("22e12f66-000f-5000-8000-18db351245c7")
    await shop.settle_webhooks()
    assert await shop.webhook_states() == ["waiting"]

    for _ in range(5):
        await shop.make_due("webhook")
        await shop.settle_webhooks()

    assert statuses == [200]
    assert await shop.webhook_states() == ["orphan"]
    assert await shop.findings() == ["orphan_webhook"]
    assert await shop.rows("SELECT FROM payment") == []


@pytest.mark.rule("PA7")
async def test_a_payment_is_never_made_from_metadata(
    shop: Any, command: Any, scripted_server: Any, client_of: Any
) -> None:
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(command.payment_id, "ref-1")

    await shop.send_webhook("ref-1")
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["waiting"]
    assert await shop.rows("SELECT FROM payment") == []
    assert await shop.event_names() == []


@pytest.mark.rule("PA8")
async def test_a_webhook_before_the_create_answer_binds_the_payment(shop: Any, sandbox: Any, client_of: Any) -> None:
    held = Held(client_of(sandbox.yookassa_url))
    shop.use(held)
    command = await shop.request()
    await shop.attempts_pool.tick()
    await held.made.wait()
    ref = sandbox.made()[0]["id"]
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()
    bound = await shop.payment(command.payment_id)
    held.released.set()
    await shop.attempts_pool.finish()

    assert (bound["state"], bound["provider_ref"], bound["version"]) == ("paid", ref, 1)
    assert await shop.payment(command.payment_id) == bound
    assert await shop.event_names() == ["paid.v1"]
    assert await shop.findings() == []


@pytest.mark.rule("PA8")
async def test_a_webhook_after_a_lost_create_answer_binds_the_payment(shop: Any, sandbox: Any, client_of: Any) -> None:
    shop.use(client_of(sandbox.yookassa_url, timeout_s=0.3))
    sandbox.fault("timeout_after_commit", route="POST /payments")
    command = await shop.request()
    await shop.send_attempts()
    ref = sandbox.made()[0]["id"]
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()
    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    assert (await shop.payment(command.payment_id))["state"] == "paid"
    assert await shop.event_names() == ["paid.v1"]
    assert len(sandbox.requests("POST")) == 1


@pytest.mark.rule("PA13")
async def test_another_content_under_the_same_key_is_kept_as_a_finding(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.pending()
    _, other = await fake_shop.pending()
    for one in (ref, other):
        fake_provider.pay(one)

    await fake_shop.send_fake_webhook(ref, "event-1")
    await fake_shop.send_fake_webhook(other, "event-1")
    await fake_shop.settle_webhooks()

    assert sorted(await fake_shop.webhook_states()) == ["applied", "conflict"]
    assert await fake_shop.findings() == ["webhook_variant"]


# woocommerce-gateway-stripe#1225: counters and states of a later moment are no other content
@pytest.mark.rule("PA13")
async def test_a_copy_with_another_body_is_a_duplicate(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.send_webhook(ref, note="its receipt is registered meanwhile")
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["applied"]
    assert await shop.findings() == []
    assert await shop.event_names() == ["created.v1", "paid.v1"]


@pytest.mark.rule("PA14")
async def test_a_stale_webhook_after_the_final_one_changes_nothing(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")
    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    await shop.send_webhook(ref, "payment.waiting_for_capture")
    await shop.send_webhook(ref, "payment.canceled")
    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["applied", "ignored", "ignored"]
    assert await shop.event_names() == ["created.v1", "paid.v1"]


@pytest.mark.rule("PA15")
async def test_money_for_a_canceled_payment_is_published_as_late(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    await shop.rows("UPDATE payment SET state = 'canceled', next_at = NULL WHERE payment_id = $1", payment_id)
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    assert await shop.event_names() == ["created.v1", "paid_late.v1"]
    assert (await shop.payment(payment_id))["state"] == "paid"


async def test_a_refund_notice_before_the_payment_notice_settles_the_payment(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")
    body = '{"type":"notification","event":"refund.succeeded","object":{"id":"refund-1","payment_id":"' + ref + '"}}'

    await shop.post("/webhooks/yookassa/demo", body)
    await shop.settle_webhooks()

    assert await shop.event_names() == ["created.v1", "paid.v1"]


async def test_a_webhook_that_could_not_be_fetched_for_days_is_a_finding(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.fault("http:500")
    await shop.send_webhook(ref)
    await shop.rows("UPDATE webhook SET received_at = now() - interval '4 days'")

    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["orphan"]
    assert await shop.findings() == ["webhook_never_fetched"]


async def test_a_webhook_of_an_account_that_is_not_served_any_more_is_parked(shop: Any) -> None:
    await shop.send_webhook("ref-1")
    await shop.rows("UPDATE webhook SET account = 'closed'")

    await shop.settle_webhooks()

    assert await shop.webhook_states() == ["waiting"]


class Held:
    """A real provider whose answers to a creation arrive late."""

    def __init__(self, provider: clients.Provider) -> None:
        self._provider = provider
        self.made, self.released = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        fact = await self._provider.create(order, key=key)
        self.made.set()
        await self.released.wait()
        return fact
