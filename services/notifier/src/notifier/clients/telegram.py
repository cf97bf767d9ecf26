"""The client of the Bot API, for one bot. Its token is part of every URL, so no URL is logged, raised or measured."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from chassis import http_client
from notifier.domain import delivery

CONNECT_S = 3
SEND_S = 10
CONNECTIONS_MAX = 16
RESPONSE_BYTES_MAX = 64 * 1024
DETAIL_MAX = 200

# Telegram's descriptions, in its Bot API server and in reports of users (December 2026). Errors in capitals come with
# 400 though Telegram means 403, so the text decides before the status.
TOPIC_CLOSED = ("TOPIC_CLOSED", "message thread not found")
CHAT_REFUSED = (
    "chat not found",
    "chat_id is empty",
    "not enough rights",
    "have no rights",
    "PEER_ID_INVALID",
    "CHAT_WRITE_FORBIDDEN",
    "CHAT_ADMIN_REQUIRED",
    "CHAT_RESTRICTED",
)
UNPARSABLE = ("can't parse entities", "message is too long")
CAN_WRITE = frozenset({"creator", "administrator", "member"})

_RESULTS = (
    (TOPIC_CLOSED, delivery.Result.TOPIC_CLOSED),
    (CHAT_REFUSED, delivery.Result.CHAT_REFUSED),
    (UNPARSABLE, delivery.Result.UNPARSABLE),
)


class Bot:
    """Sends messages as one bot over connections that are kept open."""

    def __init__(self, base_url: str, token: SecretStr, *, timeout_s: float = SEND_S) -> None:
        """Prepare the client; the first message connects."""
        self._id = int(token.get_secret_value().partition(":")[0])
        self._http = http_client.HttpClient(
            f"{base_url}/bot{token.get_secret_value()}",
            timeout_s=timeout_s,
            connect_timeout_s=CONNECT_S,
            connections_max=CONNECTIONS_MAX,
            response_bytes_max=RESPONSE_BYTES_MAX,
        )

    async def send(self, chat_id: int, text: str, *, is_html: bool, thread_id: int | None = None) -> delivery.Outcome:
        """Send one message and return the outcome; an outage is an outcome too, and is not raised.

        `thread_id` is a topic of a group. Not idempotent: after an uncertain outcome the same call may deliver the
        message a second time.
        """
        message: dict[str, object] = {"chat_id": chat_id, "text": text}
        if is_html:
            message["parse_mode"] = "HTML"
        if thread_id is not None:
            message["message_thread_id"] = thread_id
        return await self._call("/sendMessage", message)

    async def probe(self, chat_id: int) -> delivery.Outcome:
        """Return the outcome that a message to a chat would have, without sending one; a success is `sent`."""
        if chat_id > 0:  # a person; whether the bot is blocked is known only after a message
            return await self._call("/getChat", {"chat_id": chat_id})
        return await self._call("/getChatMember", {"chat_id": chat_id, "user_id": self._id})

    async def _call(self, method: str, parameters: dict[str, object]) -> delivery.Outcome:
        try:
            response = await self._http.request("POST", method, json=parameters)
        except http_client.NotSentError as error:
            return delivery.Outcome(delivery.Result.AWAY, detail=str(error))
        except http_client.NoResponseError as error:
            return delivery.Outcome(delivery.Result.UNCERTAIN, detail=str(error))
        return outcome_of(response.status, response.body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def outcome_of(status: int, body: bytes) -> delivery.Outcome:
    """Return the outcome of a response. One that is not in Telegram's form is uncertain when it could be a success."""
    answer = _parsed(body)
    detail = str(answer.get("description", ""))[:DETAIL_MAX] or None
    result, parameters = answer.get("result"), answer.get("parameters")
    message_id, migrated_to = _integer(result, "message_id"), _integer(parameters, "migrate_to_chat_id")
    if status == 200 and message_id is not None:
        return delivery.Outcome(delivery.Result.SENT, status, message_id)
    if status == 200 and isinstance(result, dict):
        return _probed(result)
    if status == 429:
        retry_after_s = max(_integer(parameters, "retry_after") or 1, 1)
        return delivery.Outcome(delivery.Result.THROTTLED, status, retry_after_s=retry_after_s, detail=detail)
    if status == 400 and migrated_to is not None:
        return delivery.Outcome(delivery.Result.MIGRATED, status, detail=detail, migrated_to=migrated_to)
    return delivery.Outcome(_result(status, detail or ""), status, detail=detail)


def _probed(result: Mapping[str, Any]) -> delivery.Outcome:
    """Return the outcome that a message would have, by a Chat, or by what the bot may do as a member of a group."""
    member_status = result.get("status")
    if "type" in result or member_status in CAN_WRITE or result.get("can_send_messages") is True:
        return delivery.Outcome(delivery.Result.SENT, 200)
    if member_status is None:
        return delivery.Outcome(delivery.Result.UNCERTAIN, 200)
    return delivery.Outcome(delivery.Result.CHAT_REFUSED, 200, detail=f"the bot is {str(member_status)[:DETAIL_MAX]}")


def _result(status: int, detail: str) -> delivery.Result:
    if status < 300 or status >= 500:
        return delivery.Result.UNCERTAIN
    if status in {401, 404}:
        return delivery.Result.AWAY
    for texts, result in _RESULTS:
        if any(text in detail for text in texts):
            return result
    return delivery.Result.BLOCKED if status == 403 else delivery.Result.REJECTED


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _integer(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
