"""The limits of stored bots, messages and blocks."""

from typing import Any

import pytest

from sandbox.telegram import bots

TOKEN = "7000000001:" + "x" * 35
CONTENT: dict[str, Any] = {
    "text": "x",
    "source": "x",
    "parse_mode": None,
    "entities": [],
    "reply_markup": None,
    "sent_at": 0,
}


def test_the_oldest_messages_are_evicted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bots, "MESSAGES_MAX", 2)
    state = bots.Bots(TOKEN)
    bot = state.authenticate(TOKEN)
    assert bot is not None

    messages = [state.add_message(bot, chat_id, **CONTENT) for chat_id in (5, 6, 6)]

    assert state.latest_messages(chat_id=None, bot_id=None, limit=10) == messages[1:]
    assert state.find_message(bot, 5, messages[0].message_id) is None


def test_the_number_of_bots_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bots, "BOTS_MAX", 2)
    state = bots.Bots(TOKEN)

    second, third = (state.authenticate(f"{number}:{'x' * 35}") for number in (2, 3))

    assert second is not None
    assert third is None
    assert state.authenticate(TOKEN) is not None


def test_the_oldest_blocks_are_evicted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bots, "BLOCKED_MAX", 1)
    state = bots.Bots(TOKEN)
    bot = state.authenticate(TOKEN)
    assert bot is not None

    state.set_blocked(5, None, is_blocked=True)
    state.set_blocked(6, bot.id, is_blocked=True)

    assert not state.is_blocked(bot, chat_id=5)
    assert state.is_blocked(bot, chat_id=6)
