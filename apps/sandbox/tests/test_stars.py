"""Telegram Stars through aiogram: pre-checkout queries with their deadline, charges, refunds, subscriptions."""
# ruff: noqa: ASYNC210, ASYNC212 - the sandbox serves from a thread of its own, so a short blocking call is harmless

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chassis import testing

if TYPE_CHECKING:
    import aiogram
    from aiogram import exceptions, types
else:  # its import takes seconds, and every process of a parallel run collects this file
    aiogram, exceptions, types = map(testing.LazyModule, ("aiogram", "aiogram.exceptions", "aiogram.types"))

Received = Callable[[int], list[dict[str, Any]]]
TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
PAYER = 42
MONTH_S = 2_592_000


@pytest.fixture
async def bot(ctl: httpx.Client, sandbox_url: str) -> AsyncIterator[aiogram.Bot]:
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    server = TelegramAPIServer.from_base(f"{sandbox_url}/telegram")
    async with aiogram.Bot(TOKEN, session=AiohttpSession(api=server)) as bot:
        yield bot


async def invoice(bot: aiogram.Bot, **changes: Any) -> str:
    params: dict[str, Any] = {
        "title": "Top-up",
        "description": "50 Stars",
        "payload": "p-1",
        "currency": "XTR",
        "prices": [types.LabeledPrice(label="Top-up", amount=50)],
    }
    return (await bot.create_invoice_link(**(params | changes))).rpartition("/")[2]


def act(ctl: httpx.Client, ref: str, action: str, **body: Any) -> Any:
    return ctl.post(f"/payments/{ref}/{action}", json=body).raise_for_status().json()


async def latest_query(bot: aiogram.Bot) -> types.PreCheckoutQuery:
    query = (await bot.get_updates(offset=-1))[0].pre_checkout_query
    assert query is not None
    return query


async def paid(bot: aiogram.Bot, ctl: httpx.Client, ref: str, payer: int = PAYER) -> types.SuccessfulPayment:
    act(ctl, ref, "pay", user_id=payer)
    await bot.answer_pre_checkout_query((await latest_query(bot)).id, ok=True)
    message = (await bot.get_updates(offset=-1))[0].message
    assert message is not None
    assert message.successful_payment is not None
    return message.successful_payment


def checkout(ctl: httpx.Client, ref: str) -> Any:
    return ctl.get(f"/payments/{ref}").json()["payment"]["checkouts"][-1]


