"""Chats that move, close their topics or refuse messages, through aiogram."""
# ruff: noqa: ASYNC212 - the sandbox serves from a thread of its own, so a short blocking call is harmless

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from chassis import testing

if TYPE_CHECKING:
    import aiogram
    from aiogram import exceptions
else:  # its import takes seconds, and every process of a parallel run collects this file
    aiogram, exceptions = map(testing.LazyModule, ("aiogram", "aiogram.exceptions"))

TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
BOT_ID = 7000000001


@pytest.fixture
async def bot(ctl: httpx.Client, sandbox_url: str) -> AsyncIterator[aiogram.Bot]:
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    server = TelegramAPIServer.from_base(f"{sandbox_url}/telegram")
    async with aiogram.Bot(TOKEN, session=AiohttpSession(api=server)) as bot:
        yield bot


async def test_a_migrated_group_names_its_new_id(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/chat", json={"chat_id": -5, "migrated_to": -1005}).raise_for_status()

    with pytest.raises(exceptions.TelegramMigrateToChat) as refused:
        await bot.send_message(-5, "Hello")

    assert refused.value.migrate_to_chat_id == -1005


@pytest.mark.parametrize(
    ("problem", "kind", "status"),
    [
        ("not_found", "TelegramBadRequest", None),
        ("no_rights", "TelegramBadRequest", "restricted"),
        ("write_forbidden", "TelegramBadRequest", "restricted"),
        ("kicked", "TelegramForbiddenError", None),
        ("not_a_member", "TelegramForbiddenError", None),
        ("deleted", "TelegramForbiddenError", None),
    ],
)
async def test_a_chat_with_a_problem_refuses_messages(
    bot: aiogram.Bot, ctl: httpx.Client, problem: str, kind: str, status: str | None
) -> None:
    ctl.post("/telegram/chat", json={"chat_id": -5, "problem": problem}).raise_for_status()

    with pytest.raises(getattr(exceptions, kind)):
        await bot.send_message(-5, "Hello")

    if status is None:
        with pytest.raises(getattr(exceptions, kind)):
            await bot.get_chat_member(-5, BOT_ID)
    else:
        assert (await bot.get_chat_member(-5, BOT_ID)).status == status


async def test_a_closed_topic_refuses_messages_and_others_take_them(bot: aiogram.Bot, ctl: httpx.Client) -> None:
    ctl.post("/telegram/chat", json={"chat_id": -5, "closed_topics": [7]}).raise_for_status()

    with pytest.raises(exceptions.TelegramBadRequest, match="TOPIC_CLOSED"):
        await bot.send_message(-5, "Hello", message_thread_id=7)

    assert (await bot.send_message(-5, "Hello", message_thread_id=8)).message_thread_id == 8
    assert (await bot.send_message(-5, "Hello")).message_thread_id is None
    assert (await bot.get_chat_member(-5, BOT_ID)).status == "member"
