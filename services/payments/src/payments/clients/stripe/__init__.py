"""Everything that is Stripe's own."""

from payments.clients.stripe import account, api, objects, signature

__all__ = ["account", "api", "objects", "signature"]
