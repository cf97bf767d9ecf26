"""Everything that is Crypto Pay's own."""

from payments.clients.cryptopay import account, api

__all__ = ["account", "api"]
