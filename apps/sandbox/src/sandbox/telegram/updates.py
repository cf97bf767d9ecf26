"""Delivers updates to bots: by webhook with a secret token, or by getUpdates."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException

from sandbox import json_response, webhooks
from sandbox.telegram import bots, objects, parameters

POLL_S_MAX = 50


class Updates:
    """The updates of all bots; `on_reply` receives the method call in the response to a webhook."""

    def __init__(
        self, webhook_sender: webhooks.WebhookSender, on_reply: Callable[[bots.Bot, str, parameters.Parameters], None]
    ) -> None:
        self._webhook_sender = webhook_sender
        self._on_reply = on_reply

    def send(
        self, bot: bots.Bot, kind: str, content: dict[str, Any], *, payment_ref: str = ""
    ) -> list[webhooks.Delivery]:
        """Send an update to the bot's webhook, or queue it for getUpdates."""
        update = {"update_id": next(bot.update_ids), kind: content}
        if bot.webhook is None:
            bot.updates.append(update)
            bot.update_arrived.set()
            return []
        if bot.webhook.allowed_updates and kind not in bot.webhook.allowed_updates:
            return []
        return self._post(bot, bot.webhook, update, payment_ref)

    def set_webhook(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        """Set the webhook and send the pending updates to it; an empty URL removes the webhook."""
        url = params.text("url")
        if not url:
            return self.delete_webhook(bot, params)
        secret_token = params.text("secret_token")
        if secret_token and not objects.is_secret_token(secret_token):
            raise parameters.BadRequest("secret token contains unallowed characters")
        max_connections = params.integer("max_connections", 40)
        if not 1 <= max_connections <= 100:
            raise parameters.BadRequest("max_connections must be from 1 to 100")
        objects.require_webhook_url(url)
        allowed = params.json_value("allowed_updates", list)
        if allowed is None:  # absent: keep the previous value
            allowed = bot.webhook.allowed_updates if bot.webhook else []
        if not all(isinstance(kind, str) for kind in allowed):
            raise parameters.BadRequest("array of strings expected as allowed_updates")
        bot.webhook = bots.BotWebhook(url, secret_token, max_connections, allowed)
        waiting = [] if params.boolean("drop_pending_updates") else list(bot.updates)
        bot.updates.clear()
        for update in waiting:
            self._post(bot, bot.webhook, update, "")
        return True

    def delete_webhook(self, bot: bots.Bot, params: parameters.Parameters) -> bool:
        """Remove the webhook; updates are queued for getUpdates."""
        bot.webhook = None
        if params.boolean("drop_pending_updates"):
            bot.updates.clear()
        return True

    def get_webhook_info(self, bot: bots.Bot, _params: parameters.Parameters) -> dict[str, Any]:
        """Return the webhook and the number of pending updates."""
        webhook = bot.webhook
        if webhook is None:
            return {"url": "", "has_custom_certificate": False, "pending_update_count": len(bot.updates)}
        fields = {
            "url": webhook.url,
            "has_custom_certificate": False,
            "pending_update_count": sum(delivery.is_open for delivery in webhook.deliveries),
            "max_connections": webhook.max_connections,
        }
        return fields | ({"allowed_updates": webhook.allowed_updates} if webhook.allowed_updates else {})

    def get_updates(self, bot: bots.Bot, params: parameters.Parameters) -> list[dict[str, Any]]:
        """Return pending updates."""
        offset = params.integer("offset", 0)
        # An offset confirms and drops all earlier updates; a negative one counts from the end.
        while bot.updates and (len(bot.updates) > -offset if offset < 0 else bot.updates[0]["update_id"] < offset):
            bot.updates.popleft()
        limit = min(max(params.integer("limit", 100), 1), 100)
        return list(bot.updates)[:limit]

    async def wait(self, bot: bots.Bot, params: parameters.Parameters) -> None:
        """Wait for an update up to the timeout of getUpdates; raises HTTPException if a webhook is set."""
        if bot.webhook is not None:
            raise HTTPException(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        timeout_s = min(max(params.integer("timeout", 0), 0), POLL_S_MAX)
        if timeout_s and not self.get_updates(bot, params):
            bot.update_arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bot.update_arrived.wait(), timeout_s)

    def _post(
        self, bot: bots.Bot, webhook: bots.BotWebhook, update: dict[str, Any], payment_ref: str
    ) -> list[webhooks.Delivery]:
        secret = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token} if webhook.secret_token else {}
        deliveries = self._webhook_sender.send(
            webhooks.Webhook(
                url=webhook.url,
                body=json_response.encode(update),
                is_acknowledged=lambda status: 200 <= status < 300,
                payment_ref=payment_ref,
                sign=lambda: secret,
                on_response=lambda body, content_type: self._read_reply(bot, body, content_type),
            )
        )
        webhook.deliveries.extend(deliveries)
        return deliveries

    def _read_reply(self, bot: bots.Bot, body: bytes, content_type: str) -> None:
        # A bot may respond with one method call. Telegram does not report errors of that call.
        with contextlib.suppress(parameters.BadRequest):
            params = parameters.parse((), body, content_type)
            if method := params.text("method"):
                self._on_reply(bot, method, params)
