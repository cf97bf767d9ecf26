"""Opens a wallet on TON as the settings describe it."""

from payments.clients import configuration
from payments.clients.ton import api, settings


def open_account(configured: configuration.AccountSettings, timeout_s: float) -> api.Ton:
    """Open the account; a call of it may take `timeout_s`. Raises ValueError when it can't work."""
    jettons, start_lt = configured.options.get("jettons", {}), configured.options.get("start_lt", 0)
    assert isinstance(jettons, dict)
    assert isinstance(start_lt, int)
    return api.Ton(
        configured.account,
        base_url=str(configured.url or settings.URL),
        timeout_s=timeout_s,
        api_key=configured.secret("api_key"),
        currency=str(configured.options.get("currency", "TON")),
        jettons=jettons,
        start_lt=start_lt,
    )
