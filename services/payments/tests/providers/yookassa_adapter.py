"""YooKassa for the contract suite."""

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from providers import adapters

from contracts.message import Money
from payments.clients import yookassa
from payments.domain import accounts, facts

SECRET = "demo-secret"


class Adapter(adapters.Adapter):
    """The sandbox's shop; its webhooks come from this machine, so this is the network that is accepted."""

    name = "yookassa"
    target = "yookassa"
    shop_id = "demo-shop"
    capabilities = yookassa.api.CAPABILITIES
    amount = Money(amount_minor=150_000, currency="RUB")
    secrets = (SECRET,)
    unknown_ref = "22e12f66-000f-5000-8000-18db351245c7"
    has_slow_refunds = True
    signs = False
    create_route = "POST /payments"
    refund_route = "POST /refunds"
    samples = (
        json.dumps({"type": "notification", "event": "payment.succeeded", "object": {"id": "22e12f66", "paid": True}}),
        json.dumps(
            {
                "type": "notification",
                "event": "refund.succeeded",
                "object": {"id": "216749f7", "payment_id": "216749da"},
            }
        ),
    )

    def connect(
        self,
        account: accounts.Account,
        *,
        timeout_s: float,
        base_url: str | None = None,
        secret: str = SECRET,
        webhook_secrets: tuple[str, ...] = ("127.0.0.1/32",),
        **options: Any,
    ) -> yookassa.api.YooKassa:
        return yookassa.api.YooKassa(
            account,
            base_url=base_url or f"{self.harness.url}/yookassa/v3",
            timeout_s=timeout_s,
            secret_key=secret,
            networks=[ip_network(one) for one in webhook_secrets],
            **options,
        )

    def forgeries(self, genuine: facts.WebhookRequest) -> dict[str, facts.WebhookRequest]:
        peers = ("127.0.0.2", "185.71.75.255", "2a02:5181::1", "", "unix", "127.0.0.1, 10.0.0.1")
        return {f"from {peer!r}": replace(genuine, peer=peer) for peer in peers}

    def sealed(self, body: bytes) -> facts.WebhookRequest:
        return adapters.webhook(body)
