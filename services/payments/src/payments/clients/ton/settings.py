"""TON's settings; the account is off unless its wallet is set."""

from collections.abc import Iterator

from pydantic import Field, HttpUrl, SecretStr

from payments.clients import configuration

URL = "https://toncenter.com"


class TonSettings(configuration.Shared):
    """The settings of one account in the environment."""

    ton_url: HttpUrl = Field(default=HttpUrl(URL), description="The base URL of toncenter's API.")
    ton_wallet: str = Field(default="", max_length=80, description="The address of the wallet that takes deposits.")
    ton_api_key: SecretStr = Field(default=SecretStr(""), description="The key of toncenter's API.")
    ton_account: configuration.AccountName = Field(default="demo", description="What we call this wallet.")
    ton_is_test: bool = Field(default=False, description="Whether the wallet is on the test network.")
    ton_jettons: dict[str, str] = Field(
        default={}, description='The masters of accepted jettons by asset code, as JSON: {"USDT": "EQC..."}.'
    )
    ton_start_lt: int = Field(default=0, ge=0, description="The logical time before which deposits are none of ours.")

    def ton_accounts(self) -> Iterator[configuration.AccountSettings]:
        """Give the account when it is on."""
        if self.ton_wallet:
            yield configuration.AccountSettings(
                tenant=self.tenant,
                title=self.title,
                payment_ttl_s=self.payment_ttl_s,
                provider="ton",
                name=self.ton_account,
                shop_id=self.ton_wallet,
                is_test=self.ton_is_test,
                url=self.ton_url,
                secrets={"api_key": self.ton_api_key},
                options={"jettons": self.ton_jettons, "start_lt": self.ton_start_lt},
            )
