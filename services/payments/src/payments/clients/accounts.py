"""Opens the accounts that the settings name: one line for each provider."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Protocol

from contracts import payments
from payments import clients
from payments.clients import cryptopay, stars, stripe, ton, yookassa
from payments.domain import facts


class Given(Protocol):
    """An account as the settings give it."""

    @property
    def provider(self) -> payments.Provider: ...
    @property
    def identity(self) -> facts.Account: ...
    @property
    def base_url(self) -> str: ...
    @property
    def is_test(self) -> bool: ...
    @property
    def options(self) -> Mapping[str, object]: ...
    def secret(self, name: str) -> str: ...
    def secret_list(self, name: str) -> tuple[str, ...]: ...


def opened(accounts: Iterable[Given], *, timeout_s: float) -> clients.Accounts:
    """Open every account; a call of any may take `timeout_s`. Raises ValueError for one that can't work."""
    return clients.Accounts([_OPENERS[given.provider](given, timeout_s) for given in accounts])


def _yookassa(given: Given, timeout_s: float) -> clients.Provider:
    networks, code = given.options.get("networks", ()), given.options.get("tax_system_code")
    assert isinstance(networks, list | tuple)
    assert code is None or isinstance(code, int)
    return yookassa.YooKassa(
        given.identity,
        base_url=given.base_url,
        timeout_s=timeout_s,
        secret_key=given.secret("secret_key"),
        networks=[ip_network(network) for network in networks],
        tax_system_code=code,
    )


def _stripe(given: Given, timeout_s: float) -> clients.Provider:
    return stripe.Stripe(
        given.identity,
        base_url=given.base_url,
        timeout_s=timeout_s,
        secret_key=given.secret("secret_key"),
        webhook_secrets=given.secret_list("webhook_secrets"),
    )


def _stars(given: Given, timeout_s: float) -> clients.Provider:
    return stars.Stars(
        _named_by_token(given),
        base_url=given.base_url,
        timeout_s=timeout_s,
        token=given.secret("token"),
        webhook_secrets=given.secret_list("webhook_secrets"),
        is_test_server=bool(given.options.get("is_test_server", given.is_test)),
    )


def _cryptopay(given: Given, timeout_s: float) -> clients.Provider:
    return cryptopay.CryptoPay(
        _named_by_token(given), base_url=given.base_url, timeout_s=timeout_s, token=given.secret("token")
    )


def _ton(given: Given, timeout_s: float) -> clients.Provider:
    jettons, start_lt = given.options.get("jettons", {}), given.options.get("start_lt", 0)
    assert isinstance(jettons, dict)
    assert isinstance(start_lt, int)
    return ton.Ton(
        given.identity,
        base_url=given.base_url,
        timeout_s=timeout_s,
        api_key=given.secret("api_key"),
        currency=str(given.options.get("currency", "TON")),
        jettons=jettons,
        start_lt=start_lt,
    )


_OPENERS: Mapping[payments.Provider, Callable[[Given, float], clients.Provider]] = {
    "yookassa": _yookassa,
    "stripe": _stripe,
    "stars": _stars,
    "cryptopay": _cryptopay,
    "ton": _ton,
}


def _named_by_token(given: Given) -> facts.Account:
    """Give the account with the provider's name of it, which is the public first part of its token."""
    return replace(given.identity, shop_id=given.secret("token").partition(":")[0])
