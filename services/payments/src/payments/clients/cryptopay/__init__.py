"""Everything that is Crypto Pay's own."""

from payments.clients.cryptopay import account, api, settings

__all__ = ["account", "api", "settings"]
