"""What the contract suite needs of one provider: how to make its client, and how to be its payer.

A provider's adapter is a class in a module here; naming it in `test_contract.py` runs the whole suite for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar
from uuid import uuid4

from providers import sandbox_harness

import contracts.payments
from contracts.message import Money, TenantId
from payments import clients
from payments.domain import accounts, facts


class Adapter(ABC):
    """One provider in the sandbox. What most have in common is written here, to be overridden."""

    name: ClassVar[contracts.payments.Provider]
    target: ClassVar[str]
    """The sandbox's name of it, in its control API."""
    shop_id: ClassVar[str]
    capabilities: ClassVar[frozenset[accounts.Capability]]
    """What the client says of itself; declared here because tests are collected before there is a client."""
    amount: ClassVar[Money]
    """One that this provider takes, with room for two parts."""
    foreign_amount: ClassVar[Money] = Money(amount_minor=500, currency="POINTS")
    """One that it does not take."""
    secrets: ClassVar[tuple[str, ...]]
    """What must never be seen."""
    unknown_ref: ClassVar[str]
    """A well-formed name of a payment that does not exist."""
    is_keyed: ClassVar[bool] = True
    """Whether the provider itself remembers idempotence keys."""
    retry_after_s: ClassVar[float] = 30
    """What the client makes of an answer that asks to wait for 30 seconds, where the provider can say so."""
    is_replaying_failures: ClassVar[bool] = False
    """Whether a key that met a failure of the provider gives that failure for ever, so that only the report helps."""
    has_slow_refunds: ClassVar[bool] = False
    """Whether refunds can be pending and fail, in the sandbox: `plan_refunds` then works."""

    has_webhooks: ClassVar[bool] = True
    has_webhook_secret: ClassVar[bool] = True
    """Whether there is a secret for webhooks alone; where the account's own signs them, none means no client."""
    signs: ClassVar[bool] = True
    """Whether webhooks carry proof of their bytes, and not only an address."""
    signs_time: ClassVar[bool] = False
    """Whether that proof holds the time, which bounds replays."""
    samples: ClassVar[tuple[str, ...]] = ()
    """Bodies of webhooks as the provider documents them."""
    wrong_secret: ClassVar[str] = "wrong"
    create_route: ClassVar[str]
    refund_route: ClassVar[str] = ""
    """The routes of the two calls, for faults."""

    def __init__(self, harness: sandbox_harness.Harness) -> None:
        self.harness = harness
        self._made: list[clients.Provider] = []

    @abstractmethod
    def connect(self, account: accounts.Account, *, timeout_s: float, **options: Any) -> clients.Provider:
        """Make the client; `options` are a wrong `secret`, empty `webhook_secrets` and another `base_url`."""

    def client(self, *, timeout_s: float = 10, **options: Any) -> clients.Provider:
        """Make a client of our account that is closed with the test."""
        made = self.connect(self.account, timeout_s=timeout_s, **options)
        self._made.append(made)
        return made

    @cached_property
    def reader(self) -> clients.Provider:
        """One client for all that is only read, where a test has many examples."""
        return self.client()

    async def warm_up(self, client: clients.Provider) -> None:  # noqa: B027 - most have nothing to do
        """Do what a client does once before its first payment."""

    @property
    def account(self) -> accounts.Account:
        return accounts.Account(
            tenant=TenantId("demo"),
            provider=self.name,
            name="demo",
            shop_id=self.shop_id,
            is_test=True,
            payment_ttl=timedelta(hours=1),
            are_webhooks_signed=self.signs,
            capabilities=self.capabilities,
        )

    async def close(self) -> None:
        for client in self._made:
            await client.close()

    def order(self, **changes: Any) -> facts.Order:
        """Ask for a payment of the usual amount, but for what is changed."""
        usual = facts.Order(
            payment_id=contracts.payments.PaymentId(uuid4()),
            tenant=TenantId("demo"),
            amount=self.amount,
            return_url="https://shop.example/thanks",
            description="A thing that was ordered",
        )
        return replace(usual, **changes)

    def part(self, divisor: int = 2) -> Money:
        """Give a part of the usual amount."""
        return Money(amount_minor=self.amount.amount_minor // divisor, currency=self.amount.currency)

    # --- the payer and the dashboard ---------------------------------------------------------------------

    async def pay(self, client: clients.Provider, fact: facts.Fact) -> None:  # noqa: ARG002 - some answer a question
        """Pay as the payer would; returns when the provider has sent its webhook."""
        await self.harness.act(fact.provider_ref, "pay")

    async def decline(self, client: clients.Provider, fact: facts.Fact) -> None:  # noqa: ARG002 - as above
        """Let the payer's bank refuse."""
        await self.harness.act(fact.provider_ref, "decline")

    async def expire(self, fact: facts.Fact) -> None:
        """Let the time to pay, or what is held, run out."""
        await self.harness.act(fact.provider_ref, "expire")

    async def refund_in_dashboard(self, fact: facts.Fact, amount: Money) -> None:
        """Refund without our service knowing."""
        await self.harness.act(fact.provider_ref, "refund", amount_minor=amount.amount_minor)

    async def plan_refunds(self, outcome: str) -> None:
        """Let the next refund become succeeded, pending or canceled."""
        await self.harness.control("POST", "/refunds", provider=self.target, outcome=outcome, count=1)

    async def current_fact(self, client: clients.Provider, fact: facts.Fact) -> facts.Fact:
        """Tell how a payment stands: what is fetched, or what the last signed webhook says."""
        return await client.fetch(fact.provider_ref)

    def is_named_as(self, made: facts.Fact, fact: facts.Fact) -> bool:
        """Tell whether a later fact has the name that its payment should have by now."""
        return fact.provider_ref == made.provider_ref

    def refund_order(self, fact: facts.Fact, amount: Money, **changes: Any) -> facts.RefundOrder:
        """Ask for a refund of a paid payment."""
        usual = facts.RefundOrder(
            refund_id=contracts.payments.RefundId(uuid4()),
            provider_ref=fact.provider_ref,
            amount=amount,
            captured_minor=fact.captured_minor,
        )
        return replace(usual, **changes)

    # --- webhooks --------------------------------------------------------------------------------------

    def webhooks(self) -> Sequence[facts.WebhookRequest]:
        """Give the genuine webhooks that came, oldest first, as our API would receive them."""
        return self.harness.post.came(self.target)

    @abstractmethod
    def forgeries(self, genuine: facts.WebhookRequest) -> dict[str, facts.WebhookRequest]:
        """Give webhooks that the provider has not sent, each with its name: copies of a genuine one, changed."""

    @abstractmethod
    def sealed(self, body: bytes) -> facts.WebhookRequest:
        """Give a webhook with any body that is authentic, as if the provider had gone mad."""


def webhook(body: bytes, *, peer: str = "127.0.0.1", **headers: str) -> facts.WebhookRequest:
    """Give a webhook that has just come in; `_` in the names of headers stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return facts.WebhookRequest(body=body, headers=named, peer=peer, received_at=datetime.now(UTC))


Make = Callable[[sandbox_harness.Harness], Adapter]
