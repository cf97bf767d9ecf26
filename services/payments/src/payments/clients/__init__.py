"""Payment providers: the calls that each of them has, and five ways for a call to fail.

A call to a provider is never made inside a database transaction. Each provider has a folder here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Literal, Protocol

from prometheus_client import Counter, Histogram

import contracts.payments
from chassis import telemetry
from contracts.message import Money
from payments.domain import accounts, facts

CALLS = Histogram(
    "kopilka_provider_call_seconds",
    "Time of one call to a payment provider.",
    ["provider", "op", "result"],
    buckets=telemetry.LATENCY_BUCKETS_S,
)

CREDENTIALS_REFUSED = Counter(
    "kopilka_provider_credentials_refused_total",
    "Calls that a payment provider refused because of the account's credentials.",
    ["provider", "account"],
)
WORDS_MAX, ERROR_ID_MAX = 200, 64
# An email address, or a number as long as a phone's or a card's.
_PERSONAL = re.compile(r"\S+@\S+|\+?\d(?:[ -]?\d){5,}")


class ProviderError(Exception):
    """A call to a provider did not succeed."""

    result: ClassVar[str] = "error"


class Rejected(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """The provider refused for good; nothing was done.

    `code` is the provider's stable code of the reason. `words` are what it says besides, by name and for operators: the
    parameter that it refuses, a description, the id of the error.
    """

    result = "rejected"

    def __init__(
        self, code: str, *, parameter: str | None = None, description: str | None = None, error_id: str | None = None
    ) -> None:
        """Take the code and the words, which are cut, and blanked where they may be personal."""
        super().__init__(code)
        self.code = code
        said = {"parameter": parameter, "description": description}
        self.words = {name: _PERSONAL.sub("…", value)[:WORDS_MAX] for name, value in said.items() if value}
        if error_id:
            self.words["error_id"] = error_id[:ERROR_ID_MAX]


class OutcomeUnknown(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """No answer that can be trusted; the provider may have done it. Repeat with the same idempotence key."""

    result = "unknown"


class Unreadable(OutcomeUnknown):
    """An answer that is not of its documented shape, in what decides about money. Repeating it may not help."""

    result = "unreadable"


class RateLimited(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """The provider limits the rate of calls; nothing was done."""

    result = "rate_limited"

    def __init__(self, retry_after_s: float) -> None:
        """Take how long to wait."""
        super().__init__(f"retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class NotFound(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """The provider knows no such object of this account."""

    result = "not_found"


class Foreign(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """The object exists and can't be ours: another program uses the same account."""

    result = "foreign"


class AuthFailed(ProviderError):  # noqa: N818 - named by the outcome, as the others
    """The provider does not accept our credentials; nothing was done. An operator has to correct them."""

    result = "auth_failed"


class Malformed(ValueError):  # noqa: N818 - named by the outcome
    """The body is not a notification of this provider."""


ForgedReason = Literal[
    "foreign_address",
    "unreadable_address",
    "bad_signature",
    "stale",
    "no_signature",
    "no_secret",
    "no_webhooks",
    "no_proxy_signature",
]


class Forged(Exception):  # noqa: N818 - named by the outcome
    """The webhook does not come from the provider, as far as can be known: `reason` says why it is not believed."""

    def __init__(self, reason: ForgedReason) -> None:
        """Take the reason."""
        super().__init__(reason)
        self.reason: ForgedReason = reason


class Provider(Protocol):
    """One account at one provider. A call that needs a capability is made only where `account` has it.

    Every call may raise a ProviderError. A call that changes something takes an idempotency key: the same key within
    `key_lifetime` returns the same object, after that it would be carried out anew.
    """

    @property
    def account(self) -> accounts.Account: ...

    @property
    def key_lifetime(self) -> timedelta | None:
        """How long a key is remembered; None where a repeated call is harmless at any time."""
        ...

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        """Raise Forged unless the provider sent it; judges by the bytes, headers and address alone."""
        ...

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored | facts.PreCheckout:
        """Read an authenticated webhook. Raises Malformed.

        Of a type that is not used nothing else is read: it has a shape of its own, and the provider would repeat a
        refused one for days.
        """
        ...

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact: ...

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Ask for the observation about a payment. Needs FETCH."""
        ...

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: contracts.payments.Receipt | None = None
    ) -> facts.Fact:
        """Capture what is authorized; less than all of it needs PARTIAL_CAPTURE, the rest returns to the payer.

        `receipt` has the items of the captured amount; it needs RECEIPT.
        """
        ...

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Cancel an authorization. Needs CANCEL."""
        ...

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Refund a payment; a part of it needs PARTIAL_REFUND. Repeated, it returns the same refund."""
        ...

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Fetch all refunds of a payment, also those made in the provider's dashboard. Needs REFUND and FETCH."""
        ...

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        """Fetch all disputes of a payment. Needs DISPUTE and FETCH."""
        ...

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give one page of the provider's report of a period. Needs LIST."""
        ...

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Give one page of final deposits after a cursor; cursors only grow. Needs DEPOSIT."""
        ...

    async def answer(self, pre_checkout: facts.PreCheckout, refusal: str | None) -> None:
        """Approve a payment, or refuse it with a text for the payer. Needs PRE_CHECKOUT."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Providers:
    """The connections to every account that this process serves."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        """Take the accounts' connections; of two with the same provider and tenant the first creates the payments."""
        self.all = tuple(providers)
        self._by_name: Mapping[tuple[str, str], Provider] = {
            (provider.account.provider, provider.account.name): provider for provider in self.all
        }
        self._by_tenant: Mapping[tuple[str, str], Provider] = {
            (provider.account.provider, provider.account.tenant): provider for provider in reversed(self.all)
        }

    @property
    def registry(self) -> accounts.Registry:
        """The accounts as plain data."""
        return accounts.Registry(provider.account for provider in self.all)

    def named(self, provider: str, name: str) -> Provider | None:
        """Give the account of a provider that has this name."""
        return self._by_name.get((provider, name))

    def of_tenant(self, provider: str, tenant: str) -> Provider | None:
        """Give the account through which a tenant's payments are created."""
        return self._by_tenant.get((provider, tenant))

    def able(self, capability: accounts.Capability) -> list[Provider]:
        """Give the accounts that have a capability."""
        return [provider for provider in self.all if provider.account.can(capability)]

    async def close(self) -> None:
        """Close every account's connections."""
        for provider in self.all:
            await provider.close()
