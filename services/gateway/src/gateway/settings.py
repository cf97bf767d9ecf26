"""The only reader of the environment in this service."""

from typing import Annotated, get_args

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from chassis import settings
from contracts import assets, message
from gateway.domain import limits
from gateway.wallet.domain import topups


def _per_minute(value: object) -> object:
    """Return the limits in a text, and the defaults of those that it does not name. Raises ValueError."""
    if not isinstance(value, str):
        return value
    parsed = dict(limits.PER_MINUTE)
    for entry in filter(None, map(str.strip, value.split(","))):
        name, _, number = map(str.strip, entry.partition("="))
        route_class = next((choice for choice in get_args(limits.RouteClass) if choice == name), None)
        if route_class is None:
            raise ValueError(f"`{entry}` names none of {', '.join(limits.PER_MINUTE)}")
        if not (number.isascii() and number.isdecimal() and len(number) <= 9 and int(number) <= limits.PER_MINUTE_MAX):
            raise ValueError(f"`{entry}` is not <class>=<0 to {limits.PER_MINUTE_MAX} a minute>")
        parsed[route_class] = int(number)
    return parsed


PerMinute = Annotated[dict[limits.RouteClass, int], NoDecode, BeforeValidator(_per_minute)]


class GatewaySettings(settings.Settings):
    """The settings of the gateway beyond those of every process."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    tenant: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = Field(
        default="demo",
        description="The business whose Mini App this gateway serves.",
    )
    bot_token: SecretStr = Field(
        description="The token of the bot that opens the Mini App; initData is signed with it.",
    )
    session_secret: SecretStr = Field(
        min_length=32,
        description="Signs session tokens; at least 32 random characters, the same on every replica.",
    )
    session_ttl_s: int = Field(
        default=3_600,
        ge=60,
        le=86_400,
        description="How long a session token is accepted, in seconds.",
    )
    init_data_ttl_s: int = Field(
        default=3_600,
        ge=60,
        le=86_400,
        description="How old initData may be when it is used, in seconds since the Mini App was opened.",
    )
    wait_s: float = Field(
        default=2,
        ge=0,
        le=10,
        description="How long a write waits for its answer before it says 202; a client's `Prefer: wait=N` changes it.",
    )
    top_ups: Annotated[dict[message.Currency, topups.Limits], *settings.JSON] = Field(
        default={},
        max_length=50,
        description="Currencies that a wallet can be topped up in, with the smallest and the largest payment in minor"
        ' units, as JSON: {"RUB": [100, 50000000], "XTR": [1, 10000]}. By default all that a provider takes.',
    )
    currencies: settings.TextList = Field(
        default=["RUB"],
        min_length=1,
        max_length=20,
        description="Currencies that every wallet shows, also before it had any; with commas or as a JSON list.",
    )
    cors_origins: settings.TextList = Field(
        default=[],
        max_length=100,
        description="Origins whose pages may call the gateway from a browser, with commas or as a JSON list; none by"
        " default.",
    )
    rate_limits: PerMinute = Field(
        default=",".join(f"{name}={number}" for name, number in limits.PER_MINUTE.items()),
        validate_default=True,
        description="How many requests of each class a user may send in a minute, as balance=30,transactions=10; 0 is"
        " no limit. A class that is not named has its default.",
    )
    rate_limit_address_factor: int = Field(
        default=10,
        ge=1,
        le=1_000,
        description="How many times a user's limits one network address may use up, because many people share one.",
    )
    redis_url: settings.RedisUrl = Field(
        validation_alias="KOPILKA_REDIS_URL",
        description="Redis, which carries wake-ups between replicas and counts requests for their limits, as"
        " redis://host:port/database.",
    )

    @field_validator("bot_token")
    @classmethod
    def _is_a_bot_token(cls, token: SecretStr) -> SecretStr:
        bot_id, _, secret = token.get_secret_value().partition(":")
        if not (bot_id.isdecimal() and bot_id.isascii() and secret):
            raise ValueError("is not of the form <bot id>:<secret>")
        return token

    @field_validator("currencies")
    @classmethod
    def _are_counted(cls, currencies: list[str]) -> list[str]:
        for currency in currencies:
            if currency not in assets.ASSETS:
                raise ValueError(f"the ledger does not count in {currency[:12]}")
        return currencies

    @field_validator("top_ups")
    @classmethod
    def _can_be_paid(cls, top_ups: dict[str, topups.Limits]) -> dict[str, topups.Limits]:
        for currency, permitted in top_ups.items():
            if currency not in topups.LIMITS:
                raise ValueError(f"no provider takes {currency}")
            if permitted.max_minor < permitted.min_minor:
                raise ValueError(f"the largest top-up in {currency} is below the smallest")
        return top_ups

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, origins: list[str]) -> list[str]:
        if any("*" in origin for origin in origins):
            raise ValueError("names each origin; a wildcard would admit every page")
        return origins
