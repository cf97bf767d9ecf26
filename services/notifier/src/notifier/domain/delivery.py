"""The delivery of a notification: its states, and what follows from each attempt to send it."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.message import UserId
from notifier.domain import markup

MAX_AGE_S = 24 * 3_600  # a notification about something older confuses more than it helps
MANAGERS_MAX_AGE_S = 7 * 24 * 3_600  # but an order is packed late rather than never
ATTEMPTS_MAX = 12  # with the pauses below, a little over 20 minutes of a failing Telegram
BACKOFF_S_MAX = 300
PROBE_PAUSES_S = (60, 300, 900, 1_800)  # between tries of a managers' chat that refuses messages; the last repeats
UNKNOWN_RECIPIENT_WAIT_S_MAX = 60
BLOCKED_FOR_S = 3_600  # Telegram does not report an unblock, so the first notification after this long tries again

_LONG_NUMBER = re.compile(r"\d{5,}")


class State(StrEnum):
    """The state of a notification; all but the first two are final."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    UNCERTAIN = "uncertain"


FINAL = frozenset(State) - {State.QUEUED, State.SENDING}


class Result(StrEnum):
    """How one attempt ended."""

    SENT = "sent"
    THROTTLED = "throttled"  # too many requests: the whole bot must wait
    AWAY = "away"  # nothing was sent: no connection, or the token was not accepted
    UNCERTAIN = "uncertain"  # it may have arrived
    BLOCKED = "blocked"  # the bot may not write to the chat: blocked, kicked, or the chat is gone
    CHAT_REFUSED = "chat_refused"  # the chat does not exist for the bot, or it has no right to write there
    TOPIC_CLOSED = "topic_closed"  # the topic of the group is closed or deleted
    MIGRATED = "migrated"  # the group has become a supergroup, with another id
    UNPARSABLE = "unparsable"  # the markup was refused
    REJECTED = "rejected"  # Telegram will never accept it


# The managers' chat is down after these. None of them is final: chats are reopened, and rights given back.
CHAT_DOWN = frozenset({Result.BLOCKED, Result.CHAT_REFUSED, Result.TOPIC_CLOSED, Result.MIGRATED})


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification leased by a sender. Without a `chat_id` the recipient is not known yet.

    It is for the managers when it has no `user_id`; `is_chat_down` when their chat refused the last message. One that
    `is_bulk` gives way to all others.
    """

    id: int
    lease: int
    chat_id: int | None
    user_id: UserId | None
    text: str
    is_plain: bool
    attempts: int
    may_have_arrived: bool
    age_s: float
    is_bulk: bool = False
    is_recipient_blocked: bool = False
    is_chat_down: bool = False

    @property
    def is_for_managers(self) -> bool:
        """Whether the shop's managers are notified, and not a user."""
        return self.user_id is None

    @property
    def shown_text(self) -> str:
        """The text to send: HTML, or its plain text once the markup was refused."""
        return markup.plain(self.text) if self.is_plain else self.text


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt. `detail` is Telegram's own description, or the kind of a network error."""

    result: Result
    http_status: int | None = None
    message_id: int | None = None
    retry_after_s: int = 0
    detail: str | None = None
    migrated_to: int | None = None

    @property
    def loggable_detail(self) -> str | None:
        """The description without numbers that may identify a person or a chat."""
        return None if self.detail is None else _LONG_NUMBER.sub("…", self.detail)


@dataclass(frozen=True, slots=True)
class Transition:
    """The next state of a notification; for a queued one with the time until it is due again."""

    state: State
    attempts: int
    is_plain: bool
    may_have_arrived: bool
    wait_s: float = 0.0
    reason: str | None = None


def before_sending(notification: Notification) -> Transition | None:
    """Return the transition of a notification that is not to be sent now, or None when it is."""
    if notification.age_s >= (MANAGERS_MAX_AGE_S if notification.is_for_managers else MAX_AGE_S):
        return _end(notification, State.SKIPPED, "too_old" if notification.chat_id is not None else "recipient_unknown")
    if notification.attempts >= ATTEMPTS_MAX:  # each time the process was killed while sending
        return _end(notification, State.FAILED, "attempts_exhausted")
    if notification.chat_id is None:
        wait_s = min(max(notification.age_s / 2, 1), UNKNOWN_RECIPIENT_WAIT_S_MAX)
        return requeue(notification, wait_s, "recipient_unknown")
    if notification.is_recipient_blocked:
        return _end(notification, State.SKIPPED, "recipient_blocked")
    return None


def after_attempt(notification: Notification, outcome: Outcome, *, jitter: float) -> Transition:
    """Return the transition after an attempt; `jitter`, from 0 to 1, spreads the retries of simultaneous failures."""
    is_chat_down = notification.is_for_managers and outcome.result in CHAT_DOWN
    if is_chat_down or outcome.result in {Result.THROTTLED, Result.AWAY}:
        # The failure concerns the managers' chat or the whole bot, which pause: it costs this notification no attempt.
        return requeue(notification, 0, "chat_down" if is_chat_down else outcome.result)
    attempted = replace(notification, attempts=notification.attempts + 1)
    match outcome.result:
        case Result.SENT:
            return _transition(attempted, State.SENT)
        case Result.BLOCKED:
            return _transition(attempted, State.BLOCKED, "recipient_blocked")
        case Result.UNPARSABLE if not notification.is_plain:
            return requeue(replace(attempted, is_plain=True), 0, outcome.result)
        case Result.UNCERTAIN:
            return _retry(replace(attempted, may_have_arrived=True), jitter)
        case _:
            return _end(attempted, State.FAILED, outcome.result)


def requeue(notification: Notification, wait_s: float, reason: str) -> Transition:
    """Return the transition of a notification that stays queued for a while; it costs no attempt."""
    return replace(_transition(notification, State.QUEUED, reason), wait_s=wait_s)


def _retry(notification: Notification, jitter: float) -> Transition:
    if notification.attempts >= ATTEMPTS_MAX:
        return _end(notification, State.FAILED, "attempts_exhausted")
    return requeue(notification, min(2.0**notification.attempts, BACKOFF_S_MAX) * (1 + jitter) / 2, Result.UNCERTAIN)


def _end(notification: Notification, state: State, reason: str) -> Transition:
    """End without a delivery, or as uncertain when one of the attempts may have arrived."""
    return _transition(notification, State.UNCERTAIN if notification.may_have_arrived else state, reason)


def _transition(notification: Notification, state: State, reason: str | None = None) -> Transition:
    return Transition(
        state=state,
        attempts=notification.attempts,
        is_plain=notification.is_plain,
        may_have_arrived=notification.may_have_arrived,
        reason=reason,
    )
