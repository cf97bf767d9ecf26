"""What every provider's JSON has in common: strict types, and our own ids in its metadata. Pure, but for a counter."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

from prometheus_client import Counter
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

import contracts.payments

Ours = TypeVar("Ours")

VALUES_DROPPED = Counter(
    "kopilka_provider_values_dropped_total",
    "Members of providers' objects that were not of their documented form and decide nothing, so they were dropped.",
    ["member"],
)


def _lenient(value: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    try:
        return read(value)
    except ValidationError:
        VALUES_DROPPED.labels(info.field_name).inc()
        return None


LENIENT = WrapValidator(_lenient)
"""Marks a member that only explains and decides nothing about money: a value of an unknown form becomes None."""

OptionalTime = Annotated[Annotated[AwareDatetime, Field(strict=False)] | None, LENIENT]


class ProviderJson(BaseModel):
    """Untrusted JSON: documented members must have their types; others are ignored."""

    # An error text with the input would put a payer's data into the log.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


def payment_id(written: str | None) -> contracts.payments.PaymentId | None:
    """Read our payment id; None for anything that we do not write."""
    try:
        read = UUID(written or "")
    except ValueError:
        return None
    return contracts.payments.PaymentId(read) if str(read) == written else None


def our_id(metadata: Mapping[str, Any] | None, name: str, kind: Callable[[UUID], Ours]) -> Ours | None:
    """Read an id of ours from metadata; None when it is missing or nothing that we write."""
    written = (metadata or {}).get(name)
    try:
        return kind(UUID(written)) if isinstance(written, str) else None
    except ValueError:
        return None
