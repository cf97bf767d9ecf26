"""Telegram Stars' settings; the account is off unless its secret is set."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, HttpUrl, SecretStr

from payments.clients import configuration

URL = "https://api.telegram.org"


class StarsSettings(configuration.Shared):
    """The settings of one account in the environment."""

    stars_url: HttpUrl = Field(default=HttpUrl(URL), description="The base URL of the Bot API.")
    stars_token: SecretStr = Field(default=SecretStr(""), description="The token of the bot that takes Stars.")
    stars_webhook_secrets: SecretStr = Field(
        default=SecretStr(""), description="What the bot's webhooks carry as secret_token, with commas."
    )
    stars_account: configuration.AccountName = Field(default="demo", description="What we call this bot.")
    stars_is_test: bool = Field(default=False, description="Whether the bot lives in Telegram's test environment.")
    stars_second_charge: Literal["credit", "refund"] = Field(
        default="refund", description="What to do when an invoice is paid once more; renewals are always credited."
    )

    def stars_accounts(self) -> Iterator[configuration.AccountSettings]:
        """Give the account when it is on."""
        if self.stars_token.get_secret_value():
            yield configuration.AccountSettings(
                tenant=self.tenant,
                title=self.title,
                payment_ttl_s=self.payment_ttl_s,
                provider="stars",
                name=self.stars_account,
                is_test=self.stars_is_test,
                url=self.stars_url,
                second_charge=self.stars_second_charge,
                secrets={"token": self.stars_token, "webhook_secrets": self.stars_webhook_secrets},
            )
