"""Opens a shop at YooKassa as the settings describe it."""

from dataclasses import replace
from ipaddress import ip_network

from pydantic import TypeAdapter

from payments.clients import configuration
from payments.clients.yookassa import api, settings
from payments.domain import receipts


def open_account(configured: configuration.AccountSettings, timeout_s: float) -> api.YooKassa:
    """Open the account; a call of it may take `timeout_s`. Raises ValueError when it can't work."""
    networks, code = configured.options.get("networks", ()), configured.options.get("tax_system_code")
    assert isinstance(networks, list | tuple)
    assert code is None or isinstance(code, int)
    rules = configured.options.get("receipts")
    account = replace(
        configured.account, receipts=TypeAdapter(receipts.Rules).validate_python(rules) if rules else None
    )
    return api.YooKassa(
        account,
        base_url=str(configured.url or settings.URL),
        timeout_s=timeout_s,
        secret_key=configured.secret("secret_key"),
        networks=[ip_network(network) for network in networks],
        tax_system_code=code,
    )
