"""The Bot API through aiogram; plain HTTP only for requests that aiogram cannot send."""
# ruff: noqa: ASYNC210, ASYNC212 - the sandbox serves from a thread of its own, so a short blocking call is harmless

from __future__ import annotations

import asyncio
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

TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
BOT_ID = 7000000001


@pytest.fixture
async def bot(ctl: httpx.Client, sandbox_url: str) -> AsyncIterator[aiogram.Bot]:
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    server = TelegramAPIServer.from_base(f"{sandbox_url}/telegram")
    async with aiogram.Bot(TOKEN, session=AiohttpSession(api=server)) as bot:
        yield bot


@pytest.fixture
def call(ctl: httpx.Client, sandbox_url: str) -> Callable[..., httpx.Response]:
    def call(method: str, **request: Any) -> httpx.Response:
        return httpx.post(f"{sandbox_url}/telegram/bot{TOKEN}/{method}", **request)

    return call


def sent(ctl: httpx.Client, **filters: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = ctl.get("/telegram/messages", params=filters).raise_for_status().json()["items"]
    return items


async def test_get_me_returns_the_bot(bot: aiogram.Bot) -> None:
    me = await bot.get_me()

    assert (me.id, me.is_bot) == (BOT_ID, True)


async def test_a_message_arrives_in_its_chat(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    first = await bot.send_message(5, "Баланс: 1 500,00 ₽")
    await bot.send_message(-100500, "New order")
    second = await bot.send_message(5, "again")

    messages = sent(ctl, chat_id=5)
    assert [message["message_id"] for message in messages] == [first.message_id, second.message_id]
    assert messages[0]["text"] == "Баланс: 1 500,00 ₽"
    assert len(sent(ctl)) == 3
    assert sent(ctl, chat_id=-100500, bot_id=BOT_ID)[0]["text"] == "New order"
    assert sent(ctl, bot_id=1) == []


async def test_html_becomes_text_and_entities(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    message = await bot.send_message(
        5, '<b>Оплата</b> 5 &lt; 6 <a href="https://x.example/?a=1&amp;b=2">link</a>', parse_mode="HTML"
    )

    assert message.text == "Оплата 5 < 6 link"
    assert message.html_text == '<b>Оплата</b> 5 &lt; 6 <a href="https://x.example/?a=1&b=2">link</a>'
    assert sent(ctl, chat_id=5)[0]["source"].startswith("<b>")


async def test_broken_html_is_refused_and_nothing_is_sent(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match='can\'t parse entities: Unsupported start tag "p" at byte'):
        await bot.send_message(5, "<p>text</p>", parse_mode="HTML")

    assert sent(ctl) == []


async def test_the_length_limit_applies_to_the_text_without_markup(bot: aiogram.Bot) -> None:
    longest = await bot.send_message(5, f"<b>{'x' * 4096}</b>", parse_mode="HTML")

    assert len(longest.text or "") == 4096
    with pytest.raises(exceptions.TelegramBadRequest, match="message is too long"):
        await bot.send_message(5, "x" * 4097)


@pytest.mark.parametrize("text", [" ", "\n\t", "<b> </b>"])
async def test_an_empty_text_is_refused(bot: aiogram.Bot, text: str) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match="message text is empty"):
        await bot.send_message(5, text, parse_mode="HTML")


@pytest.mark.parametrize("chat", [2**60, "@nobody"])
async def test_a_chat_that_does_not_exist_is_not_found(bot: aiogram.Bot, chat: int | str) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match="chat not found"):
        await bot.send_message(chat, "text")


async def test_another_parse_mode_is_refused(bot: aiogram.Bot) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match="unsupported parse_mode"):
        await bot.send_message(5, "*text*", parse_mode="MarkdownV2")


