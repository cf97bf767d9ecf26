"""The settings of payments: its provider account, whose webhooks it believes and how long it waits.

The only reader of the environment in this service.
"""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field, HttpUrl, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from chassis import settings
from contracts.message import TenantId
from payments import domain

# Published at https://yookassa.ru/developers/using-api/webhooks, read on 2026-07-04.
YOOKASSA_NETWORKS = (
    "185.71.76.0/27,185.71.77.0/27,77.75.153.0/25,77.75.154.128/25,77.75.156.11/32,77.75.156.35/32,2a02:5180::/32"
)


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]


class PaymentsSettings(settings.Settings):
    """What a process of payments needs beside the shared settings."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")

    tenant: str = Field(default="demo", min_length=1, max_length=64, description="The tenant whose account this is.")
    yookassa_url: HttpUrl = Field(
        default=HttpUrl("https://api.yookassa.ru/v3"),
        description="The base URL of YooKassa's API; the sandbox's in tests and demos.",
    )
    yookassa_shop_id: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The shop's id at YooKassa.",
    )
    yookassa_secret_key: SecretStr = Field(description="The shop's secret key at YooKassa.")
    yookassa_account: str = Field(
        default="demo",
        pattern=r"^[a-z0-9-]{1,32}$",
        description="What we call this shop; the last part of its webhook address.",
    )
    yookassa_is_test: bool = Field(
        default=False,
        description="Whether the shop is a test shop: payments that are marked otherwise are never credited.",
    )
    webhook_networks: Networks = Field(
        default=tuple(ip_network(network) for network in YOOKASSA_NETWORKS.split(",")),
        description="Networks that YooKassa's webhooks come from, as CIDRs with commas between them.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of our own proxies, as CIDRs with commas; only their X-Forwarded-For is believed.",
    )
    provider_timeout_s: float = Field(
        default=10,
        gt=0,
        le=60,
        description="Seconds that one call to a provider may take in all.",
    )
    payment_ttl_s: int = Field(
        default=3_600,
        ge=60,
        le=7 * 86_400,
        description="Seconds after which an unpaid payment is expected to expire at the provider.",
    )

    @property
    def yookassa(self) -> domain.Account:
        """Our account at YooKassa."""
        return domain.Account(
            tenant=TenantId(self.tenant),
            provider="yookassa",
            name=self.yookassa_account,
            shop_id=self.yookassa_shop_id,
            is_test=self.yookassa_is_test,
            payment_ttl=timedelta(seconds=self.payment_ttl_s),
        )
