"""Webhooks: received, stored once, and settled by fetching what they are about, or made up for by polling.

Pre-checkout queries arrive in the same way.
"""

from payments.webhooks import domain, store

__all__ = ["domain", "store"]
