"""Crypto Pay for the contract suite."""

import hashlib
import hmac
from dataclasses import replace
from typing import Any, ClassVar

from providers import adapters

from contracts.message import Money
from payments.clients import cryptopay
from payments.domain import accounts, facts

TOKEN = "10001:DEMO-kopilka-sandbox-crypto-pay-0000000"


class Adapter(adapters.Adapter):
    """The sandbox's app; its token is the secret of its webhooks as well."""

    name = "cryptopay"
    target = "cryptopay"
    shop_id = "10001"
    capabilities = cryptopay.api.CryptoPay.capabilities
    amount = Money(amount_minor=12_500_001, currency="USDT")
    secrets = (TOKEN, TOKEN.partition(":")[2])
    unknown_ref = "999999999999"
    is_keyed = False
    has_webhook_secret = False
    retry_after_s = cryptopay.api.RETRY_AFTER_S
    wrong_secret = "10001:another"
    create_route = "/api/createInvoice"
    samples: ClassVar[tuple[str, ...]] = (
        """{"update_id":91,"update_type":"invoice_paid","request_date":"2026-11-01T10:00:00.000Z","payload":{
        "invoice_id":528890,"hash":"IVDoTcNBYEfk","currency_type":"crypto","asset":"TON","amount":"10.5",
        "pay_url":"https://t.me/CryptoTestnetBot?start=IVDoTcNBYEfk","status":"paid","fee":"0.315",
        "paid_at":"2026-11-01T09:59:59.912Z","payload":"0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e"}}""",
        '{"update_id":92,"update_type":"check_activated","request_date":"2026-11-01T10:00:00.000Z","payload":{}}',
    )

    def connect(
        self,
        account: accounts.Account,
        *,
        timeout_s: float,
        secret: str = TOKEN,
        **options: Any,
    ) -> cryptopay.api.CryptoPay:
        base_url = options.get("base_url") or f"{self.harness.url}/cryptopay"
        return cryptopay.api.CryptoPay(account, base_url=base_url, timeout_s=timeout_s, token=secret)

    def forgeries(self, genuine: facts.WebhookRequest) -> dict[str, facts.WebhookRequest]:
        def signed(signature: str) -> facts.WebhookRequest:
            return replace(genuine, headers={**genuine.headers, "crypto-pay-api-signature": signature})

        given = genuine.headers["crypto-pay-api-signature"]
        by_token = hmac.new(TOKEN.encode(), genuine.body, hashlib.sha256).hexdigest()
        return {
            "without a signature": signed(""),
            "cut": signed(given[:-1]),
            "in capitals": signed(given.upper()),
            "not in ascii": signed("ю" * 64),
            "by the token itself": signed(by_token),
            "with another body": replace(genuine, body=genuine.body + b" "),
        }

    def sealed(self, body: bytes) -> facts.WebhookRequest:
        key = hashlib.sha256(TOKEN.encode()).digest()
        return adapters.webhook(body, crypto_pay_api_signature=hmac.new(key, body, hashlib.sha256).hexdigest())
