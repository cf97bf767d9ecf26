"""The settings of payments: its provider accounts, its own proxies and how long it waits.

The only reader of the environment in this service.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from chassis import settings
from payments.clients import configuration
from payments.clients.cryptopay.settings import CryptoPaySettings
from payments.clients.stars.settings import StarsSettings
from payments.clients.stripe.settings import StripeSettings
from payments.clients.ton.settings import TonSettings
from payments.clients.yookassa.settings import YooKassaSettings

ACCOUNTS_FILE_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MAX = 64 * 1024


class PaymentsSettings(
    TonSettings, CryptoPaySettings, StarsSettings, StripeSettings, YooKassaSettings, settings.Settings
):
    """What a process of payments needs beside the shared settings. A provider is off unless its secret is set."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_")

    accounts_file: Path | None = Field(
        default=None,
        description="A JSON or TOML file with a list `accounts`, for several accounts; see docs/providers/adding.md.",
    )
    webhook_relay_secrets: SecretStr = Field(
        default=SecretStr(""),
        description="Secrets, with commas, of a proxy that signs the webhooks it passes on; then it must sign all.",
    )
    provider_timeout_s: float = Field(
        default=10,
        gt=0,
        le=60,
        description="Seconds that one call to a provider may take in all.",
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
    def proxy_secrets(self) -> tuple[str, ...]:
        """What a proxy of ours may sign webhooks with; none when there is no such proxy."""
        secrets = self.webhook_relay_secrets.get_secret_value().split(",")
        return tuple(secret.strip() for secret in secrets if secret.strip())

    @property
    def accounts(self) -> list[configuration.AccountSettings]:
        """Every account: those of the environment, then those of the file. Raises ValueError for an unusable file."""
        return [
            *self.yookassa_accounts(),
            *self.stripe_accounts(),
            *self.stars_accounts(),
            *self.cryptopay_accounts(),
            *self.ton_accounts(),
            *(_read_accounts(self.accounts_file) if self.accounts_file else ()),
        ]


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    accounts: list[dict[str, Any]]


def _read_accounts(path: Path) -> list[configuration.AccountSettings]:
    """Read the accounts file. Its secrets are named: {"file": path} or {"env": name}, never written into it."""
    try:
        content = path.read_bytes()
        if len(content) > ACCOUNTS_FILE_BYTES_MAX:
            raise ValueError("the accounts file is too long")
        read = json.loads(content) if path.suffix == ".json" else tomllib.loads(content.decode())
    except OSError as error:
        raise ValueError(f"the accounts file can't be read: {error.strerror}") from None
    listed = _Listed.model_validate(read)
    return [
        configuration.AccountSettings(**{**entry, "secrets": _secrets(entry.get("secrets", {}))})
        for entry in listed.accounts
    ]


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
