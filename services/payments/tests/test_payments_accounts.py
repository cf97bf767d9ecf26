import json
from dataclasses import replace
from typing import Any

import fake_providers
import pytest

import contracts.payments
from chassis import errors
from contracts.message import Money, TenantId
from payments import clients, store
from payments.domain import accounts, facts
from payments.webhooks.domain import pre_checkout

FOREIGN = TenantId("other-tenant")


@pytest.fixture
def second(account: accounts.Account) -> fake_providers.FakeProvider:
    """Another account of the same tenant at the same provider."""
    return fake_providers.FakeProvider(replace(account, name="second", shop_id="second-shop"))


@pytest.fixture
def fair(fake_shop: Any, fake_provider: Any, second: fake_providers.FakeProvider, account: accounts.Account) -> Any:
    """A shop with two accounts of its own, beside one of somebody else."""
    foreign = fake_providers.FakeProvider(replace(account, name="foreign", tenant=FOREIGN))
    fake_shop.providers = clients.Providers([fake_provider, second, foreign])
    fake_shop.restart()
    return fake_shop


async def test_without_a_name_the_first_account_takes_the_payment(fair: Any) -> None:
    command = await fair.request()
    await fair.send_attempts()

    assert (await fair.payment(command.payment_id))["account"] == "demo"


async def test_a_named_account_takes_the_payment_and_is_where_everything_happens(
    fair: Any, second: fake_providers.FakeProvider, fake_provider: Any
) -> None:
    command = await fair.request(account="second")
    await fair.send_attempts()
    row = await fair.payment(command.payment_id)
    second.pay(row["provider_ref"])
    body = json.dumps({"ref": row["provider_ref"], "key": "paid"})
    await fair.post("/webhooks/yookassa/second", body, x_fake_provider=fake_providers.SECRET)
    await fair.settle_webhooks()
    await fair.refund(command.payment_id)
    await fair.send_attempts()

    paid = next(body for kind, body in await fair.events() if kind == contracts.payments.PaymentPaid.TYPE)
    assert (row["state"], row["account"], paid["provider_account"]) == ("pending", "second", "second")
    assert (await fair.payment(command.payment_id))["state"] == "refunded"
    assert fake_provider.calls == []


@pytest.mark.parametrize("name", ["third", "foreign"])
async def test_an_account_that_the_tenant_does_not_have_fails_the_payment(fair: Any, name: str) -> None:
    command = await fair.request(account=name)
    await fair.send_attempts()

    (_, said), *others = await fair.events()
    assert (said["payment_id"], said["code"]) == (str(command.payment_id), "provider_not_configured")
    assert others == []
    assert (await fair.payment(command.payment_id))["state"] == "failed"


async def test_the_same_request_with_another_account_is_another_request(fair: Any) -> None:
    command = await fair.request(account="second")
    await fair.send_attempts()

    await fair.request(payment_id=command.payment_id, account="second")
    with pytest.raises(errors.Unprocessable):
        await fair.request(payment_id=command.payment_id, account="demo")


async def test_only_the_named_accounts_bot_may_take_the_payment(fair: Any, account: accounts.Account) -> None:
    command = await fair.request(account="second")
    async with fair.db.statement() as tx:
        known = await store.payments.read(tx, command.payment_id)
    assert known is not None
    asked = facts.PreCheckout(
        pre_checkout_ref="1",
        payment_id=command.payment_id,
        amount=Money(amount_minor=150_000, currency="RUB"),
        payer="42",
    )
    now = (await fair.payment(command.payment_id))["created_at"]

    assert pre_checkout.refusal(known, asked, account, now) is not None
    assert pre_checkout.refusal(known, asked, replace(account, name="second"), now) is None
