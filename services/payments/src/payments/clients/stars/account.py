"""Opens a bot that takes Stars as the settings describe it."""

from dataclasses import replace

from payments.clients import configuration
from payments.clients.stars import api, settings


def open_account(configured: configuration.AccountSettings, timeout_s: float) -> api.Stars:
    """Open the account; a call of it may take `timeout_s`. Raises ValueError when it can't work."""
    token = configured.secret("token")
    # The public first part of the token is the provider's name of the account.
    account = replace(configured.account, shop_id=token.partition(":")[0])
    return api.Stars(
        account,
        base_url=str(configured.url or settings.URL),
        timeout_s=timeout_s,
        token=token,
        webhook_secrets=configured.secret_list("webhook_secrets"),
        is_test_server=bool(configured.options.get("is_test_server", configured.is_test)),
    )
