"""Replayed webhooks: an old signature is refused, and the provider's own retry is the same webhook."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from providers import adapters, cryptopay_adapter, stripe_adapter

import contracts.payments
from chassis import database

Open = Callable[[adapters.Adapter], Any]


@pytest.fixture
def open_shop(db: database.Database, new_shop: Any, command: contracts.payments.CreatePayment) -> Open:
    def opened(provider: adapters.Adapter) -> Any:
        asked = command.model_copy(update={"provider": provider.name, "amount": provider.amount})
        return new_shop(db, provider.client(), asked)

    return opened


async def received(provider: adapters.Adapter, shop: Any) -> Any:
    """Give the genuine webhook of a payment of ours that was paid, and the payment's id."""
    command = await shop.request(amount=provider.amount)
    await shop.send_attempts()
    ref = (await shop.payment(command.payment_id))["provider_ref"]
    await provider.harness.act(ref, "pay")
    return provider.webhooks()[-1], command.payment_id


async def post(shop: Any, provider: adapters.Adapter, body: bytes, **headers: str) -> int:
    (answer,) = await shop.post(f"/webhooks/{provider.name}/demo", body, "127.0.0.1", **headers)
    return int(answer.status_code)


def signature(body: bytes, at_s: int) -> str:
    return stripe_adapter.signed(body, at_s=at_s).headers["stripe-signature"]


@pytest.mark.rule("PA2")
@pytest.mark.parametrize("provider", [stripe_adapter.Adapter], indirect=True)
@pytest.mark.parametrize("age_s", [302, 86_400, -302])
async def test_stripes_old_signature_is_refused_and_its_own_retry_is_the_same_webhook(
    provider: stripe_adapter.Adapter, open_shop: Open, age_s: int
) -> None:
    shop = open_shop(provider)
    genuine, payment_id = await received(provider, shop)
    now_s = int(datetime.now(UTC).timestamp())

    refused = await post(shop, provider, genuine.body, stripe_signature=signature(genuine.body, now_s - age_s))
    await shop.settle_webhooks()
    stored = await shop.webhook_states()
    before = await shop.payment(payment_id)
    statuses = [await post(shop, provider, genuine.body, stripe_signature=genuine.headers["stripe-signature"])]
    await shop.settle_webhooks()
    # A retry carries the same event, signed anew.
    for later_s in (1, 60, 290):
        header = signature(genuine.body, now_s + later_s)
        assert header != genuine.headers["stripe-signature"]
        statuses.append(await post(shop, provider, genuine.body, stripe_signature=header))
    await shop.settle_webhooks()

    assert (refused, stored, before["state"]) == (403, [], "pending")
    assert statuses == [200] * 4
    assert await shop.webhook_states() == ["applied"]
    assert await shop.event_names() == ["created.v1", "paid.v1"]


@pytest.mark.rule("PA2")
@pytest.mark.parametrize("provider", [cryptopay_adapter.Adapter], indirect=True)
async def test_crypto_pays_repetitions_are_one_webhook_whenever_they_come(
    provider: cryptopay_adapter.Adapter, open_shop: Open
) -> None:
    shop = open_shop(provider)
    genuine, _ = await received(provider, shop)
    # The date is that of the request, so each repetition has another one.
    dates = ("2026-01-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z")
    copies = [
        provider.sealed(json.dumps({**json.loads(genuine.body), "request_date": date}).encode()) for date in dates
    ]

    statuses = [
        await post(shop, provider, one.body, crypto_pay_api_signature=one.headers["crypto-pay-api-signature"])
        for one in (*copies, genuine, genuine)
    ]
    await shop.settle_webhooks()

    assert statuses == [200] * 4
    assert await shop.webhook_states() == ["applied"]
    assert await shop.findings() == []
    assert await shop.event_names() == ["created.v1", "paid.v1"]
