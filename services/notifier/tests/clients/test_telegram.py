"""The client of the Bot API against the real sandbox, and against malformed responses."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from chassis.testing import free_port
from notifier.clients import telegram
from notifier.domain import delivery
from notifier.domain.delivery import Result

TOKEN = "7000000009:a-secret-that-nobody-may-ever-read"
CHAT = 4_242


@pytest.fixture
async def bot(sandbox_url: str, ctl: httpx.Client) -> AsyncIterator[telegram.Bot]:
    opened = telegram.Bot(f"{sandbox_url}/telegram", SecretStr(TOKEN))
    yield opened
    await opened.close()


def plan(ctl: httpx.Client, fault: str, count: int = 1) -> None:
    order = {"target": "telegram", "route": "sendMessage", "fault": fault, "count": count}
    ctl.post("/faults", json=order).raise_for_status()


def change_chat(ctl: httpx.Client, problem: str) -> None:
    ctl.post("/telegram/chat", json={"chat_id": -5, "problem": problem}).raise_for_status()


def messages(ctl: httpx.Client) -> list[dict[str, Any]]:
    return list(ctl.get("/telegram/messages", params={"chat_id": CHAT}).json()["items"])


async def test_a_message_arrives_with_its_markup_applied(bot: telegram.Bot, ctl: httpx.Client) -> None:
    outcome = await bot.send(CHAT, "<b>Tea</b> &lt;3 &amp; more", is_html=True)

    [message] = messages(ctl)
    assert message["text"] == "Tea <3 & more"
    assert outcome.result is Result.SENT
    assert outcome.message_id == message["message_id"]


async def test_plain_text_arrives_without_markup(bot: telegram.Bot, ctl: httpx.Client) -> None:
    await bot.send(CHAT, "<b>1 < 2", is_html=False)

    [message] = messages(ctl)
    assert message["text"] == "<b>1 < 2"


@pytest.mark.rule("I5")
@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("http:429:7", Result.THROTTLED),
        ("http:500", Result.UNCERTAIN),
        ("http:502", Result.UNCERTAIN),
        ("http:403", Result.BLOCKED),
        ("http:400", Result.REJECTED),
        ("http:401", Result.AWAY),
        ("http:404", Result.AWAY),
        ("drop", Result.UNCERTAIN),
    ],
)
async def test_each_failure_has_its_result(bot: telegram.Bot, ctl: httpx.Client, fault: str, result: Result) -> None:
    plan(ctl, fault)

    outcome = await bot.send(CHAT, "Hello", is_html=True)

    assert outcome.result is result
    assert outcome.retry_after_s == (7 if result is Result.THROTTLED else 0)


@pytest.mark.parametrize(
    ("status", "description", "result"),
    [
        (400, "Bad Request: TOPIC_CLOSED", Result.TOPIC_CLOSED),
        (400, "Bad Request: message thread not found", Result.TOPIC_CLOSED),
        (400, "Bad Request: not enough rights to send text messages to the chat", Result.CHAT_REFUSED),
        (400, "Bad Request: have no rights to send a message", Result.CHAT_REFUSED),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN", Result.CHAT_REFUSED),
        (400, "Bad Request: CHAT_RESTRICTED", Result.CHAT_REFUSED),
        (400, "Bad Request: chat not found", Result.CHAT_REFUSED),
        (400, "Bad Request: PEER_ID_INVALID", Result.CHAT_REFUSED),
        (403, "Forbidden: bot was kicked from the supergroup chat", Result.BLOCKED),
        (403, "Forbidden: bot is not a member of the supergroup chat", Result.BLOCKED),
        (403, "Forbidden: user is deactivated", Result.BLOCKED),
        (400, "Bad Request: can't parse entities: unclosed start tag", Result.UNPARSABLE),
        (400, "Bad Request: message is too long", Result.UNPARSABLE),
        (400, "Bad Request: something new", Result.REJECTED),
        (500, "Internal Server Error: chat not found", Result.UNCERTAIN),
        (401, "Unauthorized", Result.AWAY),
    ],
)
def test_the_text_of_a_refusal_decides_before_its_status(status: int, description: str, result: Result) -> None:
    body = json.dumps({"ok": False, "error_code": status, "description": description}).encode()

    assert telegram.outcome_of(status, body).result is result


async def test_a_probe_shows_what_a_message_would_meet(bot: telegram.Bot, ctl: httpx.Client) -> None:
    found = [(await bot.probe(chat)).result for chat in (-5, 5)]
    for problem in ("kicked", "not_found", "no_rights"):
        change_chat(ctl, problem)
        found.append((await bot.probe(-5)).result)

    assert found == [Result.SENT, Result.SENT, Result.BLOCKED, Result.CHAT_REFUSED, Result.CHAT_REFUSED]


async def test_broken_markup_is_distinguished_from_other_bad_requests(bot: telegram.Bot) -> None:
    assert (await bot.send(CHAT, "<b>never closed", is_html=True)).result is Result.UNPARSABLE
    assert (await bot.send(0, "nowhere", is_html=True)).result is Result.CHAT_REFUSED


async def test_a_response_that_does_not_come_in_time_is_uncertain(sandbox_url: str, ctl: httpx.Client) -> None:
    bot = telegram.Bot(f"{sandbox_url}/telegram", SecretStr(TOKEN), timeout_s=0.2)
    plan(ctl, "timeout_after_commit")

    outcome = await bot.send(CHAT, "Hello", is_html=True)
    await bot.close()

    assert outcome.result is Result.UNCERTAIN
    assert len(messages(ctl)) == 1


async def test_without_a_connection_the_result_is_away() -> None:
    bot = telegram.Bot(f"http://127.0.0.1:{free_port()}", SecretStr(TOKEN))

    outcome = await bot.send(CHAT, "Hello", is_html=True)
    await bot.close()

    assert outcome.result is Result.AWAY


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", Result.UNCERTAIN),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{half", Result.UNCERTAIN),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, Result.UNCERTAIN),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/elsewhere\r\ncontent-length: 0\r\n\r\n", Result.REJECTED),
        (b"HTTP/1.1 429 Slow\r\ncontent-length: 34\r\n\r\n" + b'{"parameters":{"retry_after":"9"}}', Result.THROTTLED),
        (b"not even http\r\n\r\n", Result.UNCERTAIN),
    ],
)
async def test_a_response_that_is_not_telegrams_is_never_a_success(answer: bytes, result: Result) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    bot = telegram.Bot(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", SecretStr(TOKEN))

    outcome = await bot.send(CHAT, "Hello", is_html=True)
    await bot.close()
    server.close()
    await server.wait_closed()

    assert outcome.result is result


async def test_the_token_is_in_no_log_and_in_no_outcome(
    sandbox_url: str, ctl: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bot = telegram.Bot(f"{sandbox_url}/telegram", SecretStr(TOKEN), timeout_s=0.2)
    outcomes: list[delivery.Outcome] = [await bot.send(CHAT, "Hello", is_html=True)]
    for fault in ("http:500", "http:404", "http:401", "http:429:1", "drop", "timeout_before"):
        plan(ctl, fault)
        outcomes.append(await bot.send(CHAT, "Hello", is_html=True))
    nowhere = telegram.Bot(f"http://127.0.0.1:{free_port()}", SecretStr(TOKEN))
    outcomes.append(await nowhere.send(CHAT, "Hello", is_html=True))
    await nowhere.close()
    await bot.close()

    output = f"{outcomes} {bot!r} {caplog.text}"

    assert TOKEN.partition(":")[2] not in output
