"""Opens an account at Stripe as the settings describe it."""

from payments import clients
from payments.clients.stripe import api


def open_account(configured: clients.AccountSettings, timeout_s: float) -> api.Stripe:
    """Open the account; a call of it may take `timeout_s`. Raises ValueError when it can't work."""
    return api.Stripe(
        configured.identity,
        base_url=configured.base_url,
        timeout_s=timeout_s,
        secret_key=configured.secret("secret_key"),
        webhook_secrets=configured.secret_list("webhook_secrets"),
    )
