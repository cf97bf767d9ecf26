"""What is common to every provider's JSON: how little of it is believed, and how our own id is read out of it. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts import payments

Ours = TypeVar("Ours")


class ProviderJson(BaseModel):
    """Untrusted JSON: known members must have their documented type; unknown ones are not looked at."""

    # An error text with the input would carry a payer's data into the log.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


def payment_id(written: str | None) -> payments.PaymentId | None:
    """Read the payment id that we once gave along; None for anything that we do not write."""
    try:
        read = UUID(written or "")
    except ValueError:
        return None
    return payments.PaymentId(read) if str(read) == written else None


def our_id(metadata: Mapping[str, Any] | None, name: str, kind: Callable[[UUID], Ours]) -> Ours | None:
    """Read an id of ours from metadata; None when it is missing or nothing that we write."""
    written = (metadata or {}).get(name)
    try:
        return kind(UUID(written)) if isinstance(written, str) else None
    except ValueError:
        return None
