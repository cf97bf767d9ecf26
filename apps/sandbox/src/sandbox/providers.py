"""What an imitated provider is to the rest of the sandbox: an API behind a door, and, where it has payments,
the payer and the cabinet that act on them. A new provider is one more package with these two.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response

from sandbox import webhooks

# Who pays when nobody said who; only Telegram asks.
PAYER_ID_DEFAULT = 100_000_001


class UnknownPayment(LookupError):  # noqa: N818 - an answer to the client, not a failure
    """No imitated provider has a payment with this id."""


class NotAllowed(ValueError):  # noqa: N818 - as above
    """The payment's state does not allow this action."""


@dataclasses.dataclass(frozen=True, slots=True)
class Invoice:
    """What the payer sees of a payment; `state` is open, paid or canceled. `asks_payer` where whoever has
    it may pay it, again and again.
    """

    ref: str
    amount: str
    description: str
    state: str
    return_url: str | None = None
    asks_payer: bool = False


class Provider(Protocol):
    """One imitated API: its routes, its way to say no, and what of a request may be shown."""

    name: str
    base_path: str
    app: FastAPI

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build the provider's own answer for an HTTP status that did not come from its rules."""
        ...

    def route(self, path: str) -> str:
        """Tell the route, as faults name it, of a path below the base: most often the path itself."""
        return path

    def shown_path(self, path: str) -> str:
        """Give a path below the base without its secrets: most have none."""
        return path

    def forget(self) -> None:
        """Forget everything that happened here."""
        ...

    async def note_failure(self, request: Request, answer: Response) -> None:  # noqa: ARG002 - a default
        """Note that a planned fault answered this request; most providers have nothing to remember of it."""
        return


class Payments(Protocol):
    """The payments of one provider, as its payers, its time and its cabinet act on them.

    Each action returns the webhooks that it sent, a list that may still grow, and raises UnknownPayment or NotAllowed.
    """

    name: str

    def knows(self, ref: str) -> bool:
        """Tell whether `ref` is a payment of this provider."""
        ...

    def invoice(self, ref: str) -> Invoice:
        """Show the payment to its payer."""
        ...

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the payment in the provider's own format."""
        ...

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest `limit` payments in the provider's own format, newest first."""
        ...

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Pay as the payer would."""
        ...

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:
        """Let the payer's bank refuse."""
        ...

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - a default
        """Let the time to pay, or to capture, run out."""
        raise NotAllowed("This provider's payments do not expire")

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - a default
        """Refund from the cabinet; None means all that is left."""
        raise NotAllowed("This provider has no refunds")

    def dispute(
        self,
        ref: str,  # noqa: ARG002 - a default
        amount_minor: int | None,  # noqa: ARG002 - a default
        outcome: str,  # noqa: ARG002 - a default
    ) -> Sequence[webhooks.Delivery]:
        """Let the payer's bank dispute the payment (`outcome` is open), or decide its dispute (won, lost)."""
        raise NotAllowed("This provider tells nothing of disputes")


class Refunds(Protocol):
    """A provider whose refunds need not succeed at once."""

    name: str

    def plan_refunds(self, outcome: str, count: int) -> None:
        """Let the next `count` refunds become succeeded, pending or canceled."""
        ...

    def knows_refund(self, ref: str) -> bool:
        """Tell whether `ref` is a refund of this provider."""
        ...

    def decide_refund(self, ref: str, outcome: str) -> Sequence[webhooks.Delivery]:
        """Let a pending refund become succeeded or canceled; raises NotAllowed."""
        ...

    def shown_refund(self, ref: str) -> dict[str, Any]:
        """Show the refund in the provider's own format."""
        ...


class OutcomePlan:
    """What becomes of the next refunds, or receipts; without a plan they succeed."""

    def __init__(self) -> None:
        self._outcome, self._count = "succeeded", 0

    def plan(self, outcome: str, count: int) -> None:
        """Let the next `count` of them end so; an earlier plan is forgotten."""
        self._outcome, self._count = outcome, count

    def take(self) -> str:
        """Use up and return the next outcome."""
        if self._count == 0:
            return "succeeded"
        self._count -= 1
        return self._outcome

    def forget(self) -> None:
        """Forget the plan."""
        self._count = 0


def holder(ref: str, among: Iterable[Payments]) -> Payments:
    """Find the payments that `ref` belongs to; raises UnknownPayment."""
    for payments in among:
        if payments.knows(ref):
            return payments
    raise UnknownPayment(UnknownPayment.__doc__)