async def test_an_inline_keyboard_is_returned_with_its_message(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    button = types.InlineKeyboardButton(text="Open", url="https://x.example")

    message = await bot.send_message(5, "text", reply_markup=types.InlineKeyboardMarkup(inline_keyboard=[[button]]))

    assert message.reply_markup is not None
    assert message.reply_markup.inline_keyboard[0][0].url == "https://x.example"
    assert sent(ctl)[0]["reply_markup"]["inline_keyboard"][0][0]["text"] == "Open"


async def test_a_message_is_edited_and_deleted(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    message = await bot.send_message(5, "10 %")

    edited = await bot.edit_message_text("20 %", chat_id=5, message_id=message.message_id)
    is_deleted = await bot.delete_message(5, message.message_id)

    assert isinstance(edited, types.Message)
    assert (edited.text, edited.message_id) == ("20 %", message.message_id)
    assert is_deleted
    assert [(one["text"], one["is_deleted"]) for one in sent(ctl)] == [("20 %", True)]


async def test_an_edit_without_a_change_or_of_an_unknown_message_is_refused(bot: aiogram.Bot) -> None:
    message = await bot.send_message(5, "text")

    with pytest.raises(exceptions.TelegramBadRequest, match="message is not modified"):
        await bot.edit_message_text("text", chat_id=5, message_id=message.message_id)
    with pytest.raises(exceptions.TelegramBadRequest, match="message to edit not found"):
        await bot.edit_message_text("other", chat_id=6, message_id=message.message_id)
    with pytest.raises(exceptions.TelegramBadRequest, match="message to delete not found"):
        await bot.delete_message(5, message.message_id + 1)


async def test_a_blocked_bot_is_forbidden_until_it_is_unblocked(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()

    with pytest.raises(exceptions.TelegramForbiddenError, match="bot was blocked by the user"):
        await bot.send_message(5, "text")
    await bot.send_message(6, "text")
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": False}).raise_for_status()
    await bot.send_message(5, "text")

    assert [message["chat_id"] for message in sent(ctl)] == [6, 5]


async def test_a_chat_can_block_one_bot_of_several(bot: aiogram.Bot, ctl: httpx.Client, sandbox_url: str) -> None:
    ctl.post("/telegram/block", json={"chat_id": 5, "bot_id": 8, "blocked": True}).raise_for_status()

    await bot.send_message(5, "text")
    other = httpx.get(f"{sandbox_url}/telegram/bot8:{'x' * 35}/sendMessage?chat_id=5&text=text")

    assert other.status_code == 403


async def test_flood_control_has_the_retry_time(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/faults", json={"target": "telegram", "route": "sendMessage", "fault": "http:429:3"}).raise_for_status()

    with pytest.raises(exceptions.TelegramRetryAfter) as refusal:
        await bot.send_message(5, "text")
    await bot.send_message(5, "text")

    assert refusal.value.retry_after == 3
    assert len(sent(ctl)) == 1


async def test_a_planned_server_error_is_a_server_error(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/faults", json={"target": "telegram", "fault": "http:502"}).raise_for_status()

    with pytest.raises(exceptions.TelegramServerError):
        await bot.send_message(5, "text")


async def test_a_wrong_secret_of_an_existing_bot_is_unauthorized(ctl: httpx.Client, sandbox_url: str) -> None:
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    server = TelegramAPIServer.from_base(f"{sandbox_url}/telegram")
    async with aiogram.Bot(f"{BOT_ID}:{'x' * 35}", session=AiohttpSession(api=server)) as stranger:
        with pytest.raises(exceptions.TelegramUnauthorizedError):
            await stranger.get_me()


async def test_negative_chat_ids_are_groups(bot: aiogram.Bot) -> None:
    assert (await bot.get_chat(5)).type == "private"
    assert (await bot.get_chat(-1005)).type == "supergroup"


async def test_a_webhook_gets_updates_with_its_secret(
    bot: aiogram.Bot, ctl: httpx.Client, receiver: Any, received: Callable[[int], list[dict[str, Any]]]
) -> None:
    url = f"http://127.0.0.1:{receiver.server_address[1]}/telegram"
    await bot.set_webhook(url, secret_token="s3cret_-", max_connections=10, allowed_updates=["my_chat_member"])

    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()

    webhook = received(1)[0]
    update = types.Update.model_validate(webhook["body"])
    info = await bot.get_webhook_info()
    assert webhook["headers"]["x-telegram-bot-api-secret-token"] == "s3cret_-"
    assert update.my_chat_member is not None
    assert update.my_chat_member.new_chat_member.status == "kicked"
    assert (info.url, info.max_connections, info.pending_update_count) == (url, 10, 0)
    assert info.allowed_updates == ["my_chat_member"]


async def test_updates_are_returned_until_they_are_confirmed(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": False}).raise_for_status()

    first, second = await bot.get_updates()
    rest = await bot.get_updates(offset=first.update_id + 1)
    none = await bot.get_updates(offset=second.update_id + 1)

    assert [update.update_id for update in rest] == [second.update_id]
    assert none == []


async def test_polling_with_a_webhook_set_is_a_conflict(bot: aiogram.Bot) -> None:
    await bot.set_webhook("https://bot.example/hook")

    with pytest.raises(exceptions.TelegramConflictError):
        await bot.get_updates()
    await bot.delete_webhook()

    assert await bot.get_updates() == []
    assert (await bot.get_webhook_info()).url == ""


@pytest.mark.parametrize(
    "url", ["http://bot.example/hook", "https://bot.example:444/hook", "ftp://127.0.0.1", "http://[", "x"]
)
async def test_a_webhook_must_be_https_on_one_of_its_ports(bot: aiogram.Bot, url: str) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match="bad webhook"):
        await bot.set_webhook(url)


async def test_a_secret_token_with_other_characters_is_refused(bot: aiogram.Bot) -> None:
    with pytest.raises(exceptions.TelegramBadRequest, match="secret token"):
        await bot.set_webhook("https://bot.example/hook", secret_token="with space")


def test_parameters_are_accepted_in_every_encoding(
    ctl: httpx.Client, call: Callable[..., httpx.Response], sandbox_url: str
) -> None:
    parameters = {"chat_id": "5", "text": "a&b=ц"}

    answers = [
        httpx.get(f"{sandbox_url}/telegram/bot{TOKEN}/sendMessage", params=parameters),
        call("sendMessage", params=parameters),
        call("sendMessage", data=parameters),
        call("sendMessage", json={"chat_id": 5, "text": "a&b=ц"}),
        call("SENDMESSAGE", files={name: (None, value) for name, value in parameters.items()}),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert {message["text"] for message in sent(ctl, chat_id=5)} == {"a&b=ц"}


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {}},
        {"json": []},
        {"json": {"chat_id": 5}},
        {"json": {"chat_id": True, "text": "x"}},
        {"json": {"chat_id": 5, "text": {}}},
        {"json": {"chat_id": 5, "text": "x", "reply_markup": []}},
        {"json": {"chat_id": 5, "text": "x", "reply_markup": "{"}},
        {"json": {"chat_id": 5, "text": "x", "reply_markup": {"inline_keyboard": [["x"]]}}},
        {"json": {"chat_id": 5, "text": "x", "reply_markup": {"inline_keyboard": {}}}},
        {"json": {"chat_id": "9" * 30, "text": "x"}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
        {"content": b'{"chat_id":5,"text":"\\ud800"}', "headers": {"content-type": "application/json"}},
        {"content": b"chat_id=5&text=%ff", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"a=1&" * 200, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"no parts", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"no parts", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"--x\r\n\r\n\xff\r\n--x--", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"chat_id: 5", "headers": {"content-type": "text/yaml"}},
    ],
)
def test_a_malformed_call_is_a_bad_request(
    ctl: httpx.Client, call: Callable[..., httpx.Response], request_: dict[str, Any]
) -> None:
    answer = call("sendMessage", **request_)

    assert answer.status_code == 400
    assert (answer.json()["ok"], answer.json()["error_code"]) == (False, 400)
    assert answer.json()["description"].startswith("Bad Request: ")
    assert sent(ctl) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"bot{TOKEN}/noSuchMethod", 404),
        ("bot7:short/getMe", 401),
        ("botnone/getMe", 401),
        ("bot/getMe", 404),
        (f"bot{TOKEN}", 404),
        ("", 404),
    ],
)
def test_an_unknown_token_or_method_gets_telegrams_error(sandbox_url: str, path: str, status: int) -> None:
    answer = httpx.get(f"{sandbox_url}/telegram/{path}")

    assert answer.status_code == status
    assert answer.json()["error_code"] == status


async def test_a_group_that_blocks_a_bot_has_kicked_it(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/block", json={"chat_id": -5, "bot_id": BOT_ID, "blocked": True}).raise_for_status()

    with pytest.raises(exceptions.TelegramForbiddenError, match="bot was kicked from the group chat"):
        await bot.send_message(-5, "text")
    ctl.post("/telegram/block", json={"chat_id": -5, "bot_id": BOT_ID, "blocked": False}).raise_for_status()

    assert (await bot.send_message(-5, "text")).text == "text"


async def test_a_long_poll_returns_at_the_first_update(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    polling = asyncio.create_task(bot.get_updates(timeout=50))
    for _ in range(1000):
        if ctl.get("/requests", params={"target": "telegram"}).json()["items"]:
            break
        await asyncio.sleep(0.01)

    await asyncio.to_thread(ctl.post, "/telegram/block", json={"chat_id": 5, "blocked": True})

    assert len(await polling) == 1


async def test_updates_for_an_unreachable_webhook_are_pending(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()
    await bot.set_webhook("http://127.0.0.1:9/closed")

    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": False}).raise_for_status()

    assert (await bot.get_webhook_info()).pending_update_count == 2


async def test_a_webhook_gets_only_its_allowed_updates(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    await bot.set_webhook("http://127.0.0.1:9/closed", allowed_updates=["message"])
    await bot.set_webhook("http://127.0.0.1:9/moved")

    ctl.post("/telegram/block", json={"chat_id": 5, "blocked": True}).raise_for_status()

    info = await bot.get_webhook_info()
    assert (info.url, info.allowed_updates) == ("http://127.0.0.1:9/moved", ["message"])
    assert info.pending_update_count == 0


@pytest.mark.parametrize(
    "setting",
    [{"max_connections": 0}, {"max_connections": 101}, {"allowed_updates": [1]}, {"allowed_updates": {}}],
)
def test_a_malformed_webhook_setting_is_refused(
    ctl: httpx.Client, call: Callable[..., httpx.Response], setting: dict[str, Any]
) -> None:
    answer = call("setWebhook", json={"url": "https://bot.example/hook"} | setting)

    assert answer.status_code == 400
    assert call("getWebhookInfo").json()["result"]["url"] == ""


def test_an_empty_url_removes_the_webhook(ctl: httpx.Client, call: Callable[..., httpx.Response]) -> None:
    call("setWebhook", json={"url": "https://bot.example/hook"}).raise_for_status()

    call("setWebhook", json={"url": ""}).raise_for_status()

    assert call("getWebhookInfo").json()["result"]["url"] == ""
