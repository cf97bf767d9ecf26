"""The managers' chat: it moves, closes its topics, refuses messages for a while, and nothing queued for it is lost."""

import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from chassis import database
from contracts.message import TenantId, UserId
from notifier import store
from notifier.clients import rate_limiter, telegram
from notifier.domain import templates
from notifier.timers import manager_chat, sending

DEMO = TenantId("demo")
USER, CHAT = UserId(UUID("00000000-0000-7000-8000-00000000000a")), 77
MANAGERS, MOVED, TOPIC = -100_500, -1_000_000_100_500, 7
TOKEN = SecretStr("7000000011:a-secret-of-the-chat-tests")


@pytest.fixture
async def channel(sandbox_url: str, ctl: httpx.Client) -> AsyncIterator[sending.Channel]:
    bot = telegram.Bot(f"{sandbox_url}/telegram", TOKEN)
    minutes = itertools.count(step=60)  # at each look a minute later, so that no limit holds messages up
    yield sending.Channel(DEMO, MANAGERS, bot, rate_limiter.RateLimiter(lambda: float(next(minutes))), TOPIC)
    await bot.close()


@pytest.fixture
def watch(channel: sending.Channel) -> manager_chat.Watch:
    return manager_chat.Watch(DEMO, MANAGERS, channel.bot)


def change(ctl: httpx.Client, **state: Any) -> None:
    ctl.post("/telegram/chat", json={"chat_id": MANAGERS} | state).raise_for_status()


def messages(ctl: httpx.Client, chat_id: int) -> list[dict[str, Any]]:
    return list(ctl.get("/telegram/messages", params={"chat_id": chat_id}).json()["items"])


def texts(ctl: httpx.Client, chat_id: int) -> list[str]:
    return [message["text"] for message in messages(ctl, chat_id)]


async def queue(db: database.Database, *texts: str, user_id: UserId | None = None) -> None:
    async with db.transaction() as tx:
        await store.add(tx, [templates.Draft(DEMO, "order_to_pack", str(uuid4()), user_id, text) for text in texts])


