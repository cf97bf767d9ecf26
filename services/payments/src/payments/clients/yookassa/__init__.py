"""Everything that is YooKassa's own."""

from payments.clients.yookassa import account, api, objects, settings

__all__ = ["account", "api", "objects", "settings"]
