"""Sending, from the queue to the chats of the real sandbox, with every kind of response."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from chassis import database
from chassis.testing import free_port
from contracts.message import TenantId, UserId
from notifier import store
from notifier.clients import rate_limiter, telegram
from notifier.domain import delivery, templates
from notifier.timers import sending

DEMO = TenantId("demo")
USER = UserId(UUID("00000000-0000-7000-8000-00000000000a"))
CHAT, MANAGERS = 77, -100_500
TOKEN = SecretStr("7000000007:a-secret-of-the-timers-tests")


class Clock:
    """A clock that moves only when a test sets it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def channel(sandbox_url: str, ctl: httpx.Client, clock: Clock) -> AsyncIterator[sending.Channel]:
    bot = telegram.Bot(f"{sandbox_url}/telegram", TOKEN)
    yield sending.Channel(DEMO, MANAGERS, bot, rate_limiter.RateLimiter(clock))
    await bot.close()


@pytest.fixture
async def recipient(db: database.Database) -> None:
    async with db.transaction() as tx:
        await store.save_recipient(tx, DEMO, USER, CHAT, None)


async def fetch(db: database.Database, statement: str, *values: object) -> list[tuple[Any, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(statement, *values)]


async def queue(db: database.Database, text: str = "Hello", user_id: UserId | None = USER) -> None:
    async with db.transaction() as tx:
        await store.add(tx, [templates.Draft(DEMO, "top_up", str(uuid4()), user_id, text)])


async def make_due(db: database.Database) -> None:
    await fetch(db, "UPDATE notification SET next_at = now()")


async def ended(db: database.Database) -> list[tuple[Any, ...]]:
    return await fetch(db, "SELECT state, attempts, reason FROM notification ORDER BY id")


async def outcomes(db: database.Database) -> list[tuple[Any, ...]]:
    return await fetch(db, "SELECT outcome, http_status FROM delivery ORDER BY id")


def plan(ctl: httpx.Client, fault: str, count: int = 1) -> None:
    order = {"target": "telegram", "route": "sendMessage", "fault": fault, "count": count}
    ctl.post("/faults", json=order).raise_for_status()


def block(ctl: httpx.Client) -> None:
    ctl.post("/telegram/block", json={"chat_id": CHAT, "blocked": True}).raise_for_status()


def texts(ctl: httpx.Client, chat_id: int = CHAT) -> list[str]:
    return [message["text"] for message in ctl.get("/telegram/messages", params={"chat_id": chat_id}).json()["items"]]


async def test_a_notification_is_delivered_once_and_logged(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db, "Tea &lt;green&gt; &amp; <b>black</b>")

    for _ in range(3):
        await sending.send_notifications(db, channel)

    assert texts(ctl) == ["Tea <green> & black"]
    assert await ended(db) == [("sent", 1, None)]
    [(message_id,)] = await fetch(db, "SELECT telegram_message_id FROM delivery")
    assert message_id > 0


async def test_a_notification_for_the_managers_goes_to_their_chat(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    await queue(db, "Paid order", user_id=None)

    await sending.send_notifications(db, channel)

    assert texts(ctl, MANAGERS) == ["Paid order"]


@pytest.mark.rule("I5")
async def test_too_many_requests_pause_the_whole_bot_and_cost_no_attempt(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, clock: Clock
) -> None:
    await queue(db)
    plan(ctl, "http:429:7")

    await sending.send_notifications(db, channel)
    await queue(db, "Another", user_id=None)
    clock.now += 6.9
    assert await sending.send_notifications(db, channel) == 0
    assert (texts(ctl), texts(ctl, MANAGERS)) == ([], [])
    assert await ended(db) == [("queued", 0, "throttled"), ("queued", 0, None)]
    clock.now += 0.2
    await sending.send_notifications(db, channel)

    assert (texts(ctl), texts(ctl, MANAGERS)) == (["Hello"], ["Another"])
    assert await ended(db) == [("sent", 1, None), ("sent", 1, None)]


@pytest.mark.rule("I5")
async def test_a_server_error_is_tried_again_after_a_pause(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db)
    plan(ctl, "http:500", 2)

    for _ in range(4):
        await sending.send_notifications(db, channel)
        await sending.send_notifications(db, channel)
        await make_due(db)

    assert texts(ctl) == ["Hello"]
    assert await ended(db) == [("sent", 3, None)]
    assert await outcomes(db) == [("uncertain", 500), ("uncertain", 500), ("sent", 200)]


@pytest.mark.rule("I3")
async def test_an_outcome_that_stays_unknown_ends_as_uncertain(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, clock: Clock
) -> None:
    await queue(db)
    plan(ctl, "http:502", delivery.ATTEMPTS_MAX)

    for _ in range(delivery.ATTEMPTS_MAX + 2):
        await sending.send_notifications(db, channel)
        clock.now += 10
        await make_due(db)

    assert await ended(db) == [("uncertain", delivery.ATTEMPTS_MAX, "attempts_exhausted")]
    assert texts(ctl) == []


@pytest.mark.rule("I4")
async def test_a_blocked_bot_does_not_send_again(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db)
    block(ctl)

    await sending.send_notifications(db, channel)
    await make_due(db)
    await sending.send_notifications(db, channel)
    await queue(db, "A later message")
    await sending.send_notifications(db, channel)

    assert await ended(db) == [("blocked", 1, "recipient_blocked"), ("skipped", 0, "recipient_blocked")]
    assert await outcomes(db) == [("blocked", 403)]


@pytest.mark.rule("I5")
async def test_refused_markup_is_sent_once_more_as_plain_text(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db, "<b>Tea &amp; honey")

    await sending.send_notifications(db, channel)
    await sending.send_notifications(db, channel)

    assert texts(ctl) == ["Tea & honey"]
    assert await outcomes(db) == [("unparsable", 400), ("sent", 200)]


async def test_a_message_that_can_never_be_accepted_fails_at_once(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db, " ")

    await sending.send_notifications(db, channel)

    assert await ended(db) == [("failed", 1, "rejected")]


async def test_a_message_that_is_too_long_is_cut(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db, "x" * 5_000)

    for _ in range(2):
        await sending.send_notifications(db, channel)

    assert texts(ctl) == ["x" * 4_096]


async def test_a_notification_for_an_unknown_recipient_waits_for_the_chat_and_then_arrives(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    await queue(db)
    await sending.send_notifications(db, channel)
    assert await ended(db) == [("queued", 0, "recipient_unknown")]

    async with db.transaction() as tx:
        await store.save_recipient(tx, DEMO, USER, CHAT, None)
    await sending.send_notifications(db, channel)

    assert texts(ctl) == ["Hello"]


@pytest.mark.rule("I10")
async def test_notifications_that_are_too_old_are_skipped_with_the_reason(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db)
    await queue(db, user_id=UserId(uuid4()))
    await fetch(db, "UPDATE notification SET created_at = now() - interval '25 hours'")

    await sending.send_notifications(db, channel)

    assert await ended(db) == [("skipped", 0, "too_old"), ("skipped", 0, "recipient_unknown")]
    assert texts(ctl) == []


@pytest.mark.rule("I10")
async def test_while_telegram_is_away_nothing_is_lost_and_everything_arrives_later(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, clock: Clock
) -> None:
    present = channel.bot
    channel.bot = telegram.Bot(f"http://127.0.0.1:{free_port()}", TOKEN)
    for number in range(3):
        await queue(db, f"Message {number}")
    for _ in range(20):  # ten minutes of its absence
        await sending.send_notifications(db, channel)
        clock.now += 30
    await channel.bot.close()
    assert {attempts for _, attempts, _ in await ended(db)} == {0}

    channel.bot = present
    clock.now += 30
    await sending.send_notifications(db, channel)

    assert sorted(texts(ctl)) == ["Message 0", "Message 1", "Message 2"]
    assert {state for state, _, _ in await ended(db)} == {"sent"}


@pytest.mark.rule("I5")
async def test_the_pause_while_telegram_is_away_grows_to_a_bound_and_ends_with_a_success(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, clock: Clock
) -> None:
    plan(ctl, "http:401", 7)
    await queue(db)
    pauses = []
    for _ in range(7):
        await sending.send_notifications(db, channel)
        pauses.append(channel.rate_limiter.paused_for_s())
        clock.now += pauses[-1]

    await sending.send_notifications(db, channel)

    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    assert texts(ctl) == ["Hello"]
    assert channel.consecutive_failures == 0


async def test_a_busy_chat_is_limited_and_other_chats_are_served_meanwhile(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    for number in range(8):
        await queue(db, f"Message {number}")
    await queue(db, "Paid order", user_id=None)

    await sending.send_notifications(db, channel)

    assert len(texts(ctl)) == rate_limiter.CHAT_BURST
    assert texts(ctl, MANAGERS) == ["Paid order"]
    waiting = await fetch(db, "SELECT DISTINCT next_at FROM notification WHERE reason = 'chat_paced'")
    assert len(waiting) == 8 - rate_limiter.CHAT_BURST


async def test_no_more_is_leased_than_the_bot_may_send(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    for number in range(40):
        user_id = UserId(uuid4())
        async with db.transaction() as tx:
            await store.save_recipient(tx, DEMO, user_id, 1_000 + number, None)
        await queue(db, user_id=user_id)

    sent = [await sending.send_notifications(db, channel) for _ in range(2)]

    assert sent == [30, 0]
    assert (await fetch(db, "SELECT count(*) FROM notification WHERE state = 'queued' AND lease = 0")) == [(10,)]


async def test_the_gauge_counts_notifications_that_have_not_ended(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None
) -> None:
    await queue(db)
    await queue(db, user_id=UserId(uuid4()))
    await sending.send_notifications(db, channel)

    await sending.measure(db, DEMO)

    assert REGISTRY.get_sample_value("kopilka_notifications_pending") == 1


@pytest.mark.rule("I5")
async def test_after_a_throttled_message_the_rest_of_the_batch_is_not_sent(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CONCURRENT_SENDS", 1)
    for _ in range(3):
        await queue(db, user_id=None)
    plan(ctl, "http:429:7")

    await sending.send_notifications(db, channel)

    assert sorted(reason for _, _, reason in await ended(db)) == ["bot_paused", "bot_paused", "throttled"]
    assert await outcomes(db) == [("throttled", 429)]


BREAK_TWO_CONNECTIONS = """
CREATE SEQUENCE losses;
CREATE FUNCTION lose_connection() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = notifier AS $$
BEGIN
  IF nextval('losses') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER lose_connection BEFORE INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION lose_connection();
"""


async def test_an_outcome_is_saved_when_the_database_is_back_and_nothing_is_sent_twice(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, admin: asyncpg.Connection
) -> None:
    await queue(db)

    await admin.execute(BREAK_TWO_CONNECTIONS)
    await sending.send_notifications(db, channel)

    assert await admin.fetchval("SELECT last_value FROM losses") == 3
    assert await ended(db) == [("sent", 1, None)]
    assert texts(ctl) == ["Hello"]


async def test_an_outcome_that_cannot_be_saved_is_raised(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client, recipient: None, admin: asyncpg.Connection
) -> None:
    await queue(db)

    await admin.execute("ALTER TABLE delivery ADD CONSTRAINT refused CHECK (false) NOT VALID")
    with pytest.raises(asyncpg.CheckViolationError):
        await sending.send_notifications(db, channel)

    assert await ended(db) == [("sending", 0, None)]
