"""The settings of payments: its provider accounts, whose webhooks it believes and how long it waits.

The only reader of the environment in this service.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from chassis import settings
from contracts import payments
from contracts.message import TenantId
from payments.domain import facts

# Published at https://yookassa.ru/developers/using-api/webhooks, read on 2026-07-04.
YOOKASSA_NETWORKS = (
    "185.71.76.0/27,185.71.77.0/27,77.75.153.0/25,77.75.154.128/25,77.75.156.11/32,77.75.156.35/32,2a02:5180::/32"
)
URLS: Mapping[payments.Provider, str] = {
    "yookassa": "https://api.yookassa.ru/v3",
    "stripe": "https://api.stripe.com",
    "stars": "https://api.telegram.org",
    "cryptopay": "https://pay.crypt.bot",
    "ton": "https://toncenter.com",
}
ACCOUNTS_FILE_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MAX = 64 * 1024


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]
AccountName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]


class Account(BaseModel):
    """One account at one provider, from the environment or from the accounts file.

    `secrets` are a provider's own, by name; several values of one have commas between them. `options` are not secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Annotated[str, Field(min_length=1, max_length=64)] = "demo"
    provider: payments.Provider
    name: AccountName
    shop_id: Annotated[str, Field(max_length=128)] = ""
    is_test: bool = False
    url: HttpUrl | None = None
    payment_ttl_s: Annotated[int, Field(ge=60, le=7 * 86_400)] = 3_600
    second_charge: Literal["credit", "refund"] = "refund"
    secrets: dict[str, SecretStr] = {}
    options: dict[str, Any] = {}

    @property
    def base_url(self) -> str:
        """Where the provider's API is."""
        return str(self.url or URLS[self.provider])

    @property
    def identity(self) -> facts.Account:
        """The account as the rest of the service knows it."""
        return facts.Account(
            tenant=TenantId(self.tenant),
            provider=self.provider,
            name=self.name,
            shop_id=self.shop_id,
            is_test=self.is_test,
            payment_ttl=timedelta(seconds=self.payment_ttl_s),
            gives_back_repeats=self.second_charge == "refund",
        )

    def secret(self, name: str) -> str:
        """Give a secret, empty when there is none."""
        found = self.secrets.get(name)
        return found.get_secret_value() if found else ""

    def secret_list(self, name: str) -> tuple[str, ...]:
        """Give every value of a secret that has several while one replaces another."""
        return tuple(part.strip() for part in self.secret(name).split(",") if part.strip())


