"""Stripe for the contract suite."""

import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from providers import adapters

from contracts.message import Money
from payments import clients
from payments.clients import stripe
from payments.domain import accounts, facts

SECRET_KEY = "sk_test_demo_kopilka_sandbox"
WEBHOOK_SECRET = "whsec_demo_kopilka_sandbox"


def event(kind: str, subject: dict[str, Any]) -> str:
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "livemode": False, "data": {"object": subject}})


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, at_s: int | None = None) -> facts.WebhookRequest:
    """Give a webhook that was signed just now, as Stripe documents it."""
    moment_s = int(datetime.now(UTC).timestamp()) if at_s is None else at_s
    proof = hmac.new(secret.encode(), f"{moment_s}.".encode() + body, "sha256").hexdigest()
    return adapters.webhook(body, stripe_signature=f"t={moment_s},v1={proof}")


class Adapter(adapters.Adapter):
    """The sandbox's account."""

    name = "stripe"
    target = "stripe"
    shop_id = "acct_1DemoKopilkaSandbox"
    capabilities = stripe.api.CAPABILITIES
    amount = Money(amount_minor=4_500, currency="EUR")
    secrets = (SECRET_KEY, WEBHOOK_SECRET)
    unknown_ref = "cs_test_000000000000000000000000"
    has_slow_refunds = True
    signs_time = True
    is_replaying_failures = True
    create_route = "POST /v1/checkout/sessions"
    refund_route = "POST /v1/refunds"
    samples = (
        event(
            "checkout.session.completed", {"id": "cs_test_1", "object": "checkout.session", "payment_intent": "pi_1"}
        ),
        event("charge.refunded", {"id": "ch_1", "object": "charge", "payment_intent": "pi_1"}),
        event("charge.dispute.created", {"id": "du_1", "object": "dispute", "payment_intent": "pi_1"}),
    )

    def connect(
        self,
        account: accounts.Account,
        *,
        timeout_s: float,
        base_url: str | None = None,
        secret: str = SECRET_KEY,
        webhook_secrets: tuple[str, ...] = (WEBHOOK_SECRET,),
        **options: Any,
    ) -> stripe.api.Stripe:
        return stripe.api.Stripe(
            account,
            base_url=base_url or f"{self.harness.url}/stripe",
            timeout_s=timeout_s,
            secret_key=secret,
            webhook_secrets=webhook_secrets,
            **options,
        )

    async def warm_up(self, client: clients.Provider) -> None:
        assert isinstance(client, stripe.api.Stripe)
        await client._verify()

    def forgeries(self, genuine: facts.WebhookRequest) -> dict[str, facts.WebhookRequest]:
        header = genuine.headers["stripe-signature"]
        changed = {
            "another time": header.replace("t=", "t=1"),
            "no time": header.partition(",")[2],
            "a time that is no number": "t=now," + header.partition(",")[2],
            "no signature": header.partition(",")[0],
            "only the old scheme": header.replace("v1=", "v0="),
            "half a signature": header.partition(",v0")[0][:-1],
            "a signature that is no text": header.partition(",")[0] + ",v1=ж",
            "an empty signature": header.partition(",")[0] + ",v1=",
            "an endless header": header + ",v1=00" * 10_000,
        }
        forged = {name: replace(genuine, headers={"stripe-signature": value}) for name, value in changed.items()}
        forged["another body"] = replace(genuine, body=genuine.body + b" ")
        forged["another secret"] = signed(genuine.body, secret="whsec_other")
        forged["no secret"] = signed(genuine.body, secret="")
        return forged

    def sealed(self, body: bytes) -> facts.WebhookRequest:
        return signed(body)
