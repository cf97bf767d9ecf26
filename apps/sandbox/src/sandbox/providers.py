"""The interfaces between an imitated provider and the rest of the sandbox: its HTTP API, payments and refunds."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response

from sandbox import clock, errors, settings, webhooks

# The payer of an action that names none; only Telegram uses it.
PAYER_ID_DEFAULT = 100_000_001


@dataclasses.dataclass(frozen=True, slots=True)
class PaymentPage:
    """What the payer sees of a payment; `state` is open, paid or canceled. `is_reusable` means that anybody may pay,
    any number of times, and the page asks for the payer's id.
    """

    ref: str
    amount: str
    description: str
    state: str
    return_url: str | None = None
    is_reusable: bool = False


class ProviderApi(Protocol):
    """The HTTP API of one provider: its routes, its error format, and how its requests are recorded."""

    name: str
    base_path: str
    app: FastAPI

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build the provider's response to an HTTP error outside its own rules."""
        ...

    def fault_route(self, path: str) -> str:
        """Return the name by which faults match a path below the base; by default the path itself."""
        return path

    def path_without_secrets(self, path: str) -> str:
        """Return a path below the base without secrets; by default it has none."""
        return path

    def reset(self) -> None:
        """Return to the initial state."""
        ...

    async def record_failure(self, request: Request, response: Response) -> None:  # noqa: ARG002 - a default
        """Store the response of a planned fault where the provider would replay it; by default it does not."""
        return


class Payments(Protocol):
    """The payments of one provider and the actions of payers, banks, time and the provider's dashboard on them.

    Each action returns the webhooks that it sent, a list that may still grow, and raises UnknownPayment or NotAllowed.
    """

    name: str

    def has_payment(self, ref: str) -> bool:
        """Tell whether `ref` is a payment of this provider."""
        ...

    def payment_page(self, ref: str) -> PaymentPage:
        """Return the content of the payment page."""
        ...

    def payment_json(self, ref: str) -> dict[str, Any]:
        """Return the payment in the provider's own format."""
        ...

    def latest_payments(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest `limit` payments in the provider's own format, newest first."""
        ...

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Pay as the payer."""
        ...

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Decline the payment as the payer's bank."""
        ...

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - a default
        """Let the time to pay, or to capture, run out."""
        raise errors.NotAllowed("This provider's payments do not expire")

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - a default
        """Refund in the provider's dashboard; without an amount all that is left."""
        raise errors.NotAllowed("This provider has no refunds")

    def dispute(
        self,
        ref: str,  # noqa: ARG002 - a default
        amount_minor: int | None,  # noqa: ARG002 - a default
        outcome: str,  # noqa: ARG002 - a default
    ) -> Sequence[webhooks.Delivery]:
        """Open a dispute as the payer's bank (`outcome` open), or decide the open one (won, lost)."""
        raise errors.NotAllowed("This provider has no disputes")


class Refunds(Protocol):
    """The refunds of a provider where a refund may stay pending or fail."""

    name: str

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Set the outcome of the next `count` refunds: succeeded, pending or canceled."""
        ...

    def has_refund(self, ref: str) -> bool:
        """Tell whether `ref` is a refund of this provider."""
        ...

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """Decide a pending refund: succeeded or canceled. Raises NotAllowed."""
        ...

    def refund_json(self, ref: str) -> dict[str, Any]:
        """Return the refund in the provider's own format."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What a provider is built from."""

    configured: settings.Settings
    virtual_clock: clock.VirtualClock
    webhook_sender: webhooks.WebhookSender


def _add_no_routes(_app: FastAPI) -> None:
    """Add nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One imitated provider. `add_control_routes` adds its own routes to the control app."""

    api: ProviderApi
    payments: Payments | None = None
    refunds: Refunds | None = None
    add_control_routes: Callable[[FastAPI], None] = _add_no_routes


class PlannedOutcomes:
    """The planned outcome of the next refunds or receipts; without a plan they succeed."""

    def __init__(self) -> None:
        self._outcome, self._count = "succeeded", 0

    def plan(self, outcome: str, count: int) -> None:
        """Set the outcome of the next `count`; this replaces an earlier plan."""
        self._outcome, self._count = outcome, count

    def take(self) -> str:
        """Consume and return the next outcome."""
        if self._count == 0:
            return "succeeded"
        self._count -= 1
        return self._outcome

    def reset(self) -> None:
        """Remove the plan."""
        self._count = 0


def find_payments(ref: str, candidates: Iterable[Payments]) -> Payments:
    """Find the provider's payments that `ref` belongs to; raises UnknownPayment."""
    for payments in candidates:
        if payments.has_payment(ref):
            return payments
    raise errors.UnknownPayment(errors.UnknownPayment.__doc__)