class PaymentsSettings(settings.Settings):
    """What a process of payments needs beside the shared settings. A provider is off unless its secret is set."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")

    tenant: str = Field(default="demo", min_length=1, max_length=64, description="The tenant whose accounts these are.")
    accounts_file: Path | None = Field(
        default=None,
        description="A JSON or TOML file with a list `accounts`, for several accounts; see docs/providers/adding.md.",
    )
    webhook_relay_secrets: SecretStr = Field(
        default=SecretStr(""),
        description="Secrets, with commas, of a proxy that signs the webhooks it passes on; then it must sign all.",
    )
    yookassa_url: HttpUrl = Field(
        default=HttpUrl(URLS["yookassa"]),
        description="The base URL of YooKassa's API; the sandbox's in tests and demos.",
    )
    yookassa_shop_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The shop's id at YooKassa.",
    )
    yookassa_secret_key: SecretStr = Field(default=SecretStr(""), description="The shop's secret key at YooKassa.")
    yookassa_account: AccountName = Field(
        default="demo", description="What we call this shop; the last part of its webhook address."
    )
    yookassa_is_test: bool = Field(
        default=False,
        description="Whether the shop is a test shop: payments that are marked otherwise are never credited.",
    )
    yookassa_tax_system_code: int | None = Field(
        default=None, ge=1, le=6, description="The tax system on receipts, for a shop that has several."
    )
    webhook_networks: Networks = Field(
        default=tuple(ip_network(network) for network in YOOKASSA_NETWORKS.split(",")),
        description="Networks that YooKassa's webhooks come from, as CIDRs with commas between them.",
    )
    stripe_url: HttpUrl = Field(default=HttpUrl(URLS["stripe"]), description="The base URL of Stripe's API.")
    stripe_account_id: str = Field(default="", max_length=64, description="The account's id at Stripe, acct_...")
    stripe_secret_key: SecretStr = Field(default=SecretStr(""), description="The account's secret key at Stripe.")
    stripe_webhook_secrets: SecretStr = Field(
        default=SecretStr(""), description="The signing secrets of the webhook endpoint, whsec_..., with commas."
    )
    stripe_account: AccountName = Field(default="demo", description="What we call this account.")
    stripe_is_test: bool = Field(default=False, description="Whether the key is of Stripe's test mode.")
    stars_url: HttpUrl = Field(default=HttpUrl(URLS["stars"]), description="The base URL of the Bot API.")
    stars_token: SecretStr = Field(default=SecretStr(""), description="The token of the bot that takes Stars.")
    stars_webhook_secrets: SecretStr = Field(
        default=SecretStr(""), description="What the bot's webhooks carry as secret_token, with commas."
    )
    stars_account: AccountName = Field(default="demo", description="What we call this bot.")
    stars_is_test: bool = Field(default=False, description="Whether the bot lives in Telegram's test environment.")
    stars_second_charge: Literal["credit", "refund"] = Field(
        default="refund", description="What to do when an invoice is paid once more; renewals are always credited."
    )
    cryptopay_url: HttpUrl = Field(default=HttpUrl(URLS["cryptopay"]), description="The base URL of Crypto Pay's API.")
    cryptopay_token: SecretStr = Field(default=SecretStr(""), description="The app's token at Crypto Pay.")
    cryptopay_account: AccountName = Field(default="demo", description="What we call this app.")
    cryptopay_is_test: bool = Field(default=False, description="Whether the app is on the test network.")
    ton_url: HttpUrl = Field(default=HttpUrl(URLS["ton"]), description="The base URL of toncenter's API.")
    ton_wallet: str = Field(default="", max_length=80, description="The address of the wallet that takes deposits.")
    ton_api_key: SecretStr = Field(default=SecretStr(""), description="The key of toncenter's API.")
    ton_account: AccountName = Field(default="demo", description="What we call this wallet.")
    ton_is_test: bool = Field(default=False, description="Whether the wallet is on the test network.")
    ton_jettons: dict[str, str] = Field(
        default={}, description='The masters of accepted jettons by asset code, as JSON: {"USDT": "EQC..."}.'
    )
    ton_start_lt: int = Field(default=0, ge=0, description="The logical time before which deposits are none of ours.")
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
    compare_hour: int = Field(
        default=2, ge=0, le=23, description="The hour (UTC) from which the nightly comparison with providers runs."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "PaymentsSettings":
        if (self.yookassa_shop_id is None) != (not self.yookassa_secret_key.get_secret_value()):
            raise ValueError("YooKassa needs both a shop id and a secret key")
        names = [(account.provider, account.name) for account in self.accounts]
        if len(names) != len(set(names)):
            raise ValueError("two accounts of one provider have the same name")
        return self

    @property
    def relay_secrets(self) -> tuple[str, ...]:
        """What a proxy of ours may sign webhooks with; none when there is no such proxy."""
        secrets = self.webhook_relay_secrets.get_secret_value().split(",")
        return tuple(secret.strip() for secret in secrets if secret.strip())

    @property
    def accounts(self) -> list[Account]:
        """Every account: those of the environment, then those of the file. Raises ValueError for an unusable file."""
        return [*self._of_environment(), *(_read_accounts(self.accounts_file) if self.accounts_file else ())]

    def _of_environment(self) -> Iterator[Account]:
        shared: dict[str, Any] = {"tenant": self.tenant, "payment_ttl_s": self.payment_ttl_s}
        if self.yookassa_shop_id is not None:
            yield Account(
                **shared,
                provider="yookassa",
                name=self.yookassa_account,
                shop_id=self.yookassa_shop_id,
                is_test=self.yookassa_is_test,
                url=self.yookassa_url,
                secrets={"secret_key": self.yookassa_secret_key},
                options={"networks": self.webhook_networks, "tax_system_code": self.yookassa_tax_system_code},
            )
        if self.stripe_secret_key.get_secret_value():
            yield Account(
                **shared,
                provider="stripe",
                name=self.stripe_account,
                shop_id=self.stripe_account_id,
                is_test=self.stripe_is_test,
                url=self.stripe_url,
                secrets={"secret_key": self.stripe_secret_key, "webhook_secrets": self.stripe_webhook_secrets},
            )
        if self.stars_token.get_secret_value():
            yield Account(
                **shared,
                provider="stars",
                name=self.stars_account,
                is_test=self.stars_is_test,
                url=self.stars_url,
                second_charge=self.stars_second_charge,
                secrets={"token": self.stars_token, "webhook_secrets": self.stars_webhook_secrets},
            )
        if self.cryptopay_token.get_secret_value():
            yield Account(
                **shared,
                provider="cryptopay",
                name=self.cryptopay_account,
                is_test=self.cryptopay_is_test,
                url=self.cryptopay_url,
                secrets={"token": self.cryptopay_token},
            )
        if self.ton_wallet:
            yield Account(
                **shared,
                provider="ton",
                name=self.ton_account,
                shop_id=self.ton_wallet,
                is_test=self.ton_is_test,
                url=self.ton_url,
                secrets={"api_key": self.ton_api_key},
                options={"jettons": self.ton_jettons, "start_lt": self.ton_start_lt},
            )


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    accounts: list[dict[str, Any]]


def _read_accounts(path: Path) -> list[Account]:
    """Read the accounts file. Its secrets are named: {"file": path} or {"env": name}, never written into it."""
    try:
        content = path.read_bytes()
        if len(content) > ACCOUNTS_FILE_BYTES_MAX:
            raise ValueError("the accounts file is too long")
        read = json.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except OSError as error:
        raise ValueError(f"the accounts file can't be read: {error.strerror}") from None
    listed = _Listed.model_validate(read)
    return [Account(**{**entry, "secrets": _secrets(entry.get("secrets", {}))}) for entry in listed.accounts]


def _secrets(named: Mapping[str, Any]) -> dict[str, SecretStr]:
    found = {}
    for name, where in named.items():
        match where:
            case {"env": str(variable)}:
                value = os.environ.get(variable, "")
            case {"file": str(file)}:
                value = Path(file).read_text()[:SECRET_BYTES_MAX].strip()
            case _:
                raise ValueError(f'the secret {name} is to be {{"file": path}} or {{"env": name}}')
        if not value:
            raise ValueError(f"the secret {name} is empty")
        found[name] = SecretStr(value)
    return found
