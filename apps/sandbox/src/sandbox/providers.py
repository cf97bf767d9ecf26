"""What an imitated provider is to the rest of the sandbox; a new provider is one more module of this shape."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Response

from sandbox import webhooks


class UnknownPayment(LookupError):  # noqa: N818 - an answer to the client, not a failure
    """No imitated provider has a payment with this id."""


class NotAllowed(ValueError):  # noqa: N818 - as above
    """The payment's state does not allow this action."""


@dataclasses.dataclass(frozen=True, slots=True)
class Invoice:
    """What the payer sees of a payment; `state` is open, paid or canceled."""

    ref: str
    amount: str
    description: str
    state: str
    return_url: str | None


def holder(ref: str, among: "Iterable[PaymentProvider]") -> "PaymentProvider":
    """Find the provider whose payment `ref` is; raises UnknownPayment."""
    for provider in among:
        if provider.knows(ref):
            return provider
    raise UnknownPayment(UnknownPayment.__doc__)


class Provider(Protocol):
    """One imitated API: its routes, its way to say no, and what of a request may be shown."""

    name: str
    base_path: str
    app: FastAPI

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build the provider's own answer for an HTTP status that did not come from its rules."""
        ...

    def route(self, path: str) -> str:
        """Tell the route, as faults name it, of a path below the base."""
        ...

    def shown_path(self, path: str) -> str:
        """Give a path below the base without its secrets."""
        ...

    def forget(self) -> None:
        """Forget everything that happened here."""
        ...


class PaymentProvider(Provider, Protocol):
    """A provider with payments, seen by the payer and by the cabinet.

    Each action returns the webhooks that it sent and raises UnknownPayment or NotAllowed.
    """

    def knows(self, ref: str) -> bool:
        """Tell whether `ref` is a payment of this provider."""
        ...

    def invoice(self, ref: str) -> Invoice:
        """Show the payment to its payer."""
        ...

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the payment in the provider's own format."""
        ...

    def pay(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Pay as the payer would."""
        ...

    def decline(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the payer's bank refuse."""
        ...

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay, or to capture, run out."""
        ...

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund from the cabinet; None means all that is left."""
        ...

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest `limit` payments in the provider's own format, newest first."""
        ...
