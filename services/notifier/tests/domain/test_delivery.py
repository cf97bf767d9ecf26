"""What follows from each attempt to deliver a notification, as tables."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from contracts.message import UserId
from notifier.domain import delivery
from notifier.domain.delivery import Outcome, Result, State

USER = UUID("00000000-0000-7000-8000-00000000000a")


def leased(**changes: Any) -> delivery.Notification:
    notification = delivery.Notification(
        id=1,
        lease=1,
        chat_id=77,
        user_id=UserId(USER),
        text="<b>1</b> &lt; 2",
        is_plain=False,
        attempts=0,
        may_have_arrived=False,
        age_s=0,
    )
    return replace(notification, **changes)


@pytest.mark.rule("I3")
@pytest.mark.rule("I5")
@pytest.mark.parametrize(
    ("before", "outcome", "state", "attempts"),
    [
        ({}, Outcome(Result.SENT, 200, 5), State.SENT, 1),
        ({"attempts": 3}, Outcome(Result.SENT, 200, 5), State.SENT, 4),
        ({"attempts": 3}, Outcome(Result.THROTTLED, 429, retry_after_s=7), State.QUEUED, 3),
        ({"attempts": 3}, Outcome(Result.AWAY), State.QUEUED, 3),
        ({"attempts": 3}, Outcome(Result.UNCERTAIN, 502), State.QUEUED, 4),
        ({"attempts": 11}, Outcome(Result.UNCERTAIN, 502), State.UNCERTAIN, 12),
        ({}, Outcome(Result.BLOCKED, 403), State.BLOCKED, 1),
        ({}, Outcome(Result.UNPARSABLE, 400), State.QUEUED, 1),
        ({"is_plain": True}, Outcome(Result.UNPARSABLE, 400), State.FAILED, 1),
        ({}, Outcome(Result.REJECTED, 400), State.FAILED, 1),
        ({}, Outcome(Result.CHAT_REFUSED, 400), State.FAILED, 1),
        ({"user_id": None}, Outcome(Result.CHAT_REFUSED, 400), State.QUEUED, 0),
        ({"user_id": None, "attempts": 3}, Outcome(Result.BLOCKED, 403), State.QUEUED, 3),
        ({"user_id": None}, Outcome(Result.TOPIC_CLOSED, 400), State.QUEUED, 0),
        ({"user_id": None}, Outcome(Result.MIGRATED, 400, migrated_to=-1), State.QUEUED, 0),
        ({"user_id": None}, Outcome(Result.REJECTED, 400), State.FAILED, 1),
        ({"may_have_arrived": True}, Outcome(Result.REJECTED, 400), State.UNCERTAIN, 1),
    ],
)
def test_each_outcome_leads_to_its_state_and_number_of_attempts(
    before: dict[str, Any], outcome: Outcome, state: State, attempts: int
) -> None:
    transition = delivery.after_attempt(leased(**before), outcome, jitter=0.5)

    assert (transition.state, transition.attempts) == (state, attempts)


def test_refused_markup_is_sent_once_more_as_plain_text() -> None:
    transition = delivery.after_attempt(leased(), Outcome(Result.UNPARSABLE, 400), jitter=0)

    assert (transition.is_plain, transition.wait_s) == (True, 0)
    assert leased(is_plain=True).shown_text == "1 < 2"


def test_pauses_after_uncertain_attempts_double_up_to_a_bound_and_are_spread() -> None:
    def wait_s(attempts: int, jitter: float) -> float:
        return delivery.after_attempt(leased(attempts=attempts), Outcome(Result.UNCERTAIN), jitter=jitter).wait_s

    assert [wait_s(attempts, 1) for attempts in range(4)] == [2, 4, 8, 16]
    assert wait_s(10, 1) == delivery.BACKOFF_S_MAX
    assert wait_s(3, 0) == wait_s(3, 1) / 2


@pytest.mark.rule("I10")
def test_a_telegram_that_fails_for_ten_minutes_does_not_use_up_the_attempts() -> None:
    shortest_s = sum(
        delivery.after_attempt(leased(attempts=done), Outcome(Result.UNCERTAIN, 500), jitter=0).wait_s
        for done in range(delivery.ATTEMPTS_MAX - 1)
    )

    assert shortest_s > 600


@pytest.mark.parametrize(
    ("before", "state", "reason"),
    [
        ({"age_s": delivery.MAX_AGE_S}, State.SKIPPED, "too_old"),
        ({"age_s": delivery.MAX_AGE_S, "chat_id": None}, State.SKIPPED, "recipient_unknown"),
        ({"age_s": delivery.MAX_AGE_S, "may_have_arrived": True}, State.UNCERTAIN, "too_old"),
        ({"attempts": delivery.ATTEMPTS_MAX, "may_have_arrived": True}, State.UNCERTAIN, "attempts_exhausted"),
        ({"chat_id": None}, State.QUEUED, "recipient_unknown"),
        ({"is_recipient_blocked": True}, State.SKIPPED, "recipient_blocked"),
    ],
)
def test_a_notification_that_cannot_or_need_not_be_sent_is_not_sent(
    before: dict[str, Any], state: State, reason: str
) -> None:
    transition = delivery.before_sending(leased(**before))

    assert transition is not None
    assert (transition.state, transition.reason) == (state, reason)


def test_a_notification_that_is_due_is_sent() -> None:
    assert delivery.before_sending(leased(age_s=100, attempts=3)) is None


def test_the_wait_for_an_unknown_recipient_grows_to_a_bound() -> None:
    def wait_s(age_s: float) -> float:
        transition = delivery.before_sending(leased(chat_id=None, age_s=age_s))
        assert transition is not None
        return transition.wait_s

    assert [wait_s(age_s) for age_s in (0, 10, 1_000)] == [1, 5, 60]
