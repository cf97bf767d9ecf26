"""The ledger's settings, read from the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis import settings


class LedgerSettings(settings.Settings):
    """The settings of the ledger's processes."""

    model_config = SettingsConfigDict(env_prefix="LEDGER_")

    check_interval_s: int = Field(
        default=30,
        ge=1,
        le=3_600,
        description="Pause between two runs of the continuous check of the books, in seconds.",
    )
    seal_after_s: float = Field(
        default=5,
        ge=0,
        le=3_600,
        description="How long a transfer waits for a full block of the hash chain at most, in seconds.",
    )
