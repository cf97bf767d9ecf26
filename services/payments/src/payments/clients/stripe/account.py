"""Opens an account at Stripe as the settings describe it."""

from payments.clients import configuration
from payments.clients.stripe import api, settings


def open_account(configured: configuration.AccountSettings, timeout_s: float) -> api.Stripe:
    """Open the account; a call of it may take `timeout_s`. Raises ValueError when it can't work."""
    return api.Stripe(
        configured.account,
        base_url=str(configured.url or settings.URL),
        timeout_s=timeout_s,
        secret_key=configured.secret("secret_key"),
        webhook_secrets=configured.secret_list("webhook_secrets"),
    )
