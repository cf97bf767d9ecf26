"""The bot's webhook: its secret, its registration, and how updates are read."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from providers import adapters, stars_adapter
from providers.stars_adapter import method, own

from contracts.message import Money
from payments import clients
from payments.clients import stars
from payments.domain import facts

TOKEN = stars_adapter.TOKEN
# For clients that talk to nobody in the sandbox.
BOT: Any = stars_adapter.Adapter(None)  # type: ignore[arg-type]


async def test_the_webhook_is_registered_with_its_secret_and_only_what_payments_need(
    bot: stars_adapter.Adapter,
) -> None:
    client = own(bot)

    await client.register_webhook(f"{bot.harness.post.url}/telegram")

    info = await method(bot, "getWebhookInfo")
    assert info["allowed_updates"] == ["message", "pre_checkout_query"]
    await bot.ask(client, await client.create(bot.order(), key="pay.1.create.1"))
    for webhook in bot.webhooks():
        client.authenticate(webhook)


@pytest.mark.parametrize("secret", ["", "a b", "x" * 257, "ключ"])
async def test_a_webhook_is_not_registered_without_a_usable_secret(bot: stars_adapter.Adapter, secret: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret has"):
        await own(bot, webhook_secrets=(secret,)).register_webhook("https://shop.example/webhooks/stars/demo")

    assert await bot.harness.requests("telegram") == []


def with_secret(secret: str) -> facts.WebhookRequest:
    return adapters.webhook(b"{}", x_telegram_bot_api_secret_token=secret)


async def test_one_secret_can_replace_another_without_a_gap(bot: stars_adapter.Adapter) -> None:
    client = own(bot, webhook_secrets=("new", "old"))

    client.authenticate(with_secret("new"))
    client.authenticate(with_secret("old"))
    with pytest.raises(clients.Forged):
        client.authenticate(with_secret("older"))


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
async def test_an_empty_secret_accepts_no_webhook(bot: stars_adapter.Adapter, secrets: tuple[str, ...]) -> None:
    client = own(bot, webhook_secrets=secrets)

    for one in ("", "anything"):
        with pytest.raises(clients.Forged):
            client.authenticate(with_secret(one))


@pytest.mark.parametrize("token", ["", "7000000001", "7000000001:", "7000000001:a/b", "a:b", f"{TOKEN}/../x"])
def test_a_malformed_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="token is not") as refused:
        stars.api.Stars(BOT.account, base_url="http://127.0.0.1:9", timeout_s=1, token=token)

    assert token == "" or token not in str(refused.value)


async def test_updates_as_aiogram_writes_them_are_read(bot: stars_adapter.Adapter) -> None:
    from aiogram import types  # not above: it takes seconds, and every process of a parallel run collects this file

    payment_id = uuid4()
    payer = types.User(id=42, is_bot=False, first_name="A")
    charge = types.SuccessfulPayment(
        currency="XTR",
        total_amount=90,
        invoice_payload=str(payment_id),
        telegram_payment_charge_id="stx1",
        provider_payment_charge_id="42_1",
    )
    message = types.Message(
        message_id=1,
        date=datetime(2026, 11, 1, tzinfo=UTC),
        chat=types.Chat(id=42, type="private"),
        from_user=payer,
        successful_payment=charge,
    )
    update = types.Update(update_id=7, message=message).model_dump_json(by_alias=True, exclude_none=True)

    content = own(bot).read(adapters.webhook(update.encode()))

    assert isinstance(content, facts.WebhookContent)
    assert isinstance(content.movement, facts.Fact)
    assert (content.dedupe_key, content.provider_ref) == ("successful_payment:stx1", "stx1")
    assert (content.movement.payment_id, content.movement.payer) == (payment_id, "42")
    assert content.movement.paid_at == message.date
    assert content.movement.amount == Money(amount_minor=90, currency="XTR")


@pytest.mark.parametrize(
    "payload", ["", "p-1", "0F3D2F8E-8D0C-4B8E-9A39-1F8A1C2B3D4E", "{5f0c2d1e-8a4b-4c3d-9e6f-7a8b9c0d1e2f}"]
)
async def test_a_foreign_payload_names_no_payment(bot: stars_adapter.Adapter, payload: str) -> None:
    body = f"""{{"update_id":1,"message":{{"date":1780000000,"from":{{"id":42}},"successful_payment":{{
    "currency":"XTR","total_amount":90,"invoice_payload":"{payload}","telegram_payment_charge_id":"stx1"}}}}}}"""

    content = own(bot).read(adapters.webhook(body.encode()))

    assert isinstance(content, facts.WebhookContent)
    assert isinstance(content.movement, facts.Fact)
    assert content.movement.payment_id is None
    assert content.provider_ref == "stx1"


@pytest.mark.parametrize("kind", ["message", "edited_message", "my_chat_member", "subscription"])
async def test_an_update_about_something_else_is_about_no_payment(bot: stars_adapter.Adapter, kind: str) -> None:
    content = own(bot).read(adapters.webhook(f'{{"update_id":5,"{kind}":{{"date":1780000000,"text":"hi"}}}}'.encode()))

    assert content == facts.Ignored("message" if kind == "message" else "other")


async def test_a_payment_without_its_payer_is_malformed(bot: stars_adapter.Adapter) -> None:
    body = b"""{"update_id":1,"message":{"date":1780000000,"successful_payment":{"currency":"XTR","total_amount":90,
    "invoice_payload":"p","telegram_payment_charge_id":"stx1"}}}"""

    with pytest.raises(clients.Malformed):
        own(bot).read(adapters.webhook(body))
