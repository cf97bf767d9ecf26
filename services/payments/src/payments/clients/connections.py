"""Opens the accounts that the settings name: one line for each provider."""

from collections.abc import Callable, Iterable, Mapping

import contracts.payments
from payments import clients
from payments.clients import configuration, cryptopay, stars, stripe, ton, yookassa

_OPENERS: Mapping[contracts.payments.Provider, Callable[[configuration.AccountSettings, float], clients.Provider]] = {
    "yookassa": yookassa.account.open_account,
    "stripe": stripe.account.open_account,
    "stars": stars.account.open_account,
    "cryptopay": cryptopay.account.open_account,
    "ton": ton.account.open_account,
}


def open_accounts(accounts: Iterable[configuration.AccountSettings], *, timeout_s: float) -> clients.Providers:
    """Open every account; a call of any may take `timeout_s`. Raises ValueError for one that can't work."""
    return clients.Providers([_OPENERS[account.provider](account, timeout_s) for account in accounts])
