"""Refusals of requests, and the error for a fact that does not match its payment."""

from collections.abc import Mapping

from chassis import errors


class UnknownPayment(errors.Refusal):
    """There is no such payment."""

    code = "unknown_payment"


class CurrencyMismatch(errors.Refusal):
    """The payment is in another currency."""

    code = "currency_mismatch"


class ReceiptNotSupported(errors.Refusal):
    """The provider makes no fiscal receipts."""

    code = "receipt_not_supported"


class FactMismatchError(Exception):
    """A fact differs from what was requested. It becomes the finding `kind` and changes nothing.

    `details` hold both values; neither is personal.
    """

    def __init__(self, field: str, *, expected: object, found: object) -> None:
        """Name the field that differs, with both values."""
        super().__init__(f"{field} differs")
        self.kind = f"{field}_mismatch"
        self.details: Mapping[str, int | str | None] = {"expected": _plain(expected), "found": _plain(found)}


def _plain(value: object) -> int | str | None:
    return value if isinstance(value, int | str | None) else str(value)
