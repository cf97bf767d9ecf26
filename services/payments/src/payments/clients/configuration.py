"""One account at one provider as the settings describe it."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

import contracts.payments
from contracts.message import TenantId
from payments.domain import accounts

# Telegram shows this much of an invoice's title.
Title = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")]
TITLE = "Top-up"
AccountName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]


class AccountSettings(BaseModel):
    """The settings of one account, from the environment or from the accounts file.

    `secrets` are a provider's own, by name; several values of one have commas between them. `options` are not secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Annotated[str, Field(min_length=1, max_length=64)] = "demo"
    provider: contracts.payments.Provider
    name: AccountName
    shop_id: Annotated[str, Field(max_length=128)] = ""
    is_test: bool = False
    url: HttpUrl | None = None
    title: Title = TITLE
    payment_ttl_s: Annotated[int, Field(ge=60, le=7 * 86_400)] = 3_600
    second_charge: Literal["credit", "refund"] = "refund"
    disputes: contracts.payments.DisputePolicy = "hold"
    secrets: dict[str, SecretStr] = {}
    options: dict[str, Any] = {}

    @property
    def account(self) -> accounts.Account:
        """The account as the rest of the service knows it."""
        return accounts.Account(
            tenant=TenantId(self.tenant),
            provider=self.provider,
            name=self.name,
            shop_id=self.shop_id,
            is_test=self.is_test,
            title=self.title,
            payment_ttl=timedelta(seconds=self.payment_ttl_s),
            gives_back_repeats=self.second_charge == "refund",
            disputes=self.disputes,
        )

    def secret(self, name: str) -> str:
        """Give a secret, empty when there is none."""
        found = self.secrets.get(name)
        return found.get_secret_value() if found else ""

    def secret_list(self, name: str) -> tuple[str, ...]:
        """Give every value of a secret that has several while one replaces another."""
        return tuple(part.strip() for part in self.secret(name).split(",") if part.strip())


class Shared(BaseModel):
    """The settings that every account of the environment has in common."""

    tenant: str = Field(default="demo", min_length=1, max_length=64, description="The tenant whose accounts these are.")
    title: Title = Field(
        default=TITLE,
        description="What payers and their banks read about a payment whose request has no description.",
    )
    payment_ttl_s: int = Field(
        default=3_600,
        ge=60,
        le=7 * 86_400,
        description="Seconds after which an unpaid payment is expected to expire at the provider.",
    )
