"""Telegram's Bot API over HTTP: the methods that bots of this product call, with Telegram's answers and errors.

Bots may write to any chat id but 0; usernames are nobody's here. Markdown is refused, this product writes HTML.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import clock, settings, telegram_chats, telegram_parameters, telegram_rules, webhooks, wire

POLL_S_MAX = 50

_DESCRIPTIONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


class Telegram:
    """The imitated Bot API."""

    name = "telegram"
    base_path = "/telegram"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._clock = virtual_clock
        self._courier = courier
        self.chats = telegram_chats.Chats(configured.demo_bot_token)
        self._methods: dict[str, Callable[[telegram_chats.Bot, telegram_parameters.Parameters], Any]] = {
            "getme": self._get_me,
            "getchat": self._get_chat,
            "sendmessage": self._send_message,
            "editmessagetext": self._edit_message_text,
            "deletemessage": self._delete_message,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._get_webhook_info,
            "getupdates": self._get_updates,
        }
        self.app = self._routes()

    # --- what the sandbox asks of every provider -----------------------------------------------------

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error answer; a wait is told in seconds, in the text and in `parameters`."""
        if status == 429:
            wait_s = 1 if retry_after_s is None else retry_after_s
            return _error(429, f"Too Many Requests: retry after {wait_s}", {"retry_after": wait_s})
        return _error(status, _DESCRIPTIONS.get(status, "Internal Server Error" if status >= 500 else "Bad Request"))

    def route(self, path: str) -> str:
        """Tell the route of a path: the method's name."""
        return path.rpartition("/")[2]

    def shown_path(self, path: str) -> str:
        """Give the path without the token's secret."""
        return re.sub(r":[^/]*", ":***", path)[:256]

    def forget(self) -> None:
        """Forget bots and messages."""
        self.chats.forget()

    # --- what people do ------------------------------------------------------------------------------

    def block(self, chat_id: int, bot_id: int | None, *, is_blocked: bool) -> Sequence[webhooks.Delivery]:
        """Let a chat block or unblock one bot, or all; each bot hears of it as `my_chat_member`."""
        self.chats.block(chat_id, bot_id, is_blocked=is_blocked)
        deliveries: list[webhooks.Delivery] = []
        for bot in self.chats.bots(bot_id):
            was, now = ("member", "kicked") if is_blocked else ("kicked", "member")
            change = {
                "chat": telegram_rules.shown_chat(chat_id),
                "from": {"id": abs(chat_id), "is_bot": False, "first_name": "Chat"},
                "date": self._now_s(),
                "old_chat_member": telegram_rules.shown_membership(bot, was),
                "new_chat_member": telegram_rules.shown_membership(bot, now),
            }
            deliveries += self._tell(bot, "my_chat_member", change)
        return deliveries

    # --- the door ------------------------------------------------------------------------------------

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        app.add_route("/bot{token}/{method}", self._call, methods=["GET", "POST"])

        async def refuse(_request: Request, error: Exception) -> Response:
            if isinstance(error, HTTPException):
                return _error(error.status_code, error.detail)
            return _error(400, str(error))

        app.add_exception_handler(HTTPException, refuse)
        app.add_exception_handler(telegram_parameters.BadRequest, refuse)
        return app

    async def _call(self, request: Request) -> Response:
        bot = self._bot(request.path_params["token"])
        name = request.path_params["method"].lower()
        method = self._methods.get(name)
        if method is None:
            raise HTTPException(404, "Not Found: method not found")
        parameters = telegram_parameters.read(
            request.query_params.multi_items(), await request.body(), request.headers.get("content-type", "")
        )
        if name == "getupdates":
            await self._wait_for_update(bot, parameters)
        return wire.answer({"ok": True, "result": method(bot, parameters)})

    def _bot(self, token: str) -> telegram_chats.Bot:
        if settings.BOT_TOKEN.fullmatch(token) is None:
            raise HTTPException(401, "Unauthorized: invalid token specified")
        bot = self.chats.bot(token)
        if bot is None:
            raise HTTPException(401, "Unauthorized")
        return bot

    # --- messages ------------------------------------------------------------------------------------

    def _get_me(self, bot: telegram_chats.Bot, _parameters: telegram_parameters.Parameters) -> dict[str, Any]:
        return {
            **telegram_rules.shown_bot(bot),
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": True,
        }

    def _get_chat(self, _bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> dict[str, Any]:
        return {
            **telegram_rules.shown_chat(telegram_rules.chat_id(parameters)),
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": {
                "unlimited_gifts": False,
                "limited_gifts": False,
                "unique_gifts": False,
                "premium_subscription": False,
                "gifts_from_channels": False,
            },
        }

    def _send_message(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> dict[str, Any]:
        chat_id = telegram_rules.chat_id(parameters)
        content = telegram_rules.content(parameters)
        self._require_welcome(bot, chat_id)
        message = self.chats.add(bot, chat_id, sent_at=self._now_s(), **content)
        return telegram_rules.shown_message(bot, message)

    def _edit_message_text(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> dict[str, Any]:
        chat_id = telegram_rules.chat_id(parameters)
        message = self.chats.message(bot, chat_id, parameters.integer("message_id"))
        if message is None:
            raise telegram_parameters.BadRequest("message to edit not found")
        content = telegram_rules.content(parameters)
        if all(getattr(message, name) == content[name] for name in ("text", "entities", "reply_markup")):
            raise telegram_parameters.BadRequest(
                "message is not modified: specified new message content and reply markup are exactly the same "
                "as a current content and reply markup of the message"
            )
        self._require_welcome(bot, chat_id)
        for name, value in content.items():
            setattr(message, name, value)
        message.edited_at = self._now_s()
        return telegram_rules.shown_message(bot, message)

    def _delete_message(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> bool:
        message = self.chats.message(bot, telegram_rules.chat_id(parameters), parameters.integer("message_id"))
        if message is None:
            raise telegram_parameters.BadRequest("message to delete not found")
        message.is_deleted = True
        return True

    def _require_welcome(self, bot: telegram_chats.Bot, chat_id: int) -> None:
        if self.chats.has_blocked(chat_id, bot):
            is_group = telegram_chats.is_group(chat_id)
            raise HTTPException(
                403,
                "Forbidden: bot was kicked from the group chat"
                if is_group
                else "Forbidden: bot was blocked by the user",
            )

    # --- updates -------------------------------------------------------------------------------------

    def _set_webhook(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> bool:
        url = parameters.text("url")
        if not url:
            return self._delete_webhook(bot, parameters)
        secret_token = parameters.text("secret_token")
        if secret_token and not telegram_rules.is_secret_token(secret_token):
            raise telegram_parameters.BadRequest("secret token contains unallowed characters")
        max_connections = parameters.integer("max_connections", 40)
        if not 1 <= max_connections <= 100:
            raise telegram_parameters.BadRequest("max_connections must be from 1 to 100")
        telegram_rules.require_webhook_url(url)
        allowed = parameters.structure("allowed_updates", list)
        if allowed is None:  # not given means "as before"
            allowed = bot.webhook.allowed_updates if bot.webhook else []
        if not all(isinstance(kind, str) for kind in allowed):
            raise telegram_parameters.BadRequest("array of strings expected as allowed_updates")
        bot.webhook = telegram_chats.Webhook(url, secret_token, max_connections, allowed)
        waiting = list(bot.updates)
        bot.updates.clear()
        for update in waiting:
            self._send_update(bot.webhook, update)
        return True

    def _delete_webhook(self, bot: telegram_chats.Bot, _parameters: telegram_parameters.Parameters) -> bool:
        bot.webhook = None
        return True

    def _get_webhook_info(self, bot: telegram_chats.Bot, _parameters: telegram_parameters.Parameters) -> dict[str, Any]:
        webhook = bot.webhook
        if webhook is None:
            return {"url": "", "has_custom_certificate": False, "pending_update_count": len(bot.updates)}
        shown = {
            "url": webhook.url,
            "has_custom_certificate": False,
            "pending_update_count": sum(delivery.is_open for delivery in webhook.deliveries),
            "max_connections": webhook.max_connections,
        }
        return shown | ({"allowed_updates": webhook.allowed_updates} if webhook.allowed_updates else {})

    def _get_updates(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> list[dict[str, Any]]:
        offset = parameters.integer("offset", 0)
        # An offset confirms, and so drops, what came before it; a negative one counts from the end.
        while bot.updates and (len(bot.updates) > -offset if offset < 0 else bot.updates[0]["update_id"] < offset):
            bot.updates.popleft()
        limit = min(max(parameters.integer("limit", 100), 1), 100)
        return list(bot.updates)[:limit]

    async def _wait_for_update(self, bot: telegram_chats.Bot, parameters: telegram_parameters.Parameters) -> None:
        if bot.webhook is not None:
            raise HTTPException(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        timeout_s = min(max(parameters.integer("timeout", 0), 0), POLL_S_MAX)
        if timeout_s and not self._get_updates(bot, parameters):
            bot.update_arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bot.update_arrived.wait(), timeout_s)

    def _tell(self, bot: telegram_chats.Bot, kind: str, content: dict[str, Any]) -> list[webhooks.Delivery]:
        update = {"update_id": next(bot.update_ids), kind: content}
        if bot.webhook is None:
            bot.updates.append(update)
            bot.update_arrived.set()
            return []
        if bot.webhook.allowed_updates and kind not in bot.webhook.allowed_updates:
            return []
        return self._send_update(bot.webhook, update)

    def _send_update(self, webhook: telegram_chats.Webhook, update: dict[str, Any]) -> list[webhooks.Delivery]:
        headers = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token} if webhook.secret_token else {}
        deliveries = self._courier.post(
            webhook.url, wire.encoded(update), is_acknowledged=lambda status: 200 <= status < 300, headers=headers
        )
        webhook.deliveries.extend(deliveries)
        return deliveries

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def _error(status: int, description: str, parameters: dict[str, int] | None = None) -> Response:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    return wire.answer(body | ({"parameters": parameters} if parameters else {}), status)
