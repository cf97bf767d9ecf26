"""What the read models of all slices share. Amounts are integer minor units."""

from pydantic import BaseModel, ConfigDict

MONEY = {"amount_minor": 150_000, "currency": "RUB"}
UUID_7 = "0198c0de-7000-7000-8000-00000000a001"
MOMENT = "2026-05-01T09:30:00Z"


class ReadModel(BaseModel):
    """What a client reads, exactly as it appears in the response; a frozen snapshot."""

    model_config = ConfigDict(frozen=True)
