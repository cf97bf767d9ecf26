"""Crypto Pay's settings; the account is off unless its secret is set."""

from collections.abc import Iterator

from pydantic import Field, HttpUrl, SecretStr

from payments.clients import configuration

URL = "https://pay.crypt.bot"


class CryptoPaySettings(configuration.Shared):
    """The settings of one account in the environment."""

    cryptopay_url: HttpUrl = Field(default=HttpUrl(URL), description="The base URL of Crypto Pay's API.")
    cryptopay_token: SecretStr = Field(default=SecretStr(""), description="The app's token at Crypto Pay.")
    cryptopay_account: configuration.AccountName = Field(default="demo", description="What we call this app.")
    cryptopay_is_test: bool = Field(default=False, description="Whether the app is on the test network.")

    def cryptopay_accounts(self) -> Iterator[configuration.AccountSettings]:
        """Give the account when it is on."""
        if self.cryptopay_token.get_secret_value():
            yield configuration.AccountSettings(
                tenant=self.tenant,
                title=self.title,
                payment_ttl_s=self.payment_ttl_s,
                provider="cryptopay",
                name=self.cryptopay_account,
                is_test=self.cryptopay_is_test,
                url=self.cryptopay_url,
                secrets={"token": self.cryptopay_token},
            )
