"""Webhooks: received, stored once, and settled by fetching what they are about. Pre-checkout queries arrive so too."""

from payments.webhooks import domain, store

__all__ = ["domain", "store"]
