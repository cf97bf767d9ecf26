"""YooKassa's objects in JSON, and their translation into facts. Pure.

What is not of its documented shape is not believed; money is integers here and strings on the provider_json.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import provider_json
from payments.clients.yookassa import reasons
from payments.domain import facts

# The beginnings of the types of notifications that are used.
EVENTS = ("payment.", "refund.")
# Every currency that the provider accepts, with the decimals it writes.
EXPONENTS = dict.fromkeys(("RUB", "EUR", "USD", "KZT", "BYN", "UAH", "UZS", "TRY", "INR", "MDL", "AZN", "AMD"), 2)
DESCRIPTION_CHARACTERS_MAX, REASON_CHARACTERS_MAX = 128, 250

_STATES: Final[dict[str, facts.FactState]] = {
    "pending": "pending",
    "waiting_for_capture": "authorized",
    "succeeded": "paid",
    "canceled": "canceled",
}
# It becomes a part of a path, so no other characters are accepted.
_Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
_DIGITS_KEPT = 15
_VALUE = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,8}))?", re.ASCII)


def _text_of_number(value: object) -> object:
    # A number is read where it can be nothing else: a binary float keeps fifteen decimal digits.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number and len(repr(value).replace(".", "")) <= _DIGITS_KEPT else value


class _Amount(provider_json.ProviderJson):
    value: Annotated[str, Field(max_length=32), BeforeValidator(_text_of_number)]
    currency: Annotated[str, Field(max_length=3)]


class _Recipient(provider_json.ProviderJson):
    account_id: Annotated[str, Field(max_length=64)]


class _Confirmation(provider_json.ProviderJson):
    confirmation_url: Annotated[
        Annotated[str, Field(max_length=2048, pattern=r"^https?://")] | None, provider_json.LENIENT
    ] = None


class _Cancellation(provider_json.ProviderJson):
    reason: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")]


class Payment(provider_json.ProviderJson):
    """A payment."""

    id: _Id
    status: Literal["pending", "waiting_for_capture", "succeeded", "canceled"]
    amount: _Amount
    created_at: AwareDatetime
    recipient: _Recipient
    test: bool
    income_amount: Annotated[_Amount | None, provider_json.LENIENT] = None
    refunded_amount: _Amount | None = None
    metadata: dict[str, Any] | None = None
    confirmation: Annotated[_Confirmation | None, provider_json.LENIENT] = None
    captured_at: provider_json.OptionalTime = None
    expires_at: provider_json.OptionalTime = None
    cancellation_details: Annotated[_Cancellation | None, provider_json.LENIENT] = None


class Refund(provider_json.ProviderJson):
    """A refund."""

    id: _Id
    payment_id: _Id
    status: Literal["pending", "succeeded", "canceled"]
    amount: _Amount
    created_at: AwareDatetime
    metadata: dict[str, Any] | None = None
    cancellation_details: Annotated[_Cancellation | None, provider_json.LENIENT] = None


class Payments(provider_json.ProviderJson):
    """A page of payments."""

    items: list[Payment]
    next_cursor: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Refunds(provider_json.ProviderJson):
    """A page of refunds."""

    items: list[Refund]
    next_cursor: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Error(provider_json.ProviderJson):
    """Why a call was refused."""

    type: Literal["error"]
    code: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")]
    id: Annotated[str | None, provider_json.LENIENT] = None
    parameter: Annotated[str | None, provider_json.LENIENT] = None
    description: Annotated[str | None, provider_json.LENIENT] = None
    retry_after: Annotated[Annotated[int, Field(ge=0)] | None, provider_json.LENIENT] = None


class _Subject(provider_json.ProviderJson):
    id: _Id
    payment_id: _Id | None = None


class NotificationHead(provider_json.ProviderJson):
    """What every notification has."""

    type: Literal["notification"]
    event: Annotated[str, Field(min_length=1, max_length=256)]


class Notification(provider_json.ProviderJson):
    """A notification about a payment."""

    event: Annotated[str, Field(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$")]
    object: _Subject


def decimal_of(amount: Money) -> str:
    """Write an amount as the provider does: 150000 RUB is "1500.00"."""
    exponent = EXPONENTS[amount.currency]
    units, rest = divmod(amount.amount_minor, 10**exponent)
    return f"{units}.{rest:0{exponent}d}"


def minor_of(value: str, currency: str) -> int:
    """Read an amount exactly. Raises ValueError for an unknown currency, a sign, an exponent or a broken minor unit."""
    match = _VALUE.fullmatch(value)
    if match is None or currency not in EXPONENTS:
        raise ValueError(f"no amount of a known currency: {value!r} {currency!r}")
    exponent = EXPONENTS[currency]
    decimals = (match[2] or "").ljust(exponent, "0")
    if decimals[exponent:].strip("0"):
        raise ValueError("more decimals than the currency has")
    return int(match[1] + decimals[:exponent])


def moment(at: datetime) -> str:
    """Write a time as the provider does: in UTC, with milliseconds and Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def written(amount: Money) -> dict[str, str]:
    """Write an amount as a member of a request. Raises Rejected for a currency that the provider does not take."""
    if amount.currency not in EXPONENTS:
        raise clients.Rejected("currency_not_supported")
    return {"value": decimal_of(amount), "currency": amount.currency}


