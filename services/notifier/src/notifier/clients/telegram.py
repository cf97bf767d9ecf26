"""The client of the Bot API, for one bot. Its token is part of every URL, so no URL is logged, raised or measured."""

import json
from typing import Any

from pydantic import SecretStr

from chassis import http_client
from notifier.domain import delivery

CONNECT_S = 3
SEND_S = 10
CONNECTIONS_MAX = 16
RESPONSE_BYTES_MAX = 64 * 1024
DETAIL_MAX = 200


class Bot:
    """Sends messages as one bot over connections that are kept open."""

    def __init__(self, base_url: str, token: SecretStr, *, timeout_s: float = SEND_S) -> None:
        """Prepare the client; the first message connects."""
        self._http = http_client.HttpClient(
            f"{base_url}/bot{token.get_secret_value()}",
            timeout_s=timeout_s,
            connect_timeout_s=CONNECT_S,
            connections_max=CONNECTIONS_MAX,
            response_bytes_max=RESPONSE_BYTES_MAX,
        )

    async def send(self, chat_id: int, text: str, *, is_html: bool) -> delivery.Outcome:
        """Send one message and return the outcome; an outage is an outcome too, and is not raised.

        Not idempotent: after an uncertain outcome the same call may deliver the message a second time.
        """
        message: dict[str, object] = {"chat_id": chat_id, "text": text}
        if is_html:
            message["parse_mode"] = "HTML"
        try:
            response = await self._http.request("POST", "/sendMessage", json=message)
        except http_client.NotSentError as error:
            return delivery.Outcome(delivery.Result.AWAY, detail=str(error))
        except http_client.NoResponseError as error:
            return delivery.Outcome(delivery.Result.UNCERTAIN, detail=str(error))
        return _outcome(response.status, response.body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _outcome(status: int, body: bytes) -> delivery.Outcome:
    """Return the outcome of a response. One that is not in Telegram's form is uncertain when it could be a success."""
    answer = _parsed(body)
    detail = str(answer.get("description", ""))[:DETAIL_MAX] or None
    message_id = _integer(answer.get("result"), "message_id")
    if status == 200 and message_id is not None:
        return delivery.Outcome(delivery.Result.SENT, status, message_id)
    if status == 429:
        retry_after_s = max(_integer(answer.get("parameters"), "retry_after") or 1, 1)
        return delivery.Outcome(delivery.Result.THROTTLED, status, retry_after_s=retry_after_s, detail=detail)
    return delivery.Outcome(_result(status, detail or ""), status, detail=detail)


def _result(status: int, detail: str) -> delivery.Result:
    if status < 300 or status >= 500:
        return delivery.Result.UNCERTAIN
    if status == 403:
        return delivery.Result.BLOCKED
    if status in {401, 404}:
        return delivery.Result.AWAY
    if status == 400 and "can't parse entities" in detail:
        return delivery.Result.UNPARSABLE
    return delivery.Result.REJECTED


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _integer(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
