"""What bots did: messages per bot and chat, blocked chats, webhooks and updates that wait. All of it is bounded."""

import asyncio
import dataclasses
import itertools
import secrets
from collections import deque
from typing import Any

from sandbox import webhooks

MESSAGES_MAX = 200_000
BLOCKED_MAX = 100_000
BOTS_MAX = 1000
UPDATES_MAX = 1000
UPDATE_ID_MIN = 500_000_000


@dataclasses.dataclass(slots=True, kw_only=True)
class Message:
    """One message of a bot; `source` is the text as the bot sent it, `text` is what people read. An invoice has
    neither.
    """

    number: int
    bot_id: int
    chat_id: int
    message_id: int
    text: str
    source: str
    parse_mode: str | None
    entities: list[dict[str, Any]]
    reply_markup: dict[str, Any] | None
    sent_at: int
    invoice: dict[str, Any] | None = None
    edited_at: int | None = None
    is_deleted: bool = False

    def shown(self) -> dict[str, Any]:
        """Show everything there is to know about the message."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(slots=True)
class Webhook:
    """Where a bot wants its updates, and those that went there."""

    url: str
    secret_token: str
    max_connections: int
    allowed_updates: list[str]
    deliveries: deque[webhooks.Delivery] = dataclasses.field(default_factory=lambda: deque(maxlen=UPDATES_MAX))


@dataclasses.dataclass(slots=True)
class Bot:
    """One bot and its updates that nobody fetched yet."""

    id: int
    secret: str
    webhook: Webhook | None = None
    updates: deque[dict[str, Any]] = dataclasses.field(default_factory=lambda: deque(maxlen=UPDATES_MAX))
    update_arrived: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    message_ids: "itertools.count[int]" = dataclasses.field(default_factory=lambda: itertools.count(1))
    # From a random number on, as after a week without updates: receivers remember those of an earlier run.
    update_ids: "itertools.count[int]" = dataclasses.field(
        default_factory=lambda: itertools.count(UPDATE_ID_MIN + secrets.randbelow(UPDATE_ID_MIN))
    )


class Chats:
    """All bots, their messages and who blocked whom."""

    def __init__(self, demo_token: str) -> None:
        self._demo_token = demo_token
        self._bots: dict[int, Bot] = {}
        self._messages: dict[int, Message] = {}
        self._by_chat: dict[tuple[int, int], dict[int, Message]] = {}
        self._blocked: dict[tuple[int | None, int], None] = {}
        self._numbers = itertools.count(1)
        self.bot(demo_token)

    def forget(self) -> None:
        """Forget every bot but the demo bot, and all that happened."""
        self._bots.clear()
        self._messages.clear()
        self._by_chat.clear()
        self._blocked.clear()
        self.bot(self._demo_token)

    def bot(self, token: str) -> Bot | None:
        """Find the bot of a token. The first well-formed token of a bot id introduces that bot; None means
        that the token is another one than that.
        """
        bot_id, _, secret = token.partition(":")
        bot = self._bots.get(int(bot_id))
        if bot is None and len(self._bots) < BOTS_MAX:
            bot = self._bots[int(bot_id)] = Bot(int(bot_id), secret)
        return bot if bot is not None and bot.secret == secret else None

    def bots(self, bot_id: int | None) -> list[Bot]:
        """List the bots with this id, or all of them."""
        return [bot for bot in self._bots.values() if bot_id in {None, bot.id}]

    def add(self, bot: Bot, chat_id: int, **content: Any) -> Message:
        """Keep a new message; the oldest of all leaves when there is no room."""
        message = Message(
            number=next(self._numbers),
            bot_id=bot.id,
            chat_id=chat_id,
            message_id=next(bot.message_ids),
            **content,
        )
        self._messages[message.number] = message
        self._by_chat.setdefault((bot.id, chat_id), {})[message.message_id] = message
        if len(self._messages) > MESSAGES_MAX:
            self._evict_oldest()
        return message

    def message(self, bot: Bot, chat_id: int, message_id: int) -> Message | None:
        """Find a message that is still in its chat."""
        message = self._by_chat.get((bot.id, chat_id), {}).get(message_id)
        return message if message is not None and not message.is_deleted else None

    def latest(self, *, chat_id: int | None, bot_id: int | None, limit: int) -> list[Message]:
        """List the last `limit` messages of a chat and a bot, or of any, oldest first, deleted ones too."""
        if chat_id is None:
            found = [message for message in self._messages.values() if bot_id in {None, message.bot_id}]
        else:
            chats = [self._by_chat.get((bot.id, chat_id), {}) for bot in self.bots(bot_id)]
            found = sorted((message for chat in chats for message in chat.values()), key=lambda message: message.number)
        return found[-limit:]

    def block(self, chat_id: int, bot_id: int | None, *, is_blocked: bool) -> None:
        """Let a chat block, or unblock, one bot or all of them."""
        if is_blocked:
            self._blocked[bot_id, chat_id] = None
            if len(self._blocked) > BLOCKED_MAX:
                del self._blocked[next(iter(self._blocked))]
        elif bot_id is None:
            self._blocked = {pair: None for pair in self._blocked if pair[1] != chat_id}
        else:
            self._blocked.pop((bot_id, chat_id), None)

    def has_blocked(self, chat_id: int, bot: Bot) -> bool:
        """Tell whether the bot may not write to the chat."""
        return (bot.id, chat_id) in self._blocked or (None, chat_id) in self._blocked

    def _evict_oldest(self) -> None:
        oldest = self._messages.pop(next(iter(self._messages)))
        chat = self._by_chat[oldest.bot_id, oldest.chat_id]
        del chat[oldest.message_id]
        if not chat:
            del self._by_chat[oldest.bot_id, oldest.chat_id]


def is_group(chat_id: int) -> bool:
    """Tell whether the id is a group's: groups and channels have negative ids."""
    return chat_id < 0