def line(item: contracts.payments.ReceiptItem) -> dict[str, Any]:
    """Write one line of a fiscal receipt. The quantity is a JSON number: shops were refused for its text."""
    units, thousandths = divmod(item.quantity_milli, 1000)
    return {
        "description": item.description[:DESCRIPTION_CHARACTERS_MAX],
        "quantity": item.quantity_milli / 1000 if thousandths else units,
        "measure": item.measure,
        "amount": written(item.price),
        "vat_code": item.vat_code,
        "payment_mode": item.mode,
        "payment_subject": item.subject,
    }


def fact_of(answer: Payment) -> facts.Fact:
    """Read a payment. Raises Foreign where we can't have made it, or Unreadable where an amount makes no sense."""
    payment_id = provider_json.our_id(answer.metadata, "payment_id", contracts.payments.PaymentId)
    if answer.amount.currency not in EXPONENTS and payment_id is None:
        raise clients.Foreign("a payment in a currency that we don't use")
    reason = answer.cancellation_details.reason if answer.cancellation_details else None
    try:
        taken_minor = minor_of(answer.amount.value, answer.amount.currency)
        amount = Money(
            amount_minor=max(taken_minor, _held_minor(answer)) if answer.status == "succeeded" else taken_minor,
            currency=answer.amount.currency,
        )
        return facts.Fact(
            provider_ref=answer.id,
            state=_STATES[answer.status],
            amount=amount,
            captured_minor=taken_minor if answer.status == "succeeded" else 0,
            refunded_minor=_same_minor(answer.refunded_amount, amount) or 0,
            fee_minor=_fee_minor(answer, taken_minor),
            shop_id=answer.recipient.account_id,
            is_test=answer.test,
            payment_id=payment_id,
            created_at=answer.created_at,
            confirmation_url=answer.confirmation.confirmation_url if answer.confirmation else None,
            paid_at=answer.captured_at,
            capture_before=answer.expires_at if answer.status == "waiting_for_capture" else None,
            reason=reason,
            failure_reason=reasons.reason_of(reason) if answer.status == "canceled" else None,
        )
    except ValueError as error:
        raise clients.Unreadable("the answer is not a payment") from error


def refund_of(answer: Refund) -> facts.RefundFact:
    """Read a refund. Raises Unreadable where its amount makes no sense."""
    try:
        amount_minor = minor_of(answer.amount.value, answer.amount.currency)
        amount = Money(amount_minor=amount_minor, currency=answer.amount.currency)
    except ValueError as error:
        raise clients.Unreadable("the answer is not a refund") from error
    return facts.RefundFact(
        refund_ref=answer.id,
        provider_ref=answer.payment_id,
        state=answer.status,
        amount=amount,
        refund_id=provider_json.our_id(answer.metadata, "refund_id", contracts.payments.RefundId),
        created_at=answer.created_at,
        reason=answer.cancellation_details.reason if answer.cancellation_details else None,
    )


def _held_minor(answer: Payment) -> int:
    # After a partial capture the provider shows only that part; the requested amount is in our metadata.
    written = (answer.metadata or {}).get("held_minor")
    return int(written) if isinstance(written, str) and re.fullmatch(r"[0-9]{1,18}", written) else 0


def _fee_minor(answer: Payment, taken_minor: int) -> int | None:
    if answer.status != "succeeded" or answer.income_amount is None:
        return None
    if answer.income_amount.currency != answer.amount.currency:
        return None
    try:
        fee_minor = taken_minor - minor_of(answer.income_amount.value, answer.income_amount.currency)
    except ValueError:
        return None
    return fee_minor if fee_minor >= 0 else None


def _same_minor(amount: _Amount | None, other: Money) -> int | None:
    if amount is None:
        return None
    if amount.currency != other.currency:
        raise ValueError("two currencies in one payment")
    return minor_of(amount.value, amount.currency)
