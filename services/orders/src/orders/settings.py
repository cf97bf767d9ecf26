"""The settings of orders, and the only reader of its environment."""

from pydantic_settings import SettingsConfigDict

from chassis import settings


class OrdersSettings(settings.Settings):
    """What every process of orders needs; all of it is shared with the other services."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_")
