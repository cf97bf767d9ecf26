"""Everything that is Stripe's own."""

from payments.clients.stripe import account, api, objects, settings, signature

__all__ = ["account", "api", "objects", "settings", "signature"]
