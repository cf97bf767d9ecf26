"""Telegram's Bot API over HTTP: the methods that this product calls, with Telegram's results and errors.

Every chat id except 0 exists, usernames do not. Markdown is refused, because this product uses HTML.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import clock, json_response, providers, settings, webhooks
from sandbox.telegram import bots, objects, parameters, stars, updates

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

# The refusals of messages to a chat, by the names of the control API.
CHAT_PROBLEMS = {
    "not_found": (400, "Bad Request: chat not found"),
    "no_rights": (400, "Bad Request: not enough rights to send text messages to the chat"),
    "write_forbidden": (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
    "kicked": (403, "Forbidden: bot was kicked from the supergroup chat"),
    "not_a_member": (403, "Forbidden: bot is not a member of the supergroup chat"),
    "deleted": (403, "Forbidden: the group chat was deleted"),
}


class TelegramApi(providers.ProviderApi):
    """The Bot API."""

    name = "telegram"
    base_path = "/telegram"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
    ) -> None:
        self._clock = virtual_clock
        self.bots = bots.Bots(configured.demo_bot_token)
        self._updates = updates.Updates(webhook_sender, self._call_from_webhook)
        self.stars = stars.Stars(configured, virtual_clock, self.bots, self._updates)
        self._methods: dict[str, Callable[[bots.Bot, parameters.Parameters], Any]] = {
            "getme": self._get_me,
            "getchat": self._get_chat,
            "getchatmember": self._get_chat_member,
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

    # --- providers.ProviderApi ------------------------------------------------------------------------

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error response; the retry time is in seconds, in the text and in `parameters`."""
        if status == 429:
            wait_s = 1 if retry_after_s is None else retry_after_s
            return _error(429, f"Too Many Requests: retry after {wait_s}", {"retry_after": wait_s})
        return _error(status, _DESCRIPTIONS.get(status, "Internal Server Error" if status >= 500 else "Bad Request"))

    def fault_route(self, path: str) -> str:
        """Return the name of the method."""
        return path.rpartition("/")[2]

    def path_without_secrets(self, path: str) -> str:
        """Return the path without the secret of the token."""
        return re.sub(r":[^/]*", ":***", path)[:256]

    def reset(self) -> None:
        """Remove bots, messages and Stars."""
        self.bots.reset()
        self.stars.reset()

    # --- actions of people ----------------------------------------------------------------------------

    def block(self, chat_id: int, bot_id: int | None, *, is_blocked: bool) -> Sequence[webhooks.Delivery]:
        """Block or unblock one bot, or all bots, for a chat; each bot gets an update `my_chat_member`."""
        self.bots.set_blocked(chat_id, bot_id, is_blocked=is_blocked)
        deliveries: list[webhooks.Delivery] = []
        for bot in self.bots.find(bot_id):
            old_status, new_status = ("member", "kicked") if is_blocked else ("kicked", "member")
            change = {
                "chat": objects.chat_json(chat_id),
                "from": {"id": abs(chat_id), "is_bot": False, "first_name": "Chat"},
                "date": self._now_s(),
                "old_chat_member": objects.chat_member_json(bot, old_status),
                "new_chat_member": objects.chat_member_json(bot, new_status),
            }
            deliveries += self._updates.send(bot, "my_chat_member", change)
        return deliveries

    # --- routes ---------------------------------------------------------------------------------------

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        app.add_route("/bot{token}/{method}", self._call, methods=["GET", "POST"])

        async def handle_error(_request: Request, error: Exception) -> Response:
            if isinstance(error, objects.Migrated):
                return _error(400, str(error), {"migrate_to_chat_id": error.chat_id})
            if isinstance(error, HTTPException):
                return _error(error.status_code, error.detail)
            return _error(400, str(error))

        app.add_exception_handler(HTTPException, handle_error)
        app.add_exception_handler(parameters.BadRequest, handle_error)
        return app

    async def _call(self, request: Request) -> Response:
        bot = self._bot(request.path_params["token"])
        name = request.path_params["method"].lower()
        method = self._methods.get(name)
        if method is None:
            raise HTTPException(404, "Not Found: method not found")
        params = parameters.parse(
            request.query_params.multi_items(), await request.body(), request.headers.get("content-type", "")
        )
        if name == "getupdates":
            await self._updates.wait(bot, params)
        return json_response.build({"ok": True, "result": method(bot, params)})

    def _call_from_webhook(self, bot: bots.Bot, name: str, params: parameters.Parameters) -> None:
        method = self._methods.get(name.lower())
        if method is not None:
            method(bot, params)

    def _bot(self, token: str) -> bots.Bot:
        if settings.BOT_TOKEN.fullmatch(token) is None:
            raise HTTPException(401, "Unauthorized: invalid token specified")
        bot = self.bots.authenticate(token)
        if bot is None:
            raise HTTPException(401, "Unauthorized")
        return bot

    # --- messages ------------------------------------------------------------------------------------

    def _get_me(self, bot: bots.Bot, _params: parameters.Parameters) -> dict[str, Any]:
        return {
            **objects.bot_json(bot),
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": True,
        }

    def _get_chat(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        chat_id = objects.chat_id(params)
        self._require_readable(bot, chat_id)
        return {
            **objects.chat_json(chat_id),
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

    def _get_chat_member(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        chat_id = objects.chat_id(params)
        if params.integer("user_id") != bot.id:
            raise parameters.BadRequest("user not found")
        self._require_readable(bot, chat_id)
        if self.bots.chat(chat_id).problem in {"no_rights", "write_forbidden"}:
            return objects.chat_member_json(bot, "restricted")
        return objects.chat_member_json(bot, "member")

    def _send_message(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        chat_id, thread_id = objects.chat_id(params), params.integer("message_thread_id", 0)
        content = objects.content(params)
        self._require_writable(bot, chat_id, thread_id)
        message = self.bots.add_message(
            bot, chat_id, sent_at=self._now_s(), message_thread_id=thread_id or None, **content
        )
        return objects.message_json(bot, message)

    def _send_invoice(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        chat_id = objects.chat_id(params)
        self._require_writable(bot, chat_id)
        return self.stars.send_invoice(bot, chat_id, params)

    def _edit_message_text(self, bot: bots.Bot, params: parameters.Parameters) -> dict[str, Any]:
        chat_id = objects.chat_id(params)
        message = self.bots.find_message(bot, chat_id, params.integer("message_id"))
        if message is None:
            raise parameters.BadRequest("message to edit not found")
        content = objects.content(params)
        if all(getattr(message, name) == content[name] for name in ("text", "entities", "reply_markup")):
            raise parameters.BadRequest(
                "message is not modified: specified new message content and reply markup are exactly the same "
                "as a current content and reply markup of the message"
            )
        self._require_writable(bot, chat_id)
        for name, value in content.items():
            setattr(message, name, value)
        message.edited_at = self._now_s()
        return objects.message_json(bot, message)

    def _delete_message(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        message = self.bots.find_message(bot, objects.chat_id(params), params.integer("message_id"))
        if message is None:
            raise parameters.BadRequest("message to delete not found")
        message.is_deleted = True
        return True

    def _require_writable(self, bot: bots.Bot, chat_id: int, thread_id: int = 0) -> None:
        """Refuse as Telegram does when a bot may not write to a chat, or to a topic of it."""
        state = self.bots.chat(chat_id)
        if state.migrated_to is not None:
            raise objects.Migrated(state.migrated_to)
        if state.problem is not None:
            raise HTTPException(*CHAT_PROBLEMS[state.problem])
        if thread_id in state.closed_topics:
            raise parameters.BadRequest("TOPIC_CLOSED")
        self._require_not_blocked(bot, chat_id)

    def _require_readable(self, bot: bots.Bot, chat_id: int) -> None:
        """Refuse as Telegram does when a bot may not read about a chat; one without rights may."""
        problem = self.bots.chat(chat_id).problem
        if problem is not None and problem not in {"no_rights", "write_forbidden"}:
            raise HTTPException(*CHAT_PROBLEMS[problem])
        self._require_not_blocked(bot, chat_id)

    def _require_not_blocked(self, bot: bots.Bot, chat_id: int) -> None:
        if self.bots.is_blocked(bot, chat_id=chat_id):
            is_group = bots.is_group(chat_id)
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
    return json_response.build(body | ({"parameters": parameters} if parameters else {}), status)
