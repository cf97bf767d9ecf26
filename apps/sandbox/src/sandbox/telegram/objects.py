"""Validation of messages and webhooks, and the JSON objects of the Bot API. Pure.

Invalid parameters raise BadRequest with Telegram's error text.
"""

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from sandbox.telegram import bots, html, parameters

TEXT_MAX = 4096
# Longer sources are refused before their markup is parsed.
SOURCE_MAX = 65_536
CHAT_ID_MAX = 2**52
RIGHTS = (
    "can_send_messages",
    "can_send_audios",
    "can_send_documents",
    "can_send_photos",
    "can_send_videos",
    "can_send_video_notes",
    "can_send_voice_notes",
    "can_send_polls",
    "can_send_other_messages",
    "can_add_web_page_previews",
    "can_react_to_messages",
    "can_edit_tag",
    "can_change_info",
    "can_invite_users",
    "can_pin_messages",
    "can_manage_topics",
)
WEBHOOK_PORTS = {443, 80, 88, 8443, None}


class Migrated(parameters.BadRequest):
    """A call about a group that has become a supergroup."""

    def __init__(self, chat_id: int) -> None:
        super().__init__("group chat was upgraded to a supergroup chat")
        self.chat_id = chat_id


def chat_id(params: parameters.Parameters) -> int:
    """Return the chat id of a call; usernames do not exist here."""
    text = params.text("chat_id")
    if not text:
        raise parameters.BadRequest("chat_id is empty")
    try:
        number = params.integer("chat_id")
    except parameters.BadRequest:
        number = 0
    if number == 0 or abs(number) > CHAT_ID_MAX:
        raise parameters.BadRequest("chat not found")
    return number


def content(params: parameters.Parameters) -> dict[str, Any]:
    """Return the content of a message: its source, the text without markup, entities and keyboard."""
    source = params.text("text")
    if len(source) > SOURCE_MAX:
        raise parameters.BadRequest("message is too long")
    parse_mode = params.text("parse_mode")
    entities: list[dict[str, Any]] = []
    text = source
    if parse_mode.lower() == "html":
        try:
            text, entities = html.parse(source)
        except html.InvalidMarkup as error:
            raise parameters.BadRequest(f"can't parse entities: {error}") from None
    elif parse_mode:
        raise parameters.BadRequest("unsupported parse_mode")
    text, entities = html.strip(text, entities)
    if not text:
        raise parameters.BadRequest("message text is empty")
    if len(text) > TEXT_MAX:
        raise parameters.BadRequest("message is too long")
    return {
        "source": source,
        "text": text,
        "parse_mode": parse_mode or None,
        "entities": entities,
        "reply_markup": _reply_markup(params),
    }


def is_secret_token(text: str) -> bool:
    """Tell whether the text is a valid secret token of a webhook."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,256}", text) is not None


def require_webhook_url(url: str) -> None:
    """Raise BadRequest for a URL that cannot receive updates."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise parameters.BadRequest("bad webhook: invalid URL") from None
    # Telegram requires HTTPS and one of four ports; receivers on this machine are exempt from both.
    is_allowed = parts.scheme == "https" and host and port in WEBHOOK_PORTS
    if not is_allowed and not (parts.scheme in {"http", "https"} and _is_loopback(host)):
        raise parameters.BadRequest("bad webhook: An HTTPS URL must be provided for webhook")


def message_json(bot: bots.Bot, message: bots.Message) -> dict[str, Any]:
    """Return a Message."""
    fields: dict[str, Any] = {
        "message_id": message.message_id,
        "from": bot_json(bot),
        "chat": chat_json(message.chat_id),
        "date": message.sent_at,
        **({"invoice": message.invoice} if message.invoice else {"text": message.text}),
    }
    if message.message_thread_id is not None:
        fields |= {"message_thread_id": message.message_thread_id, "is_topic_message": True}
    if message.edited_at is not None:
        fields["edit_date"] = message.edited_at
    if message.entities:
        fields["entities"] = message.entities
    # Only inline keyboards are part of a returned message.
    if message.reply_markup and "inline_keyboard" in message.reply_markup:
        fields["reply_markup"] = message.reply_markup
    return fields


def chat_json(chat_id: int) -> dict[str, Any]:
    """Return a Chat; only its id is known."""
    if bots.is_group(chat_id):
        return {"id": chat_id, "type": "supergroup", "title": f"Chat {abs(chat_id)}"}
    return {"id": chat_id, "type": "private", "first_name": f"User {chat_id}"}


def user_json(user_id: int) -> dict[str, Any]:
    """Return the User of a person; only the id is known."""
    return {"id": user_id, "is_bot": False, "first_name": f"User {user_id}"}


def bot_json(bot: bots.Bot) -> dict[str, Any]:
    """Return the User of a bot."""
    return {"id": bot.id, "is_bot": True, "first_name": f"Bot {bot.id}", "username": f"sandbox_{bot.id}_bot"}


def chat_member_json(bot: bots.Bot, status: str) -> dict[str, Any]:
    """Return the ChatMember of a bot; one that is restricted may do nothing."""
    fields: dict[str, Any] = {"user": bot_json(bot), "status": status}
    if status in {"kicked", "restricted"}:
        fields["until_date"] = 0
    if status == "restricted":
        fields |= {"is_member": True, **dict.fromkeys(RIGHTS, False)}
    return fields


def _reply_markup(params: parameters.Parameters) -> dict[str, Any] | None:
    markup: dict[str, Any] | None = params.json_value("reply_markup", dict)
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
