"""The settings that every process has, and the exit of a process for which one is missing or wrong.

Shared settings begin with `KOPILKA_`; a service's own begin with its name. Values are never printed.
"""

import json
import os
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AmqpDsn,
    BeforeValidator,
    Field,
    HttpUrl,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: a supervisor should not restart what cannot work
SHARED_AMQP_URL = "KOPILKA_AMQP_URL"
SECRETS_DIR = Path("/run/secrets")


def _postgres(value: SecretStr) -> SecretStr:
    return _checked(value, PostgresDsn, "postgresql://user:password@host:port/database")


def amqp(value: SecretStr) -> SecretStr:
    """Check a broker's URL. Raises ValueError without the value."""
    return _checked(value, AmqpDsn, "amqp://user:password@host:port/vhost")


def _http(value: SecretStr) -> SecretStr:
    return _checked(value, HttpUrl, "http://host:port")


def _checked(value: SecretStr, kind: type[PostgresDsn | AmqpDsn | HttpUrl | RedisDsn], form: str) -> SecretStr:
    try:
        kind(value.get_secret_value())
    except ValidationError:
        # The library's message repeats the value, and with it the password.
        raise ValueError(f"is not of the form {form}") from None
    return value


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _json(value: object) -> object:
    """Read JSON; the library's own reading stops at the first setting that is none, and names no other."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def _json_or_split(value: object) -> object:
    return _json(value) if isinstance(value, str) and value.lstrip().startswith("[") else _split(value)


# How a setting of several values is written: as JSON, or, of texts, with commas as well.
JSON = (NoDecode, BeforeValidator(_json))
TextList = Annotated[list[str], NoDecode, BeforeValidator(_json_or_split)]


def _redis(value: SecretStr) -> SecretStr:
    return _checked(value, RedisDsn, "redis://host:port/database")


RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings of every process; a service adds its own fields under its own prefix."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
    )

    database_url: Annotated[SecretStr, AfterValidator(_postgres)] = Field(
        description="The service's own database role, as postgresql://user:password@host:port/database.",
    )
    amqp_url: Annotated[SecretStr, AfterValidator(amqp)] = Field(
        description="The service's own broker user, as amqp://user:password@host:port/vhost. Without it the one of"
        " KOPILKA_AMQP_URL is used, who may do everything.",
    )
    admin_amqp_url: Annotated[SecretStr, AfterValidator(amqp)] | None = Field(
        default=None,
        validation_alias=SHARED_AMQP_URL,
        description="The administrator's URL of the same vhost. `<service> migrate` declares queues and creates the"
        " service's user with it; operators' commands use it. Unset in a process that has a user of its own.",
    )
    admin_database_url: Annotated[SecretStr, AfterValidator(_postgres)] | None = Field(
        default=None,
        validation_alias="KOPILKA_DATABASE_URL",
        description="The administrator's URL of the same database. Only `<service> migrate` reads it.",
    )
    rabbitmq_api_url: Annotated[SecretStr, AfterValidator(_http)] | None = Field(
        default=None,
        validation_alias="KOPILKA_RABBITMQ_API_URL",
        description="RabbitMQ's management API, as http://host:15672, by which lost bindings are noticed. Without a"
        " user in it the one of AMQP is taken. Unset, bindings are put back every minute and none is reported.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_an_own_broker_user_take_the_shared_one(cls, values: dict[str, Any]) -> dict[str, Any]:
        shared = values.get(SHARED_AMQP_URL) or values.get("admin_amqp_url")
        return values if values.get("amqp_url") or not shared else {**values, "amqp_url": shared}

    @property
    def has_own_broker_user(self) -> bool:
        """Whether the broker user may do only what this service needs, and declares nothing."""
        return self.admin_amqp_url != self.amqp_url

    http_host: str = Field(
        default="127.0.0.1",
        validation_alias="KOPILKA_HTTP_HOST",
        description="The address that the process listens on.",
    )
    http_port: int = Field(
        default=8080,
        ge=0,
        le=65_535,
        validation_alias="KOPILKA_HTTP_PORT",
        description="The port of the process: its routes, and health and metrics unless they have a port of their own.",
    )
    # Empty is none, so that the port which the image sets can be taken away.
    http_inner_port: Annotated[
        Annotated[int, Field(ge=1, le=65_535)] | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        default=None,
        validation_alias="KOPILKA_HTTP_INNER_PORT",
        description="A port for probes and operators: `/metrics` and `/health/ready` are then found there alone.",
    )
    http_public_docs: bool = Field(
        default=True,
        validation_alias="KOPILKA_HTTP_PUBLIC_DOCS",
        description="Whether `/docs` and `/openapi.json` are open to everybody, or found on the inner port alone.",
    )
    http_connections: int = Field(
        default=8_000,
        ge=1,
        le=100_000,
        validation_alias="KOPILKA_HTTP_CONNECTIONS",
        description="Open HTTP connections of one process, at most.",
    )
    http_connections_per_address: int = Field(
        default=500,
        ge=1,
        le=100_000,
        validation_alias="KOPILKA_HTTP_CONNECTIONS_PER_ADDRESS",
        description="Of these from one address, or one /64 of IPv6, at most; those of trusted proxies don't count.",
    )
    http_requests: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        validation_alias="KOPILKA_HTTP_REQUESTS",
        description="HTTP requests that one process works on at once; a further one is answered 503.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        max_length=100,
        description="Networks of our own proxies, as CIDRs with commas; only their X-Forwarded-For is believed.",
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        validation_alias="KOPILKA_LOG_LEVEL",
        description="debug, info, warning or error.",
    )
    pool_size: int = Field(
        default=8,
        ge=1,
        le=100,
        validation_alias="KOPILKA_POOL_SIZE",
        description="Database connections of one process, at most.",
    )
    prefetch: int = Field(
        default=20,
        ge=1,
        le=1_000,
        validation_alias="KOPILKA_PREFETCH",
        description="Unacknowledged messages of one queue in one process, at most.",
    )
    failpoint: str = Field(
        default="",
        pattern=r"^([a-z_.]+(:[1-9][0-9]{0,5})?)?$",
        validation_alias="KOPILKA_FAILPOINT",
        description="`name:n` kills the process at the n-th pass of that point. For fault tests only.",
    )


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load(settings: type[SettingsT]) -> SettingsT:
    """Read the environment; exits with the name of each setting that is missing or wrong."""
    try:
        return settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        lines = [
            f"setting {_given_as(variable_of(settings, problem['loc']))}: {problem['msg']}\n" for problem in problems
        ]
        sys.stderr.writelines(dict.fromkeys(lines))
    except SettingsError as error:
        sys.stderr.write(f"settings: {error}\n")
    raise SystemExit(EXIT_CONFIG)


def variable_of(settings: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    """Give the environment variable that a validation error is about."""
    name = str(location[0]) if location else "?"
    field = settings.model_fields.get(name)
    if field is None:
        return name
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def _given_as(variable: str) -> str:
    """Give the variable that stands in for a service's own broker user, where that one is not set."""
    return SHARED_AMQP_URL if variable.endswith("_AMQP_URL") and variable not in os.environ else variable


def dsn(value: SecretStr) -> str:
    """Give a database URL for the driver. Raises ValueError when it is no PostgreSQL URL."""
    return str(PostgresDsn(value.get_secret_value()))
