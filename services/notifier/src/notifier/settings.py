"""The settings of the notifier, and the only reader of its environment."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis import settings

_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{10,100}")


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute http or https URL without a query")
    return value.rstrip("/")


def _token(value: SecretStr) -> SecretStr:
    if _TOKEN.fullmatch(value.get_secret_value()) is None:
        raise ValueError("must look like 123456789:secret")
    return value


class NotifierSettings(settings.Settings):
    """The settings of one bot and its tenant."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_")

    telegram_url: Annotated[str, AfterValidator(_base_url)] = Field(
        default="https://api.telegram.org",
        description="The Bot API's base URL, without the bot's token.",
    )
    bot_token: Annotated[SecretStr, AfterValidator(_token)] = Field(
        description="The token of the bot that writes, as BotFather gave it.",
    )
    manager_chat_id: int = Field(
        ge=-(2**52),
        le=2**52,
        description="The Telegram chat in which the shop's managers read about orders and money that needs them.",
    )
    manager_thread_id: int | None = Field(
        default=None,
        ge=2,
        le=2**31,
        description="The topic of that chat to write to; without one, or when it is closed, General.",
    )
    tenant: str = Field(
        default="demo",
        min_length=1,
        max_length=64,
        description="The tenant whose bot this is; notifications of others wait for their own notifier.",
    )
