"""Everything that is TON's own."""

from payments.clients.ton import account, api, boc, settings

__all__ = ["account", "api", "boc", "settings"]
