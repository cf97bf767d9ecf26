"""The rate limiter of one bot, by Telegram's published limits and its 429 responses. In memory, per process.

Several processes of one bot share no state; together they are limited by Telegram's 429 responses.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

BOT_PER_S = 30
CHAT_EVERY_S = 1.0
CHAT_BURST = 3
GROUP_EVERY_S = 3.0  # twenty a minute
GROUP_BURST = 5
PAUSE_S_MAX = 3_600
CHAT_WAIT_S_MAX = 60.0
CHATS_MAX = 10_000


@dataclass(slots=True)
class _Chat:
    """`used_until` is when the bucket is full again; `promised_until` includes the sends that wait, bulk or not."""

    used_until: float
    promised_until: dict[bool, float]


class RateLimiter:
    """Token buckets of a bot and of its chats, each stored as the time at which it is full again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets."""
        self._clock = clock
        self._used_until = clock()
        self._paused_until = clock()
        self._chats: dict[int, _Chat] = {}

    def available(self) -> int:
        """Return the number of messages that the bot may send now; 0 while it is paused."""
        now = self._clock()
        if now < self._paused_until:
            return 0
        used = max(self._used_until - now, 0.0) * BOT_PER_S
        return int(BOT_PER_S - used + 1e-6)

    def paused_for_s(self) -> float:
        """Return the seconds until the bot may send again; 0 when it may send."""
        return max(self._paused_until - self._clock(), 0.0)

    def pause(self, seconds: float) -> None:
        """Pause the whole bot; a pause that ends later stays."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, PAUSE_S_MAX))

    def take(self, chat_id: int, *, is_bulk: bool = False) -> float:
        """Take a token for one message to a chat and return 0, or the seconds to wait when there is none.

        Each call gets a later time to wait for, so that the retries don't come all at once; bulk delays bulk only.
        """
        now = self._clock()
        every_s, burst = (GROUP_EVERY_S, GROUP_BURST) if chat_id < 0 else (CHAT_EVERY_S, CHAT_BURST)
        chat = self._chat(chat_id, now)
        allowed_until = now + every_s * (burst - 1)
        chat.used_until = max(chat.used_until, now)
        if chat.used_until <= allowed_until:
            chat.used_until += every_s
            self._used_until = max(self._used_until, now) + 1 / BOT_PER_S
            return 0.0
        promised_until = max(chat.promised_until[is_bulk], chat.used_until)
        chat.promised_until[is_bulk] = promised_until + every_s
        return min(promised_until - allowed_until, CHAT_WAIT_S_MAX)

    def _chat(self, chat_id: int, now: float) -> _Chat:
        if len(self._chats) >= CHATS_MAX:
            # A full bucket holds no information; the others are as many as the bot can use, some dozens.
            self._chats = {key: chat for key, chat in self._chats.items() if chat.used_until > now}
        return self._chats.setdefault(chat_id, _Chat(now, {False: now, True: now}))
