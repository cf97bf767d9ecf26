"""What Telegram accepts in a message and a webhook, and the objects that it shows. Pure.

Whatever breaks a rule raises BadRequest with Telegram's words.
"""

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from sandbox.telegram import chats, html, parameters

TEXT_MAX = 4096
# Longer sources are refused before their markup is read.
SOURCE_MAX = 65_536
CHAT_ID_MAX = 2**52
WEBHOOK_PORTS = {443, 80, 88, 8443, None}


def chat_id(asked: parameters.Parameters) -> int:
    """Read the chat of a call; usernames are nobody's here."""
    text = asked.text("chat_id")
    if not text:
        raise parameters.BadRequest("chat_id is empty")
    try:
        number = asked.integer("chat_id")
    except parameters.BadRequest:
        number = 0
    if number == 0 or abs(number) > CHAT_ID_MAX:
        raise parameters.BadRequest("chat not found")
    return number


def content(asked: parameters.Parameters) -> dict[str, Any]:
    """Read what a message says: its source, the text without markup, entities and keyboard."""
    source = asked.text("text")
    if len(source) > SOURCE_MAX:
        raise parameters.BadRequest("message is too long")
    parse_mode = asked.text("parse_mode")
    entities: list[dict[str, Any]] = []
    text = source
    if parse_mode.lower() == "html":
        try:
            text, entities = html.parse(source)
        except html.Unparsable as error:
            raise parameters.BadRequest(f"can't parse entities: {error}") from None
    elif parse_mode:
        raise parameters.BadRequest("unsupported parse_mode")
    text, entities = html.stripped(text, entities)
    if not text:
        raise parameters.BadRequest("message text is empty")
    if len(text) > TEXT_MAX:
        raise parameters.BadRequest("message is too long")
    return {
        "source": source,
        "text": text,
        "parse_mode": parse_mode or None,
        "entities": entities,
        "reply_markup": _reply_markup(asked),
    }


def is_secret_token(text: str) -> bool:
    """Tell whether the text may be a webhook's secret token."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,256}", text) is not None


def require_webhook_url(url: str) -> None:
    """Refuse a URL that updates cannot go to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise parameters.BadRequest("bad webhook: invalid URL") from None
    # Telegram itself insists on HTTPS and four ports; only a receiver on this machine is let off both.
    is_allowed = parts.scheme == "https" and host and port in WEBHOOK_PORTS
    if not is_allowed and not (parts.scheme in {"http", "https"} and _is_loopback(host)):
        raise parameters.BadRequest("bad webhook: An HTTPS URL must be provided for webhook")


def shown_message(bot: chats.Bot, message: chats.Message) -> dict[str, Any]:
    """Render a message as its bot sees it."""
    shown: dict[str, Any] = {
        "message_id": message.message_id,
        "from": shown_bot(bot),
        "chat": shown_chat(message.chat_id),
        "date": message.sent_at,
        **({"invoice": message.invoice} if message.invoice else {"text": message.text}),
    }
    if message.edited_at is not None:
        shown["edit_date"] = message.edited_at
    if message.entities:
        shown["entities"] = message.entities
    # Only inline keyboards come back with the message; the others live in the client.
    if message.reply_markup and "inline_keyboard" in message.reply_markup:
        shown["reply_markup"] = message.reply_markup
    return shown


def shown_chat(chat_id: int) -> dict[str, Any]:
    """Render a chat; all that is known of it is its id."""
    if chats.is_group(chat_id):
        return {"id": chat_id, "type": "supergroup", "title": f"Chat {abs(chat_id)}"}
    return {"id": chat_id, "type": "private", "first_name": f"User {chat_id}"}


def shown_user(user_id: int) -> dict[str, Any]:
    """Render a person; all that is known of them is their id."""
    return {"id": user_id, "is_bot": False, "first_name": f"User {user_id}"}


def shown_bot(bot: chats.Bot) -> dict[str, Any]:
    """Render a bot as a user."""
    return {"id": bot.id, "is_bot": True, "first_name": f"Bot {bot.id}", "username": f"sandbox_{bot.id}_bot"}


def shown_membership(bot: chats.Bot, status: str) -> dict[str, Any]:
    """Render a bot's standing in a chat."""
    return {"user": shown_bot(bot), "status": status, **({"until_date": 0} if status == "kicked" else {})}


def _reply_markup(asked: parameters.Parameters) -> dict[str, Any] | None:
    markup: dict[str, Any] | None = asked.structure("reply_markup", dict)
    rows = (markup or {}).get("inline_keyboard", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise parameters.BadRequest("inline keyboard expected as array of arrays")
    for button in (button for row in rows for button in row):
        if not isinstance(button, dict) or not isinstance(button.get("text"), str) or len(button) < 2:
            raise parameters.BadRequest(
                "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard"
            )
    return markup


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
