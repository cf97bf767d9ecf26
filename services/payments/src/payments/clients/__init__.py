"""What every payment provider is to us: one account of ours at it, seen through a few calls and five ways to fail.

A call to a provider is never made inside a database transaction. To add a provider is a module here and its settings.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from prometheus_client import Histogram

from chassis import telemetry
from contracts import payments
from contracts.message import Money
from payments.domain import facts

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


class Forged(Exception):  # noqa: N818 - a verdict about a webhook
    """The webhook is not the provider's: a foreign address, a wrong or old signature, or no secret to check with."""


class AccountSettings(Protocol):
    """An account as the settings describe it."""

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


class Provider(Protocol):
    """One account at one provider. What it lacks a capability for is never called.

    Every call may raise a ProviderError. A call that changes something takes an idempotence key: the same key again
    within `key_lifetime` is answered with the same object, after that it would be carried out anew.
    """

    @property
    def account(self) -> facts.Account: ...

    @property
    def capabilities(self) -> frozenset[facts.Capability]: ...

    @property
    def key_lifetime(self) -> timedelta | None:
        """How long a key is remembered; None where a repeated call can do no harm however late it comes."""
        ...

    def authenticate(self, webhook: facts.Webhook) -> None:
        """Raise Forged unless the provider sent it. Reads nothing but the bytes and the address."""
        ...

    def read(self, webhook: facts.Webhook) -> facts.Hint | facts.Question:
        """Read an authenticated webhook. Raises Malformed."""
        ...

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact: ...

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Ask for the truth about a payment. Needs FETCH."""
        ...

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: facts.Receipt | None = None
    ) -> facts.Fact:
        """Take what is held; less than all of it needs PARTIAL_CAPTURE, the rest goes back to the payer.

        `receipt` has the items that are sold after all; it needs RECEIPT.
        """
        ...

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Let go of what is held. Needs CANCEL."""
        ...

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Give money back; a part of it needs PARTIAL_REFUND. One that was made before is the same refund."""
        ...

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Ask for all refunds of a payment, those made in the cabinet among them. Needs REFUND and FETCH."""
        ...

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        """Ask for all disputes of a payment. Needs DISPUTE and FETCH."""
        ...

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give one page of what the provider has on its books for a stretch of time. Needs LIST."""
        ...

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Give one page of final deposits after a cursor, which never goes back. Needs DEPOSIT."""
        ...

    async def answer(self, question: facts.Question, refusal: str | None) -> None:
        """Answer a question with yes, or with words for the payer why not. Needs PRE_CHECKOUT."""
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

    @property
    def all(self) -> list[Provider]:
        """Every account."""
        return list(self._by_route.values())

    def able(self, capability: facts.Capability) -> list[Provider]:
        """Give the accounts that have a capability."""
        return [provider for provider in self._by_route.values() if capability in provider.capabilities]

    async def close(self) -> None:
        """Close every account's connections."""
        for provider in self._by_route.values():
            await provider.close()
