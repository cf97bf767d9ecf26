"""Telegram Stars for the contract suite: a bot whose webhook is the post box, and a payer."""

from dataclasses import replace
from typing import Any, ClassVar

import httpx
from providers import adapters

from contracts.message import Money
from payments import clients
from payments.clients import stars
from payments.domain import accounts, facts

TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
SECRET = "demo-webhook-secret"
PAYER = 4242


class Adapter(adapters.Adapter):
    """The sandbox's bot. A payment's invoice is the last part of its link; its money is named by the charge."""

    name = "stars"
    target = "telegram"
    shop_id = "7000000001"
    capabilities = stars.api.Stars.capabilities
    amount = Money(amount_minor=90, currency="XTR")
    secrets = (TOKEN, TOKEN.partition(":")[2], SECRET)
    unknown_ref = "stx-unknown"
    is_keyed = False
    signs = False
    wrong_secret = "7000000001:another"
    create_route = "createInvoiceLink"
    refund_route = "refundStarPayment"
    samples: ClassVar[tuple[str, ...]] = (
        """{"update_id":814,"pre_checkout_query":{"id":"918","from":{"id":42,"is_bot":false,"first_name":"A"},
        "currency":"XTR","total_amount":90,"invoice_payload":"0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e"}}""",
        """{"update_id":815,"message":{"message_id":3,"from":{"id":42,"is_bot":false,"first_name":"A"},
        "chat":{"id":42,"type":"private"},"date":1780000000,"successful_payment":{"currency":"XTR","total_amount":90,
        "invoice_payload":"0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e","telegram_payment_charge_id":"stxAbc_-1",
        "provider_payment_charge_id":"42_1","is_recurring":true,"subscription_expiration_date":1782592000}}}""",
        """{"update_id":816,"message":{"message_id":4,"from":{"id":42,"is_bot":false,"first_name":"A"},
        "chat":{"id":42,"type":"private"},"date":1780000001,"refunded_payment":{"currency":"XTR","total_amount":90,
        "invoice_payload":"0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e","telegram_payment_charge_id":"stxAbc_-1"}}}""",
        '{"update_id":817,"my_chat_member":{"date":1780000002}}',
    )

    def connect(
        self,
        account: accounts.Account,
        *,
        timeout_s: float,
        secret: str = TOKEN,
        webhook_secrets: tuple[str, ...] = (SECRET,),
        **options: Any,
    ) -> stars.api.Stars:
        base_url = options.get("base_url") or f"{self.harness.url}/telegram"
        return stars.api.Stars(
            account, base_url=base_url, timeout_s=timeout_s, token=secret, webhook_secrets=webhook_secrets
        )

    def invoice(self, fact: facts.Fact) -> str:
        """Give the sandbox's name of an invoice."""
        return str(fact.confirmation_url).rpartition("/")[2]

    async def listen(self, client: clients.Provider) -> stars.api.Stars:
        """Let the bot's updates come to the post box."""
        assert isinstance(client, stars.api.Stars)
        await client.register_webhook(f"{self.harness.post.url}/{self.target}")
        return client

    async def ask(self, client: clients.Provider, fact: facts.Fact, *, payer: int = PAYER) -> facts.PreCheckout:
        """Let somebody open the link and press the button; gives the question that Telegram asks us then."""
        count = len(self.harness.post.came(self.target))
        bot = await self.listen(client)
        await self.harness.act(self.invoice(fact), "pay", user_id=payer)
        question = bot.read(self.harness.post.came(self.target)[count])
        assert isinstance(question, facts.PreCheckout)
        return question

    async def pay(self, client: clients.Provider, fact: facts.Fact, *, payer: int = PAYER) -> None:
        question = await self.ask(client, fact, payer=payer)
        count = len(self.harness.post.came(self.target))
        await client.answer(question, None)
        await self.harness.post.wait(self.target, lambda one: one in self.harness.post.came(self.target)[count:])

    def movements(self, client: clients.Provider) -> list[facts.Fact | facts.RefundFact]:
        """Give the charges and refunds of the updates so far."""
        read = [client.read(webhook) for webhook in self.webhooks()]
        return [one.movement for one in read if isinstance(one, facts.WebhookContent) and one.movement is not None]

    async def current_fact(self, client: clients.Provider, fact: facts.Fact) -> facts.Fact:
        charges = [one for one in self.movements(client) if isinstance(one, facts.Fact)]
        return [one for one in charges if one.payment_id == fact.payment_id][-1]

    def is_named_as(self, made: facts.Fact, fact: facts.Fact) -> bool:
        return fact.provider_ref.startswith("stx") and fact.provider_ref != made.provider_ref

    def refund_order(self, fact: facts.Fact, amount: Money, **changes: Any) -> facts.RefundOrder:
        return super().refund_order(fact, amount, **{"payer": fact.payer, **changes})

    def forgeries(self, genuine: facts.WebhookRequest) -> dict[str, facts.WebhookRequest]:
        name = "x-telegram-bot-api-secret-token"
        others = ("", "demo-webhook-secre", SECRET + "x", SECRET.upper(), "дemo", TOKEN)
        return {f"with {other!r}": replace(genuine, headers={**genuine.headers, name: other}) for other in others}

    def sealed(self, body: bytes) -> facts.WebhookRequest:
        return adapters.webhook(body, x_telegram_bot_api_secret_token=SECRET)


def own(bot: Adapter, **options: Any) -> stars.api.Stars:
    """Connect another client of the same bot."""
    made = bot.client(**options)
    assert isinstance(made, stars.api.Stars)
    return made


async def method(bot: Adapter, name: str, **parameters: Any) -> Any:
    """Call a method of the Bot API past our client."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{bot.harness.url}/telegram/bot{TOKEN}/{name}", json=parameters)
    return answer.raise_for_status().json()["result"]
