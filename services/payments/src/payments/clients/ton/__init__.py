"""Everything that is TON's own."""

from payments.clients.ton import account, api, boc

__all__ = ["account", "api", "boc"]
