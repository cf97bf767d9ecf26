"""Stripe's settings; the account is off unless its secret is set."""

from collections.abc import Iterator

from pydantic import Field, HttpUrl, SecretStr

import contracts.payments
from payments.clients import configuration

URL = "https://api.stripe.com"


class StripeSettings(configuration.Shared):
    """The settings of one account in the environment."""

    stripe_url: HttpUrl = Field(default=HttpUrl(URL), description="The base URL of Stripe's API.")
    stripe_account_id: str = Field(default="", max_length=64, description="The account's id at Stripe, acct_...")
    stripe_secret_key: SecretStr = Field(default=SecretStr(""), description="The account's secret key at Stripe.")
    stripe_webhook_secrets: SecretStr = Field(
        default=SecretStr(""), description="The signing secrets of the webhook endpoint, whsec_..., with commas."
    )
    stripe_account: configuration.AccountName = Field(default="demo", description="What we call this account.")
    stripe_is_test: bool = Field(default=False, description="Whether the key is of Stripe's test mode.")

    stripe_disputes: contracts.payments.DisputePolicy = Field(
        default="hold",
        description="What happens to the payer's wallet in a dispute: hold it until decided, take it, or shop_bears.",
    )

    def stripe_accounts(self) -> Iterator[configuration.AccountSettings]:
        """Give the account when it is on."""
        if self.stripe_secret_key.get_secret_value():
            yield configuration.AccountSettings(
                tenant=self.tenant,
                title=self.title,
                payment_ttl_s=self.payment_ttl_s,
                provider="stripe",
                name=self.stripe_account,
                shop_id=self.stripe_account_id,
                is_test=self.stripe_is_test,
                disputes=self.stripe_disputes,
                url=self.stripe_url,
                secrets={"secret_key": self.stripe_secret_key, "webhook_secrets": self.stripe_webhook_secrets},
            )
