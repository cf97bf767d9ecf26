"""How bots hear of what people do: webhooks with their secret token and answers, or getUpdates."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException

from sandbox import webhooks, wire
from sandbox.telegram import chats, parameters, rules

POLL_S_MAX = 50


class Updates:
    """The updates of all bots; `on_reply` is told the method call that a bot answered a webhook with."""

    def __init__(
        self, courier: webhooks.Courier, on_reply: Callable[[chats.Bot, str, parameters.Parameters], None]
    ) -> None:
        self._courier = courier
        self._on_reply = on_reply

    def tell(self, bot: chats.Bot, kind: str, content: dict[str, Any], *, about: str = "") -> list[webhooks.Delivery]:
        """Send an update to the bot's webhook, or keep it for getUpdates."""
        update = {"update_id": next(bot.update_ids), kind: content}
        if bot.webhook is None:
            bot.updates.append(update)
            bot.update_arrived.set()
            return []
        if bot.webhook.allowed_updates and kind not in bot.webhook.allowed_updates:
            return []
        return self._send(bot, bot.webhook, update, about)

    def set_webhook(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        """Send updates to a URL from now on, those that wait first; an empty URL ends that."""
        url = asked.text("url")
        if not url:
            return self.delete_webhook(bot, asked)
        secret_token = asked.text("secret_token")
        if secret_token and not rules.is_secret_token(secret_token):
            raise parameters.BadRequest("secret token contains unallowed characters")
        max_connections = asked.integer("max_connections", 40)
        if not 1 <= max_connections <= 100:
            raise parameters.BadRequest("max_connections must be from 1 to 100")
        rules.require_webhook_url(url)
        allowed = asked.structure("allowed_updates", list)
        if allowed is None:  # not given means "as before"
            allowed = bot.webhook.allowed_updates if bot.webhook else []
        if not all(isinstance(kind, str) for kind in allowed):
            raise parameters.BadRequest("array of strings expected as allowed_updates")
        bot.webhook = chats.Webhook(url, secret_token, max_connections, allowed)
        waiting = [] if asked.flag("drop_pending_updates") else list(bot.updates)
        bot.updates.clear()
        for update in waiting:
            self._send(bot, bot.webhook, update, "")
        return True

    def delete_webhook(self, bot: chats.Bot, asked: parameters.Parameters) -> bool:
        """Keep updates for getUpdates from now on."""
        bot.webhook = None
        if asked.flag("drop_pending_updates"):
            bot.updates.clear()
        return True

    def get_webhook_info(self, bot: chats.Bot, _asked: parameters.Parameters) -> dict[str, Any]:
        """Tell where updates go and how many wait."""
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

    def get_updates(self, bot: chats.Bot, asked: parameters.Parameters) -> list[dict[str, Any]]:
        """List what waits."""
        offset = asked.integer("offset", 0)
        # An offset confirms, and so drops, what came before it; a negative one counts from the end.
        while bot.updates and (len(bot.updates) > -offset if offset < 0 else bot.updates[0]["update_id"] < offset):
            bot.updates.popleft()
        limit = min(max(asked.integer("limit", 100), 1), 100)
        return list(bot.updates)[:limit]

    async def wait(self, bot: chats.Bot, asked: parameters.Parameters) -> None:
        """Wait for an update as long as getUpdates asks to; raises HTTPException beside a webhook."""
        if bot.webhook is not None:
            raise HTTPException(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        timeout_s = min(max(asked.integer("timeout", 0), 0), POLL_S_MAX)
        if timeout_s and not self.get_updates(bot, asked):
            bot.update_arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bot.update_arrived.wait(), timeout_s)

    def _send(
        self, bot: chats.Bot, webhook: chats.Webhook, update: dict[str, Any], about: str
    ) -> list[webhooks.Delivery]:
        secret = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token} if webhook.secret_token else {}
        deliveries = self._courier.post(
            webhooks.Webhook(
                url=webhook.url,
                body=wire.encoded(update),
                is_acknowledged=lambda status: 200 <= status < 300,
                about=about,
                sign=lambda: secret,
                on_answer=lambda body, content_type: self._read_reply(bot, body, content_type),
            )
        )
        webhook.deliveries.extend(deliveries)
        return deliveries

    def _read_reply(self, bot: chats.Bot, body: bytes, content_type: str) -> None:
        # A bot may answer an update with one method call. Telegram tells nobody when that call is wrong.
        with contextlib.suppress(parameters.BadRequest):
            asked = parameters.read((), body, content_type)
            if method := asked.text("method"):
                self._on_reply(bot, method, asked)