async def test_the_bot_gets_a_pre_checkout_query_and_then_the_payment(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    act(ctl, ref, "pay", user_id=PAYER)

    query = await latest_query(bot)
    await bot.answer_pre_checkout_query(query.id, ok=True)
    update = (await bot.get_updates(offset=-1))[0]

    assert (query.from_user.id, query.currency, query.total_amount, query.invoice_payload) == (PAYER, "XTR", 50, "p-1")
    assert update.message is not None
    assert update.message.from_user is not None
    assert (update.message.from_user.id, update.message.chat.id) == (PAYER, PAYER)
    assert update.message.successful_payment is not None
    assert update.message.successful_payment.total_amount == 50
    assert update.message.successful_payment.invoice_payload == "p-1"
    assert update.message.successful_payment.is_recurring is None


async def test_a_refused_pre_checkout_query_is_no_payment(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    act(ctl, ref, "pay")

    await bot.answer_pre_checkout_query((await latest_query(bot)).id, ok=False, error_message="Sold out")

    assert (checkout(ctl, ref)["state"], checkout(ctl, ref)["error_message"]) == ("refused", "Sold out")
    assert len(await bot.get_updates()) == 1
    assert (await bot.get_my_star_balance()).amount == 0


async def test_an_answer_after_ten_seconds_is_too_late(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    act(ctl, ref, "pay")
    query = await latest_query(bot)

    ctl.post("/clock", json={"advance_s": 10.1}).raise_for_status()

    with pytest.raises(exceptions.TelegramBadRequest, match="query is too old"):
        await bot.answer_pre_checkout_query(query.id, ok=True)
    assert checkout(ctl, ref)["state"] == "timed_out"
    assert len(await bot.get_updates()) == 1


async def test_a_pre_checkout_query_is_answered_once_and_refused_with_a_reason(
    bot: aiogram.Bot, ctl: httpx.Client
) -> None:
    act(ctl, await invoice(bot), "pay")
    query = await latest_query(bot)

    with pytest.raises(exceptions.TelegramBadRequest, match="error_message"):
        await bot.answer_pre_checkout_query(query.id, ok=False)
    await bot.answer_pre_checkout_query(query.id, ok=True)
    with pytest.raises(exceptions.TelegramBadRequest, match="query is too old"):
        await bot.answer_pre_checkout_query(query.id, ok=True)

    assert (await bot.get_my_star_balance()).amount == 50


async def test_a_payer_without_stars_does_not_pay(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    act(ctl, ref, "decline")

    await bot.answer_pre_checkout_query((await latest_query(bot)).id, ok=True)

    assert checkout(ctl, ref)["state"] == "unpaid"
    assert len(await bot.get_updates()) == 1


async def test_an_invoice_can_be_paid_several_times_by_several_people(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)

    charges = [(await paid(bot, ctl, ref, payer)).telegram_payment_charge_id for payer in (42, 42, 43)]

    listed = (await bot.get_star_transactions()).transactions
    assert len(set(charges)) == 3
    assert [one.id for one in listed] == charges
    assert (await bot.get_my_star_balance()).amount == 150


async def test_a_charge_is_refunded_once_and_under_its_own_id(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    charge = (await paid(bot, ctl, await invoice(bot))).telegram_payment_charge_id

    await bot.refund_star_payment(PAYER, charge)
    with pytest.raises(exceptions.TelegramBadRequest, match="CHARGE_ALREADY_REFUNDED"):
        await bot.refund_star_payment(PAYER, charge)

    payment, refund = (await bot.get_star_transactions()).transactions
    message = (await bot.get_updates(offset=-1))[0].message
    assert (payment.id, refund.id) == (charge, charge)
    assert isinstance(payment.source, types.TransactionPartnerUser)
    assert isinstance(refund.receiver, types.TransactionPartnerUser)
    assert (payment.source.invoice_payload, refund.source) == ("p-1", None)
    assert message is not None
    assert message.refunded_payment is not None
    assert message.refunded_payment.telegram_payment_charge_id == charge
    assert (await bot.get_my_star_balance()).amount == 0


async def test_a_charge_of_another_user_cannot_be_refunded(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    charge = (await paid(bot, ctl, await invoice(bot))).telegram_payment_charge_id

    for payer, ref in ((PAYER + 1, charge), (PAYER, "none")):
        with pytest.raises(exceptions.TelegramBadRequest, match="CHARGE_NOT_FOUND"):
            await bot.refund_star_payment(payer, ref)


async def test_telegrams_support_refunds_in_full_only(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    await paid(bot, ctl, ref)

    assert ctl.post(f"/payments/{ref}/refund", json={"amount_minor": 20}).status_code == 409
    act(ctl, ref, "refund", amount_minor=50)

    assert ctl.post(f"/payments/{ref}/refund").status_code == 409
    assert (await bot.get_my_star_balance()).amount == 0


async def test_transactions_are_listed_in_pages_oldest_first(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)
    charges = [(await paid(bot, ctl, ref)).telegram_payment_charge_id for _ in range(3)]

    page = (await bot.get_star_transactions(offset=1, limit=1)).transactions

    assert [one.id for one in page] == [charges[1]]
    with pytest.raises(exceptions.TelegramBadRequest):
        await bot.get_star_transactions(limit=101)


async def test_a_subscription_is_renewed_until_it_is_canceled(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    first = await paid(bot, ctl, await invoice(bot, subscription_period=MONTH_S))
    ctl.post("/clock", json={"advance_s": MONTH_S + 1}).raise_for_status()
    message = (await bot.get_updates(offset=-1))[0].message
    assert message is not None
    renewal = message.successful_payment
    assert renewal is not None

    await bot.edit_user_star_subscription(PAYER, first.telegram_payment_charge_id, is_canceled=True)
    ctl.post("/clock", json={"advance_s": MONTH_S + 1}).raise_for_status()

    assert (first.is_recurring, first.is_first_recurring) == (True, True)
    assert (renewal.is_recurring, renewal.is_first_recurring) == (True, None)
    assert renewal.telegram_payment_charge_id != first.telegram_payment_charge_id
    assert renewal.invoice_payload == first.invoice_payload
    assert len((await bot.get_star_transactions()).transactions) == 2


async def test_a_renewal_can_be_triggered(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    once = await paid(bot, ctl, await invoice(bot))
    first = await paid(bot, ctl, await invoice(bot, subscription_period=MONTH_S))

    act(ctl, first.telegram_payment_charge_id, "pay")

    assert len((await bot.get_star_transactions()).transactions) == 3
    assert ctl.post(f"/payments/{once.telegram_payment_charge_id}/pay").status_code == 409


async def test_a_webhook_gets_query_and_payment_with_its_secret(
    bot: aiogram.Bot, ctl: httpx.Client, receiver: Any, received: Received, replies: list[bytes]
) -> None:
    ref = await invoice(bot)
    url = f"http://127.0.0.1:{receiver.server_address[1]}/telegram"
    await bot.set_webhook(url, secret_token="s3cret", allowed_updates=["message", "pre_checkout_query"])
    act(ctl, ref, "pay", user_id=PAYER)

    query = types.Update.model_validate(received(1)[0]["body"]).pre_checkout_query
    assert query is not None
    await bot.answer_pre_checkout_query(query.id, ok=True)

    _, payment_update = received(2)
    message = types.Update.model_validate(payment_update["body"]).message
    assert message is not None
    assert message.successful_payment is not None
    assert payment_update["headers"]["x-telegram-bot-api-secret-token"] == "s3cret"


async def test_the_response_to_a_webhook_may_answer_the_query(
    bot: aiogram.Bot, ctl: httpx.Client, receiver: Any, received: Received, replies: list[bytes]
) -> None:
    ref = await invoice(bot)
    await bot.set_webhook(f"http://127.0.0.1:{receiver.server_address[1]}/telegram")

    # The id of the query is known only after the first attempt, so that attempt fails on purpose.
    receiver.statuses.append(500)
    act(ctl, ref, "pay", user_id=PAYER)
    query_id = received(1)[0]["body"]["pre_checkout_query"]["id"]
    reply = {"method": "answerPreCheckoutQuery", "pre_checkout_query_id": query_id, "ok": True}
    replies.append(json.dumps(reply).encode())
    ctl.post("/clock", json={"advance_s": 2}).raise_for_status()

    assert received(3)[2]["body"]["message"]["successful_payment"]["invoice_payload"] == "p-1"
    assert checkout(ctl, ref)["state"] == "agreed"


@pytest.mark.parametrize("reply", [b"ok", b"[]", b'{"method":"none"}', b'{"method":"sendMessage"}', b"\xff"])
async def test_an_invalid_response_to_a_webhook_is_ignored(
    bot: aiogram.Bot, ctl: httpx.Client, receiver: Any, replies: list[bytes], reply: bytes
) -> None:
    ref = await invoice(bot)
    await bot.set_webhook(f"http://127.0.0.1:{receiver.server_address[1]}/telegram")
    replies.append(reply)

    act(ctl, ref, "pay")

    assert ctl.get("/webhooks").json()["acknowledged"] == 1
    assert checkout(ctl, ref)["state"] == "asked"


async def test_an_invoice_sent_to_a_chat_is_a_message(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    message = await bot.send_invoice(
        PAYER,
        title="Top-up",
        description="50 Stars",
        payload="p-1",
        currency="XTR",
        prices=[types.LabeledPrice(label="Top-up", amount=50)],
    )
    [listed] = ctl.get("/payments", params={"provider": "telegram"}).json()["items"]

    await paid(bot, ctl, listed["payment"]["id"])

    assert message.invoice is not None
    assert (message.invoice.currency, message.invoice.total_amount) == ("XTR", 50)
    assert ctl.get("/telegram/messages").json()["items"][0]["invoice"]["title"] == "Top-up"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"title": "x" * 33}, "INVOICE_TITLE_INVALID"),
        ({"description": ""}, "INVOICE_DESCRIPTION_INVALID"),
        ({"payload": "ц" * 65}, "INVOICE_PAYLOAD_INVALID"),
        ({"currency": "RUB"}, "PAYMENT_PROVIDER_INVALID"),
        ({"provider_token": "1:TEST:1"}, "PAYMENT_PROVIDER_INVALID"),
        ({"prices": []}, "STARS_INVOICE_INVALID"),
        ({"prices": [types.LabeledPrice(label="x", amount=1)] * 2}, "STARS_INVOICE_INVALID"),
        ({"prices": [types.LabeledPrice(label="x", amount=0)]}, "CURRENCY_TOTAL_AMOUNT_INVALID"),
        ({"subscription_period": 86_400}, "SUBSCRIPTION_PERIOD_INVALID"),
        (
            {"subscription_period": MONTH_S, "prices": [types.LabeledPrice(label="x", amount=10_001)]},
            "CURRENCY_TOTAL_AMOUNT_INVALID",
        ),
    ],
)
async def test_an_invalid_invoice_is_refused(
    bot: aiogram.Bot, ctl: httpx.Client, change: dict[str, Any], error: str
) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match=error):
        await invoice(bot, **change)

    assert ctl.get("/payments", params={"provider": "telegram"}).json()["items"] == []


async def test_stars_have_no_expiry_and_no_disputes(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ref = await invoice(bot)

    assert [ctl.post(f"/payments/{ref}/{action}").status_code for action in ("expire", "dispute")] == [409, 409]


async def test_the_page_asks_for_the_payers_id(bot: aiogram.Bot, ctl: httpx.Client, sandbox_url: str) -> None:
    ref = await invoice(bot)
    url = f"{sandbox_url}/pay/{ref}"

    shown = httpx.get(url)
    httpx.post(url, data={"decision": "pay", "payer_id": "77"})

    assert "50 XTR" in shown.text
    assert 'name="payer_id"' in shown.text
    assert (await latest_query(bot)).from_user.id == 77
    assert httpx.post(url, data={"decision": "pay", "payer_id": "0"}).status_code == 400
