"""YooKassa's settings; the account is off unless its secret is set."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Literal

from pydantic import Field, HttpUrl, SecretStr

from chassis import settings
from payments.clients import configuration

URL = "https://api.yookassa.ru/v3"
# Published at https://yookassa.ru/developers/using-api/webhooks, read on 2026-07-04.
NETWORKS = (
    "185.71.76.0/27,185.71.77.0/27,77.75.153.0/25,77.75.154.128/25,77.75.156.11/32,77.75.156.35/32,2a02:5180::/32"
)


class YooKassaSettings(configuration.Shared):
    """The settings of one account in the environment."""

    yookassa_url: HttpUrl = Field(
        default=HttpUrl(URL),
        description="The base URL of YooKassa's API; the sandbox's in tests and demos.",
    )
    yookassa_shop_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The shop's id at YooKassa.",
    )
    yookassa_secret_key: SecretStr = Field(default=SecretStr(""), description="The shop's secret key at YooKassa.")
    yookassa_account: configuration.AccountName = Field(
        default="demo", description="What we call this shop; the last part of its webhook address."
    )
    yookassa_is_test: bool = Field(
        default=False,
        description="Whether the shop is a test shop: payments that are marked otherwise are never credited.",
    )
    yookassa_tax_system_code: int | None = Field(
        default=None, ge=1, le=6, description="The tax system on receipts, for a shop that has several."
    )
    yookassa_receipts: Literal["none", "provider", "register"] = Field(
        default="none",
        description="Who makes fiscal receipts of payments: nobody, YooKassa itself (email only), or a cash register.",
    )
    yookassa_receipt_vat_code: int | None = Field(
        default=None, ge=1, le=12, description="YooKassa's VAT code on receipts; needed where they are made."
    )
    yookassa_receipt_mode: Literal["advance", "full_prepayment", "full_payment"] = Field(
        default="advance", description="The mode of payment on receipts; an advance has one of the computed VAT codes."
    )
    yookassa_receipt_subject: str = Field(
        default="payment", pattern=r"^[a-z_]{1,32}$", description="The subject of payment on receipts."
    )
    yookassa_receipt_default_email: str | None = Field(
        default=None,
        max_length=254,
        pattern=r"^[^\s@]+@[^\s@]+$",
        description="The shop's own address for receipts of payers who gave none; without it such a payment fails.",
    )
    webhook_networks: settings.Networks = Field(
        default=tuple(ip_network(network) for network in NETWORKS.split(",")),
        description="Networks that YooKassa's webhooks come from, as CIDRs with commas between them.",
    )

    def yookassa_accounts(self) -> Iterator[configuration.AccountSettings]:
        """Give the account when it is on."""
        if self.yookassa_shop_id is not None:
            yield configuration.AccountSettings(
                tenant=self.tenant,
                title=self.title,
                payment_ttl_s=self.payment_ttl_s,
                provider="yookassa",
                name=self.yookassa_account,
                shop_id=self.yookassa_shop_id,
                is_test=self.yookassa_is_test,
                url=self.yookassa_url,
                secrets={"secret_key": self.yookassa_secret_key},
                options={
                    "networks": self.webhook_networks,
                    "tax_system_code": self.yookassa_tax_system_code,
                    "receipts": self._receipts(),
                },
            )

    def _receipts(self) -> dict[str, Any] | None:
        if self.yookassa_receipts == "none":
            return None
        if self.yookassa_receipt_vat_code is None:
            raise ValueError("receipts of YooKassa need a VAT code")
        return {
            "kind": self.yookassa_receipts,
            "vat_code": self.yookassa_receipt_vat_code,
            "mode": self.yookassa_receipt_mode,
            "subject": self.yookassa_receipt_subject,
            "default_email": self.yookassa_receipt_default_email,
        }
