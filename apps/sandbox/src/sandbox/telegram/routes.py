"""Telegram's Bot API over HTTP: the methods that bots of this product call, with Telegram's answers and errors.

Bots may write to any chat id but 0; usernames are nobody's here. Markdown is refused, this product writes HTML.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import clock, providers, settings, webhooks, wire
from sandbox.telegram import chats, parameters, rules, stars, updates

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


class Telegram(providers.Provider):
    """The imitated Bot API."""

    name = "telegram"
    base_path = "/telegram"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._clock = virtual_clock
        self.chats = chats.Chats(configured.demo_bot_token)
        self._updates = updates.Updates(courier, self._answer_by_webhook)
        self.stars = stars.Stars(configured, virtual_clock, self.chats, self._updates)
        self._methods: dict[str, Callable[[chats.Bot, parameters.Parameters], Any]] = {
            "getme": self._get_me,
            "getchat": self._get_chat,
            "sendmessage": self._send_message,
            "editmessagetext": self._edit_message_text,
            "deletemessage": self._delete_message,
            "setwebhook": self._updates.set_webhook,
            "deletewebhook": self._updates.delete_webhook,
            "getwebhookinfo": self._updates.get_webhook_info,
            "getupdates": self._updates.get_updates,
            "sendinvoice": self._send_invoice,
            "createinvoicelink": self.stars.create_invoice_link,
            "answerprecheckoutquery": self.stars.answer_pre_checkout_query,
            "refundstarpayment": self.stars.refund_star_payment,
            "edituserstarsubscription": self.stars.edit_user_star_subscription,
            "getstartransactions": self.stars.get_star_transactions,
            "getmystarbalance": self.stars.get_my_star_balance,
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
        """Forget bots, messages and Stars."""
        self.chats.forget()
        self.stars.forget()

    # --- what people do ------------------------------------------------------------------------------

    def block(self, chat_id: int, bot_id: int | None, *, is_blocked: bool) -> Sequence[webhooks.Delivery]:
        """Let a chat block or unblock one bot, or all; each bot hears of it as `my_chat_member`."""
        self.chats.block(chat_id, bot_id, is_blocked=is_blocked)
        deliveries: list[webhooks.Delivery] = []
        for bot in self.chats.bots(bot_id):
            was, now = ("member", "kicked") if is_blocked else ("kicked", "member")
            change = {
                "chat": rules.shown_chat(chat_id),
                "from": {"id": abs(chat_id), "is_bot": False, "first_name": "Chat"},
                "date": self._now_s(),
                "old_chat_member": rules.shown_membership(bot, was),
                "new_chat_member": rules.shown_membership(bot, now),
            }
            deliveries += self._updates.tell(bot, "my_chat_member", change)
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
        app.add_exception_handler(parameters.BadRequest, refuse)
        return app

    async def _call(self, request: Request) -> Response:
        bot = self._bot(request.path_params["token"])
        name = request.path_params["method"].lower()
        method = self._methods.get(name)
        if method is None:
            raise HTTPException(404, "Not Found: method not found")
        asked = parameters.read(
            request.query_params.multi_items(), await request.body(), request.headers.get("content-type", "")
        )
        if name == "getupdates":
            await self._updates.wait(bot, asked)
        return wire.answer({"ok": True, "result": method(bot, asked)})

    def _answer_by_webhook(self, bot: chats.Bot, name: str, asked: parameters.Parameters) -> None:
        method = self._methods.get(name.lower())
        if method is not None:
            method(bot, asked)

    def _bot(self, token: str) -> chats.Bot:
        if settings.BOT_TOKEN.fullmatch(token) is None:
            raise HTTPException(401, "Unauthorized: invalid token specified")
        bot = self.chats.bot(token)
        if bot is None:
            raise HTTPException(401, "Unauthorized")
        return bot

    # --- messages ------------------------------------------------------------------------------------

    def _get_me(self, bot: chats.Bot, _asked: parameters.Parameters) -> dict[str, Any]:
        return {
            **rules.shown_bot(bot),
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": True,
        }

    def _get_chat(self, _bot: chats.Bot, asked: parameters.Parameters) -> dict[str, Any]:
        return {
            **rules.shown_chat(rules.chat_id(asked)),
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

    def _send_message(self, bot: chats.Bot, asked: parameters.Parameters) -> dict[str, Any]:
        chat_id = rules.chat_id(asked)
        content = rules.content(asked)
        self._require_welcome(bot, chat_id)
        message = self.chats.add(bot, chat_id, sent_at=self._now_s(), **content)
        return rules.shown_message(bot, message)

    def _send_invoice(self, bot: chats.Bot, asked: parameters.Parameters) -> dict[str, Any]:
        chat_id = rules.chat_id(asked)
        self._require_welcome(bot, chat_id)
        return self.stars.send_invoice(bot, chat_id, asked)

    def _edit_message_text(self, bot: chats.Bot, asked: parameters.Parameters) -> dict[str, Any]:
        chat_id = rules.chat_id(asked)
        message = self.chats.message(bot, chat_id, asked.integer("message_id"))
        if message is None:
            raise parameters.BadRequest("message to edit not found")
        content = rules.content(asked)
        if all(getattr(message, name) == content[name] for name in ("text", "entities", "reply_markup")):
            raise parameters.BadRequest(
                "message is not modified: specified new message content and reply markup are exactly the same "
                "as a current content and reply markup of the message"
            )
        self._require_welcome(bot, chat_id)
        for name, value in content.items():
            setattr(message, name, value)
        message.edited_at = self._now_s()
        return rules.shown_message(bot, message)

    def _delete_message(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        message = self.chats.message(bot, rules.chat_id(asked), asked.integer("message_id"))
        if message is None:
            raise parameters.BadRequest("message to delete not found")
        message.is_deleted = True
        return True

    def _require_welcome(self, bot: chats.Bot, chat_id: int) -> None:
        if self.chats.has_blocked(chat_id, bot):
            is_group = chats.is_group(chat_id)
            raise HTTPException(
                403,
                "Forbidden: bot was kicked from the group chat"
                if is_group
                else "Forbidden: bot was blocked by the user",
            )

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def _error(status: int, description: str, parameters: dict[str, int] | None = None) -> Response:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    return wire.answer(body | ({"parameters": parameters} if parameters else {}), status)
