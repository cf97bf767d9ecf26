"""What every payment provider is to us: one account of ours at it, seen through a few calls and five ways to fail.

A call to a provider is never made inside a database transaction. To add a provider is a module here and its settings.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

from prometheus_client import Histogram

from chassis import telemetry
from payments import domain

CALLS = Histogram(
    "kopilka_provider_call_seconds",
    "Time of one call to a payment provider.",
    ["provider", "op", "result"],
    buckets=telemetry.LATENCY_BUCKETS_S,
)


class ProviderError(Exception):
    """A call to a provider did not give a fact."""

    result: ClassVar[str] = "error"


class Rejected(ProviderError):  # noqa: N818 - a verdict, as the others are
    """The provider refused for good; nothing was done. `code` is the provider's stable word for why."""

    result = "rejected"

    def __init__(self, code: str) -> None:
        """Take the code to pass on."""
        super().__init__(code)
        self.code = code


class OutcomeUnknown(ProviderError):  # noqa: N818 - a verdict, as the others are
    """No answer that can be trusted; the provider may have done it. Repeat with the same idempotence key."""

    result = "unknown"


class RateLimited(ProviderError):  # noqa: N818 - a verdict, as the others are
    """The provider wants fewer calls; nothing was done."""

    result = "rate_limited"

    def __init__(self, retry_after_s: float) -> None:
        """Take how long to stay away."""
        super().__init__(f"retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class NotFound(ProviderError):  # noqa: N818 - a verdict, as the others are
    """The provider knows no such object of this account."""

    result = "not_found"


class AuthFailed(ProviderError):  # noqa: N818 - a verdict, as the others are
    """The provider does not accept our credentials; nothing was done, and only an operator can help."""

    result = "auth_failed"


class Malformed(ValueError):  # noqa: N818 - a verdict about the body
    """The body is not a notification of this provider."""


class Provider(Protocol):
    """One account at one provider."""

    @property
    def account(self) -> domain.Account: ...

    def admits(self, peer: str) -> bool:
        """Tell whether the provider sends its webhooks from this address."""
        ...

    def read(self, body: bytes) -> domain.Hint:
        """Read a webhook's body. Raises Malformed."""
        ...

    async def create(self, payment: domain.Payment, *, key: str) -> domain.Fact:
        """Create a payment under an idempotence key. Raises a ProviderError."""
        ...

    async def fetch(self, provider_ref: str) -> domain.Fact:
        """Ask for the truth about a payment. Raises a ProviderError."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Accounts:
    """Every account that this process serves."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        """Take the accounts; of two with the same provider and tenant the first makes the payments."""
        served = list(providers)
        self._by_route: Mapping[tuple[str, str], Provider] = {
            (provider.account.provider, provider.account.name): provider for provider in served
        }
        self._by_tenant: Mapping[tuple[str, str], Provider] = {
            (provider.account.provider, provider.account.tenant): provider for provider in reversed(served)
        }

    def named(self, provider: str, name: str) -> Provider | None:
        """Give the account that a webhook's address names."""
        return self._by_route.get((provider, name))

    def of_tenant(self, provider: str, tenant: str) -> Provider | None:
        """Give the account that a tenant takes payments with."""
        return self._by_tenant.get((provider, tenant))

    async def close(self) -> None:
        """Close every account's connections."""
        for provider in self._by_route.values():
            await provider.close()
