"""The fiscal receipt (54-FZ) of a payment without lines: one line of the amount, by the settings of the account."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

import contracts.payments
from contracts.message import Money

Contact = contracts.payments.ReceiptContact


class NoAddress(Exception):  # noqa: N818 - named by the state
    """There is no address to which the receipt may be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How an account makes receipts. `kind` is the provider's own service, which takes no phone, or a cash register.

    `vat_code` is the provider's; `mode`, `subject` and `measure` are those of FFD. `default_email` is the shop's own
    address for payers who gave none.
    """

    kind: Literal["provider", "register"]
    vat_code: Annotated[int, Field(ge=1, le=12)]
    mode: contracts.payments.Code
    subject: contracts.payments.Code
    measure: contracts.payments.Code = "piece"
    default_email: str | None = None


def receipt_of(
    rules: Rules | None, amount: Money, title: str, given: contracts.payments.Receipt | Contact | None
) -> contracts.payments.Receipt | None:
    """Return the receipt to send: the one given, or one line of the amount; None where the account makes none.

    Raises NoAddress.
    """
    if isinstance(given, contracts.payments.Receipt):
        return given
    if rules is None:
        return None
    email = given.email if given and given.email else None
    phone = given.phone if given and rules.kind == "register" else None
    if email is None and phone is None:
        email = rules.default_email
    if email is None and phone is None:
        raise NoAddress
    line = contracts.payments.ReceiptItem(
        description=title,
        price=amount,
        vat_code=rules.vat_code,
        subject=rules.subject,
        mode=rules.mode,
        measure=rules.measure,
    )
    return contracts.payments.Receipt(email=email, phone=None if email else phone, items=(line,))
