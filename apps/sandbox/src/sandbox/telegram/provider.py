"""Builds the imitated Telegram."""

import functools

from sandbox import providers
from sandbox.telegram import control, routes


def build(runtime: providers.Runtime) -> providers.Provider:
    """Build the Bot API with its payments in Stars and control routes."""
    bot_api = routes.TelegramApi(runtime.configured, runtime.virtual_clock, runtime.webhook_sender)
    return providers.Provider(
        api=bot_api,
        payments=bot_api.stars,
        add_control_routes=functools.partial(
            control.add_routes, bot_api=bot_api, default_bot_token=runtime.configured.demo_bot_token
        ),
    )
