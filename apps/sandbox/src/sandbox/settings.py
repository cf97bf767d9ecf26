"""The only reader of the environment (prefix SANDBOX_). A wrong or missing setting is reported by its name."""

import re
from typing import Annotated
from urllib.parse import urlsplit

import pydantic
import pydantic_settings

BOT_TOKEN = re.compile(r"[1-9][0-9]{0,15}:[A-Za-z0-9_-]{24,64}")


def _checked_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not (parts.port is None or parts.port):
        raise ValueError("must be an absolute http or https URL")
    return value.rstrip("/")


def _checked_bot_token(value: str) -> str:
    if BOT_TOKEN.fullmatch(value) is None:
        raise ValueError("must look like 123456789:secret, the secret 24-64 of A-Z a-z 0-9 _ -")
    return value


def _checked_secrets(value: str) -> str:
    if not all(value.split(",")):
        raise ValueError("must be secrets separated by single commas")
    return value


Url = Annotated[str, pydantic.AfterValidator(_checked_url)]
Printable = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256, pattern=r"^[!-~]+$")]


class Settings(pydantic_settings.BaseSettings):
    """The address of the sandbox, the credentials that it accepts and the targets of its webhooks."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="SANDBOX_", frozen=True)

    host: Printable = pydantic.Field(default="127.0.0.1", description="The address that the sandbox listens on.")
    port: int = pydantic.Field(default=8090, ge=1, le=65535, description="Its port.")
    public_url: Url | None = pydantic.Field(
        default=None,
        description="The base URL of the payment pages for browsers; by default the address that it listens on.",
    )
    yookassa_shop_id: Printable = pydantic.Field(default="demo-shop", description="The id of its YooKassa shop.")
    yookassa_secret_key: Printable = pydantic.Field(default="demo-secret", description="The secret key of that shop.")
    # Required: a sandbox that sends no webhooks looks like a lost webhook.
    yookassa_webhook_url: Url = pydantic.Field(description="The URL that YooKassa's notifications are sent to.")
    stripe_secret_key: Printable = pydantic.Field(
        default="sk_test_demo_kopilka_sandbox", description="The secret key of its Stripe account."
    )
    stripe_account_id: Printable = pydantic.Field(
        default="acct_1DemoKopilkaSandbox", description="The id of that account."
    )
    stripe_webhook_url: Url | None = pydantic.Field(
        default=None, description="The URL that Stripe's events are sent to; without it they can only be listed."
    )
    stripe_webhook_secrets: Annotated[Printable, pydantic.AfterValidator(_checked_secrets)] = pydantic.Field(
        default="whsec_demo_kopilka_sandbox",
        description="The secrets that sign Stripe's events, separated by commas; several while one is being rotated.",
    )
    cryptopay_token: Annotated[str, pydantic.AfterValidator(_checked_bot_token)] = pydantic.Field(
        default="10001:DEMO-kopilka-sandbox-crypto-pay-0000000",
        description="The token of its Crypto Pay app; it signs the webhooks, too.",
    )
    cryptopay_webhook_url: Url | None = pydantic.Field(
        default=None, description="The URL that Crypto Pay's webhooks are sent to; without it none are sent."
    )
    demo_bot_token: Annotated[str, pydantic.AfterValidator(_checked_bot_token)] = pydantic.Field(
        default="7000000001:DEMO-kopilka-sandbox-token-000000000",
        description="The token of the bot that exists from the start; public on purpose, it is not valid at Telegram.",
    )

    @property
    def base_url(self) -> str:
        """The base URL of the payment pages."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return self.public_url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
