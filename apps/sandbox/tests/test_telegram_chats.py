"""The bounded memory of bots, messages and blocks."""

from typing import Any

import pytest

from sandbox.telegram import chats

TOKEN = "7000000001:" + "x" * 35
CONTENT: dict[str, Any] = {
    "text": "x",
    "source": "x",
    "parse_mode": None,
    "entities": [],
    "reply_markup": None,
    "sent_at": 0,
}


def test_the_oldest_messages_leave_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "MESSAGES_MAX", 2)
    known = chats.Chats(TOKEN)
    bot = known.bot(TOKEN)
    assert bot is not None

    messages = [known.add(bot, chat_id, **CONTENT) for chat_id in (5, 6, 6)]

    assert known.latest(chat_id=None, bot_id=None, limit=10) == messages[1:]
    assert known.message(bot, 5, messages[0].message_id) is None


def test_no_more_bots_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "BOTS_MAX", 2)
    known = chats.Chats(TOKEN)

    second, third = (known.bot(f"{number}:{'x' * 35}") for number in (2, 3))

    assert second is not None
    assert third is None
    assert known.bot(TOKEN) is not None


def test_the_oldest_blocks_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "BLOCKED_MAX", 1)
    known = chats.Chats(TOKEN)
    bot = known.bot(TOKEN)
    assert bot is not None

    known.block(5, None, is_blocked=True)
    known.block(6, bot.id, is_blocked=True)

    assert not known.has_blocked(5, bot)
    assert known.has_blocked(6, bot)