async def fetch(db: database.Database, statement: str) -> list[tuple[Any, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(statement)]


async def ended(db: database.Database) -> list[tuple[Any, ...]]:
    return await fetch(db, "SELECT state, reason, attempts FROM notification ORDER BY id")


async def make_probe_due(db: database.Database) -> None:
    await fetch(db, "UPDATE manager_chat SET probe_at = now() WHERE probe_at IS NOT NULL RETURNING 1")


# TwiN/gatus#179, umputun/tg-spam#142
async def test_messages_follow_a_group_that_has_become_a_supergroup(
    db: database.Database, channel: sending.Channel, watch: manager_chat.Watch, ctl: httpx.Client
) -> None:
    change(ctl, migrated_to=MOVED)
    await queue(db, "One", "Two")

    for _ in range(2):
        await sending.send_notifications(db, channel)
    await queue(db, "Three")
    await sending.send_notifications(db, channel)
    await watch.measure(db)

    assert texts(ctl, MANAGERS) == []
    arrived = texts(ctl, MOVED)
    assert sorted(arrived[:2]) == ["One", "Two"]
    assert [text for text in arrived if str(MOVED) in text] == [arrived[2]]
    assert arrived[3:] == ["Three"]
    assert {state for state, _, _ in await ended(db)} == {"sent"}
    assert watch.warning == f"has migrated: set NOTIFIER_MANAGER_CHAT_ID to {MOVED}"


@pytest.mark.parametrize("problem", ["not_found", "no_rights", "write_forbidden", "kicked", "not_a_member", "deleted"])
async def test_messages_wait_for_a_chat_that_refuses_them(
    db: database.Database, channel: sending.Channel, watch: manager_chat.Watch, ctl: httpx.Client, problem: str
) -> None:
    change(ctl, problem=problem)
    await queue(db, "One", "Two", "Three")
    for _ in range(3):
        await sending.send_notifications(db, channel)
    await watch.measure(db)
    assert await ended(db) == [("queued", "chat_down", 0)] * 3
    assert REGISTRY.get_sample_value("kopilka_notifier_manager_chat_down") == 1
    assert "refuses messages since" in (watch.warning or "")
    assert "3 wait" in (watch.warning or "")

    change(ctl)
    await make_probe_due(db)
    for _ in range(2):
        await sending.send_notifications(db, channel)
    await watch.measure(db)

    assert sorted(texts(ctl, MANAGERS)) == ["One", "Three", "Two"]
    assert await ended(db) == [("sent", None, 1)] * 3
    assert REGISTRY.get_sample_value("kopilka_notifier_manager_chat_down") == 0
    assert watch.warning is None


async def test_a_chat_that_refuses_messages_is_tried_with_one_of_them_after_growing_pauses(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    change(ctl, problem="kicked")
    await queue(db, "One", "Two", "Three")
    await sending.send_notifications(db, channel)
    [(attempts,)] = await fetch(db, "SELECT count(*) FROM delivery")
    pauses = []
    for _ in range(5):
        [(pause,)] = await fetch(db, "SELECT round(extract(epoch FROM probe_at - now()) / 60)::int FROM manager_chat")
        pauses.append(pause)
        await sending.send_notifications(db, channel)  # too early
        await make_probe_due(db)
        await sending.send_notifications(db, channel)

    assert pauses == [1, 5, 15, 30, 30]
    assert await fetch(db, "SELECT count(*) FROM delivery") == [(attempts + 5,)]


async def test_users_are_notified_while_the_managers_chat_refuses_messages(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    async with db.transaction() as tx:
        await store.save_recipient(tx, DEMO, USER, CHAT, None)
    change(ctl, problem="kicked")
    await queue(db, "For managers")
    await sending.send_notifications(db, channel)

    await queue(db, "For a user", user_id=USER)
    await sending.send_notifications(db, channel)

    assert texts(ctl, CHAT) == ["For a user"]


async def test_what_waits_for_the_managers_is_kept_for_a_week(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    await queue(db, "Six days", "Eight days")
    await fetch(
        db, "UPDATE notification SET created_at = now() - interval '6 days' WHERE text = 'Six days' RETURNING 1"
    )
    await fetch(
        db, "UPDATE notification SET created_at = now() - interval '8 days' WHERE text = 'Eight days' RETURNING 1"
    )

    await sending.send_notifications(db, channel)

    assert texts(ctl, MANAGERS) == ["Six days"]
    assert sorted(await ended(db)) == [("sent", None, 1), ("skipped", "too_old", 0)]


async def test_messages_go_to_the_topic_of_the_setting_and_to_general_when_it_is_closed(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    await queue(db, "Into the topic")
    await sending.send_notifications(db, channel)
    change(ctl, closed_topics=[TOPIC])
    await queue(db, "Into General")
    await sending.send_notifications(db, channel)

    assert [(item["text"], item["message_thread_id"]) for item in messages(ctl, MANAGERS)] == [
        ("Into the topic", TOPIC),
        ("Into General", None),
    ]


async def test_messages_wait_when_the_topic_and_general_are_closed(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    change(ctl, closed_topics=[TOPIC, 0])
    await queue(db, "Hello")

    await sending.send_notifications(db, channel)

    assert await ended(db) == [("queued", "chat_down", 0)]


async def test_a_chat_that_cannot_be_written_to_is_known_before_the_first_message(
    db: database.Database, watch: manager_chat.Watch, ctl: httpx.Client
) -> None:
    change(ctl, problem="no_rights")
    await watch.probe(db)
    await watch.measure(db)
    assert "the bot is restricted" in (watch.warning or "")

    change(ctl)
    await watch.probe(db)
    await watch.measure(db)

    assert watch.warning is None


async def test_another_chat_in_the_setting_is_written_to_at_once(
    db: database.Database, channel: sending.Channel, ctl: httpx.Client
) -> None:
    change(ctl, problem="deleted")
    await queue(db, "Hello")
    await sending.send_notifications(db, channel)

    channel.manager_chat_id = -100_501
    await sending.send_notifications(db, channel)

    assert texts(ctl, -100_501) == ["Hello"]
