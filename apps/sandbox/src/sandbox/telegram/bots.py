"""The state of all bots: messages by chat, blocks, webhooks and pending updates. All of it is bounded."""

import asyncio
import dataclasses
import itertools
import secrets
from collections import deque
from typing import Any

from sandbox import webhooks

MESSAGES_MAX = 200_000
BLOCKED_MAX = 100_000
CHATS_MAX = 10_000
BOTS_MAX = 1000
UPDATES_MAX = 1000
UPDATE_ID_MIN = 500_000_000


@dataclasses.dataclass(slots=True, kw_only=True)
class Message:
    """A message of a bot; `source` is the text as sent, `text` the text without markup. An invoice has none."""

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
    message_thread_id: int | None = None
    invoice: dict[str, Any] | None = None
    edited_at: int | None = None
    is_deleted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return all fields of the message."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class ChatState:
    """What became of a chat: `problem` names a refusal of routes.CHAT_PROBLEMS, `migrated_to` is the new id."""

    problem: str | None = None
    migrated_to: int | None = None
    closed_topics: frozenset[int] = frozenset()  # 0 is the topic General, which has no thread id


@dataclasses.dataclass(slots=True)
class BotWebhook:
    """The webhook of a bot and the deliveries to it."""

    url: str
    secret_token: str
    max_connections: int
    allowed_updates: list[str]
    deliveries: deque[webhooks.Delivery] = dataclasses.field(default_factory=lambda: deque(maxlen=UPDATES_MAX))


@dataclasses.dataclass(slots=True)
class Bot:
    """A bot and its pending updates."""

    id: int
    secret: str
    webhook: BotWebhook | None = None
    updates: deque[dict[str, Any]] = dataclasses.field(default_factory=lambda: deque(maxlen=UPDATES_MAX))
    update_arrived: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    message_ids: "itertools.count[int]" = dataclasses.field(default_factory=lambda: itertools.count(1))
    # Starts at a random number, as after a week without updates: receivers may remember those of an earlier run.
    update_ids: "itertools.count[int]" = dataclasses.field(
        default_factory=lambda: itertools.count(UPDATE_ID_MIN + secrets.randbelow(UPDATE_ID_MIN))
    )


class Bots:
    """All bots, their messages and the chats that block them."""

    def __init__(self, demo_token: str) -> None:
        self._demo_token = demo_token
        self._bots: dict[int, Bot] = {}
        self._messages: dict[int, Message] = {}
        self._by_chat: dict[tuple[int, int], dict[int, Message]] = {}
        self._blocked: dict[tuple[int | None, int], None] = {}
        self._chats: dict[int, ChatState] = {}
        self._numbers = itertools.count(1)
        self.authenticate(demo_token)

    def reset(self) -> None:
        """Remove all messages, blocks and bots except the demo bot."""
        self._bots.clear()
        self._messages.clear()
        self._by_chat.clear()
        self._blocked.clear()
        self._chats.clear()
        self.authenticate(self._demo_token)

    def authenticate(self, token: str) -> Bot | None:
        """Return the bot of a token, or None if the token is wrong. The first token with a bot id creates the bot."""
        bot_id, _, secret = token.partition(":")
        bot = self._bots.get(int(bot_id))
        if bot is None and len(self._bots) < BOTS_MAX:
            bot = self._bots[int(bot_id)] = Bot(int(bot_id), secret)
        return bot if bot is not None and bot.secret == secret else None

    def find(self, bot_id: int | None) -> list[Bot]:
        """Return the bot with this id, or all bots for None."""
        return [bot for bot in self._bots.values() if bot_id in {None, bot.id}]

    def add_message(self, bot: Bot, chat_id: int, **content: Any) -> Message:
        """Store a new message; the oldest of all is evicted when the store is full."""
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

    def find_message(self, bot: Bot, chat_id: int, message_id: int) -> Message | None:
        """Return a message that was not deleted, or None."""
        message = self._by_chat.get((bot.id, chat_id), {}).get(message_id)
        return message if message is not None and not message.is_deleted else None

    def latest_messages(self, *, chat_id: int | None, bot_id: int | None, limit: int) -> list[Message]:
        """Return the last `limit` messages, of one chat and bot if given, oldest first, including deleted ones."""
        if chat_id is None:
            found = [message for message in self._messages.values() if bot_id in {None, message.bot_id}]
        else:
            chats = [self._by_chat.get((bot.id, chat_id), {}) for bot in self.find(bot_id)]
            found = sorted((message for chat in chats for message in chat.values()), key=lambda message: message.number)
        return found[-limit:]

    def set_blocked(self, chat_id: int, bot_id: int | None, *, is_blocked: bool) -> None:
        """Block or unblock one bot, or all bots, for a chat."""
        if is_blocked:
            self._blocked[bot_id, chat_id] = None
            if len(self._blocked) > BLOCKED_MAX:
                del self._blocked[next(iter(self._blocked))]
        elif bot_id is None:
            self._blocked = {pair: None for pair in self._blocked if pair[1] != chat_id}
        else:
            self._blocked.pop((bot_id, chat_id), None)

    def is_blocked(self, bot: Bot, *, chat_id: int) -> bool:
        """Tell whether the chat blocks the bot."""
        return (bot.id, chat_id) in self._blocked or (None, chat_id) in self._blocked

    def set_chat(self, chat_id: int, state: ChatState) -> None:
        """Change what became of a chat, for all bots."""
        self._chats[chat_id] = state
        if len(self._chats) > CHATS_MAX:
            del self._chats[next(iter(self._chats))]

    def chat(self, chat_id: int) -> ChatState:
        """Return what became of a chat."""
        return self._chats.get(chat_id, ChatState())

    def _evict_oldest(self) -> None:
        oldest = self._messages.pop(next(iter(self._messages)))
        chat = self._by_chat[oldest.bot_id, oldest.chat_id]
        del chat[oldest.message_id]
        if not chat:
            del self._by_chat[oldest.bot_id, oldest.chat_id]


def is_group(chat_id: int) -> bool:
    """Tell whether the id is that of a group or channel, which are negative."""
    return chat_id < 0
