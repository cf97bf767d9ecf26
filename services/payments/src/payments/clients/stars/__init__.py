"""Everything that is Telegram Stars's own."""

from payments.clients.stars import account, api, settings

__all__ = ["account", "api", "settings"]
