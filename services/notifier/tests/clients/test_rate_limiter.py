"""The rate limiter against a clock that the test moves."""

import pytest

from notifier.clients import rate_limiter

PERSON, GROUP = 7, -100


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bot(clock: Clock) -> rate_limiter.RateLimiter:
    return rate_limiter.RateLimiter(clock)


def test_a_bot_may_send_thirty_at_once_and_thirty_a_second_after(bot: rate_limiter.RateLimiter, clock: Clock) -> None:
    for chat_id in range(1, 31):
        assert bot.take(chat_id) == 0

    assert bot.available() == 0
    clock.now += 0.5
    assert bot.available() == 15
    clock.now += 60
    assert bot.available() == 30


def test_a_chat_gets_a_short_burst_and_then_one_a_second(bot: rate_limiter.RateLimiter, clock: Clock) -> None:
    granted = [bot.take(PERSON) for _ in range(rate_limiter.CHAT_BURST)]

    assert granted == [0, 0, 0]
    assert bot.take(PERSON) == pytest.approx(1)
    clock.now += 1
    assert bot.take(PERSON) == 0


def test_a_group_gets_twenty_a_minute(bot: rate_limiter.RateLimiter, clock: Clock) -> None:
    granted = 0
    for _ in range(600):
        granted += bot.take(GROUP) == 0
        clock.now += 1

    assert granted == 200 + rate_limiter.GROUP_BURST - 1


def test_messages_that_wait_for_one_chat_wait_until_different_times(bot: rate_limiter.RateLimiter) -> None:
    for _ in range(rate_limiter.CHAT_BURST):
        bot.take(PERSON)

    waits = [bot.take(PERSON) for _ in range(4)]

    assert waits == [pytest.approx(wait) for wait in (1, 2, 3, 4)]


def test_bulk_that_waits_for_a_chat_delays_nothing_else(bot: rate_limiter.RateLimiter) -> None:
    for _ in range(40):
        bot.take(PERSON, is_bulk=True)

    assert [bot.take(PERSON) for _ in range(2)] == [pytest.approx(1), pytest.approx(2)]
    assert bot.take(PERSON, is_bulk=True) > 30


def test_one_busy_chat_does_not_delay_another(bot: rate_limiter.RateLimiter) -> None:
    for _ in range(10):
        bot.take(PERSON)

    assert bot.take(PERSON + 1) == 0


def test_a_wait_is_bounded(bot: rate_limiter.RateLimiter) -> None:
    assert max(bot.take(PERSON) for _ in range(1_000)) == rate_limiter.CHAT_WAIT_S_MAX


@pytest.mark.rule("I5")
def test_a_paused_bot_sends_nothing_until_the_longest_pause_is_over(
    bot: rate_limiter.RateLimiter, clock: Clock
) -> None:
    bot.pause(10)
    bot.pause(3)

    clock.now += 5
    assert (bot.available(), bot.paused_for_s()) == (0, 5)
    clock.now += 5
    assert (bot.available(), bot.paused_for_s()) == (30, 0)


def test_chats_with_full_buckets_are_dropped(
    bot: rate_limiter.RateLimiter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limiter, "CHATS_MAX", 5)

    for chat_id in range(1, 100):
        bot.take(chat_id)
        clock.now += 1

    assert len(bot._chats) <= 5
