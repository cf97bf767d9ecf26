"""One bot's side of the Bot API. Its token is part of every URL, so no URL leaves this module: not in a log line, not
in an error, not in a metric.
"""

import asyncio
import json
import logging
from typing import Any

import httpx
from pydantic import SecretStr

from notifier import domain

CONNECT_S = 3
SEND_S = 10
CONNECTIONS = 16
# Each idle connection is examined at every request, so only as many are kept as a steady flow uses.
CONNECTIONS_KEPT = 4
KEEP_ALIVE_S = 30
ANSWER_BYTES_MAX = 64 * 1024
DETAIL_MAX = 200

# At INFO and DEBUG these loggers write each request's URL.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Bot:
    """Sends messages as one bot over connections that are kept open."""

    def __init__(self, base_url: str, token: SecretStr) -> None:
        """Prepare the connections; the first message opens the first one."""
        self._url = httpx.URL(f"{base_url}/bot{token.get_secret_value()}/sendMessage")
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(SEND_S, connect=CONNECT_S, pool=SEND_S),
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS_KEPT, keepalive_expiry=30
            ),
            headers={"Content-Type": "application/json"},
            follow_redirects=False,
            trust_env=False,
        )

    async def send(self, chat_id: int, text: str, *, is_html: bool) -> domain.Outcome:
        """Send one message and tell how it ended; an outage is an outcome too and nothing is raised for it.

        Not idempotent: after an uncertain outcome the same call may deliver the message a second time.
        """
        message: dict[str, Any] = {"chat_id": chat_id, "text": text}
        if is_html:
            message["parse_mode"] = "HTML"
        try:
            async with (
                asyncio.timeout(SEND_S),
                self._http.stream("POST", self._url, content=json.dumps(message)) as response,
            ):
                return _outcome(response.status_code, await _read(response))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return domain.Outcome(domain.Result.AWAY, detail=type(error).__name__)
        except (httpx.HTTPError, TimeoutError) as error:
            return domain.Outcome(domain.Result.UNCERTAIN, detail=type(error).__name__)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _read(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            break
    return body


def _outcome(status: int, body: bytes) -> domain.Outcome:
    """Read an answer. What is not in Telegram's form is uncertain when it could be a success."""
    answer = _parsed(body)
    detail = str(answer.get("description", ""))[:DETAIL_MAX] or None
    message_id = _integer(answer.get("result"), "message_id")
    if status == 200 and message_id is not None:
        return domain.Outcome(domain.Result.SENT, status, message_id)
    if status == 429:
        retry_after_s = max(_integer(answer.get("parameters"), "retry_after") or 1, 1)
        return domain.Outcome(domain.Result.THROTTLED, status, retry_after_s=retry_after_s, detail=detail)
    return domain.Outcome(_result(status, detail or ""), status, detail=detail)


def _result(status: int, detail: str) -> domain.Result:
    if status < 300 or status >= 500:
        return domain.Result.UNCERTAIN
    if status == 403:
        return domain.Result.BLOCKED
    if status in {401, 404}:
        return domain.Result.AWAY
    if status == 400 and "can't parse entities" in detail:
        return domain.Result.UNPARSABLE
    return domain.Result.REJECTED


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _integer(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
