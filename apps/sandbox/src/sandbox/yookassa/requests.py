"""YooKassa's request bodies, list queries and error body. Pure.

A request that does not match its documented schema raises YooKassaError, which becomes a 4xx response.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import pydantic
import pydantic_core

LIST_LIMIT, LIST_LIMIT_MAX = 10, 100
RECEIPT_ITEMS_MAX = 80

Model = TypeVar("Model", bound="_RequestModel")
Metadata = Annotated[
    dict[
        Annotated[str, pydantic.StringConstraints(max_length=32)],
        Annotated[str, pydantic.StringConstraints(max_length=512)],
    ],
    pydantic.Field(max_length=16),
]


class YooKassaError(Exception):
    """A request that YooKassa answers with 4xx."""

    def __init__(
        self, description: str, parameter: str | None = None, *, status: int = 400, code: str = "invalid_request"
    ) -> None:
        super().__init__(description)
        self.description, self.parameter, self.status, self.code = description, parameter, status, code


class _RequestModel(pydantic.BaseModel):
    """Base of the request bodies: unknown members are ignored, known ones must have their JSON type."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True)


class Amount(_RequestModel):
    """An amount of money."""

    value: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9]{1,12}\.[0-9]{2}$")]
    currency: Literal["RUB", "EUR", "USD", "KZT", "BYN", "UAH", "UZS", "TRY", "INR", "MDL", "AZN", "AMD"]

    @pydantic.field_validator("value")
    @classmethod
    def _is_positive(cls, value: str) -> str:
        if int(value.replace(".", "")) == 0:
            raise ValueError("must be above zero")
        return value

    @property
    def minor(self) -> int:
        """The amount in minor units."""
        return int(self.value.replace(".", ""))


class Confirmation(_RequestModel):
    """How the payer confirms the payment."""

    type: Literal["redirect", "embedded", "external", "qr", "mobile_application"]
    return_url: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=2048)] | None = None

    @pydantic.field_validator("return_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not urlsplit(value).scheme:
            raise ValueError("must be an absolute URL")
        return value

    @pydantic.model_validator(mode="after")
    def _has_return_url(self) -> "Confirmation":
        if self.type in {"redirect", "mobile_application"} and self.return_url is None:
            raise ValueError("return_url is required for this type")
        return self


class PaymentMethodData(_RequestModel):
    """The payment method that the shop has chosen for the payer."""

    type: Literal[
        "bank_card",
        "cash",
        "sberbank",
        "tinkoff_bank",
        "yoo_money",
        "mobile_balance",
        "b2b_sberbank",
        "sbp",
        "sber_loan",
        "electronic_certificate",
        "sber_bnpl",
    ]


class ReceiptCustomer(_RequestModel):
    """The recipient of the receipt; email or phone is required."""

    email: Annotated[str, pydantic.StringConstraints(min_length=3, max_length=256)] | None = None
    phone: Annotated[str, pydantic.StringConstraints(pattern=r"^\+?[0-9]{10,15}$")] | None = None

    @pydantic.model_validator(mode="after")
    def _has_address(self) -> "ReceiptCustomer":
        if self.email is None and self.phone is None:
            raise ValueError("email or phone is required")
        return self


class ReceiptItem(_RequestModel):
    """One line of a receipt; the amount is the unit price, the quantity a number or its text."""

    description: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=128)]
    quantity: Annotated[Decimal, pydantic.Field(gt=0, le=99_999, strict=False)]
    amount: Amount
    vat_code: Annotated[int, pydantic.Field(ge=1, le=12)]
    measure: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=32)] | None = None
    payment_mode: str | None = None
    payment_subject: str | None = None


class Receipt(_RequestModel):
    """A fiscal receipt (54-FZ)."""

    customer: ReceiptCustomer
    items: Annotated[list[ReceiptItem], pydantic.Field(min_length=1, max_length=RECEIPT_ITEMS_MAX)]
    tax_system_code: Annotated[int, pydantic.Field(ge=1, le=6)] | None = None

    @property
    def total_minor(self) -> Decimal:
        """The sum of all lines in minor units."""
        return sum((item.quantity * item.amount.minor for item in self.items), Decimal())


class _WithReceipt(_RequestModel):
    """A body with an amount and a receipt for it."""

    receipt: Receipt | None = None

    @pydantic.model_validator(mode="after")
    def _receipt_matches_the_amount(self) -> "_WithReceipt":
        amount: Amount | None = getattr(self, "amount", None)
        if self.receipt is not None and amount is not None and round(self.receipt.total_minor) != amount.minor:
            raise ValueError("the receipt's items do not add up to the amount")
        return self


class CreatePayment(_WithReceipt):
    """The body of POST /payments; `capture` is false by default, as at YooKassa."""

    amount: Amount
    capture: bool = False
    confirmation: Confirmation | None = None
    description: Annotated[str, pydantic.StringConstraints(max_length=128)] | None = None
    merchant_customer_id: Annotated[str, pydantic.StringConstraints(max_length=200)] | None = None
    metadata: Metadata | None = None
    payment_method_data: PaymentMethodData | None = None
    # There are no saved payment methods and no tokens, so any value is invalid.
    payment_method_id: None = None
    payment_token: None = None


class CapturePayment(_WithReceipt):
    """The body of POST /payments/{id}/capture; an empty body is valid."""

    amount: Amount | None = None


class CreateRefund(_WithReceipt):
    """The body of POST /refunds."""

    payment_id: Annotated[str, pydantic.StringConstraints(min_length=36, max_length=36)]
    amount: Amount
    description: Annotated[str, pydantic.StringConstraints(max_length=250)] | None = None
    metadata: Metadata | None = None


class Listed(Protocol):
    """An object of a list: a payment or a refund."""

    @property
    def id(self) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


Item = TypeVar("Item", bound=Listed)


@dataclasses.dataclass(frozen=True, slots=True)
class ListQuery:
    """A list query: page size, the id that the page starts after, and the filters."""

    limit: int
    cursor: str | None
    equal: Mapping[str, str]
    times: tuple[tuple[str, str, datetime], ...]

    def page(self, newest_first: Iterable[Item]) -> dict[str, Any]:
        """Return one page of the objects that pass the filters."""
        page: list[Item] = []
        for item in newest_first:
            if not self._accepts(item):
                continue
            if len(page) == self.limit:
                return {"type": "list", "items": [one.to_json() for one in page], "next_cursor": page[-1].id}
            page.append(item)
        return {"type": "list", "items": [one.to_json() for one in page]}

    def _accepts(self, item: Listed) -> bool:
        return all(_member(item, name) == value for name, value in self.equal.items()) and all(
            _compares(getattr(item, name), operator, value) for name, operator, value in self.times
        )


def parse(model: type[Model], value: Any) -> Model:
    """Validate a decoded JSON body; raises YooKassaError with the first invalid parameter."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        error_details = error.errors(include_input=False, include_url=False)[0]
        parameter = ".".join(str(part) for part in error_details["loc"] if part != "[key]")
        raise YooKassaError(error_details["msg"], parameter or None) from None


def decode_json(raw: bytes) -> Any:
    """Decode a JSON body; an empty one gives None. Raises YooKassaError."""
    if not raw:
        return None
    try:
        return pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise YooKassaError("Request body is not valid JSON") from None


def parse_list_query(query: Iterable[tuple[str, str]], *, equal: set[str], times: set[str]) -> ListQuery:
    """Parse a list query; raises YooKassaError for an unknown, repeated or malformed parameter."""
    seen: set[str] = set()
    limit, cursor = LIST_LIMIT, None
    equals: dict[str, str] = {}
    bounds: list[tuple[str, str, datetime]] = []
    for name, value in query:
        member, _, operator = name.partition(".")
        if name in seen:
            raise YooKassaError("Parameter is repeated", name)
        seen.add(name)
        if name == "limit":
            limit = _limit(value)
        elif name == "cursor":
            cursor = value
        elif name in equal:
            equals[name] = value
        elif member in times and operator in {"gte", "gt", "lte", "lt"}:
            bounds.append((member, operator, _time(name, value)))
        else:
            raise YooKassaError("Unknown parameter", name[:64])
    return ListQuery(limit, cursor, equals, tuple(bounds))


def error_body(
    code: str, description: str, *, parameter: str | None = None, retry_after_s: int | None = None
) -> dict[str, Any]:
    """Build YooKassa's error object, where `retry_after` is in milliseconds."""
    fields = {
        "type": "error",
        "id": str(uuid.uuid4()),
        "code": code,
        "description": description,
        "parameter": parameter,
        "retry_after": None if retry_after_s is None else retry_after_s * 1000,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _limit(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= LIST_LIMIT_MAX):
        raise YooKassaError(f"Must be a number from 1 to {LIST_LIMIT_MAX}", "limit")
    return int(value)


def _time(name: str, value: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise YooKassaError("Must be a time in ISO 8601", name) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _member(item: Listed, name: str) -> Any:
    return (item.to_json().get("payment_method") or {}).get("type") if name == "payment_method" else getattr(item, name)


def _compares(actual: datetime | None, operator: str, bound: datetime) -> bool:
    if actual is None:
        return False
    return {
        "gte": actual >= bound,
        "gt": actual > bound,
        "lte": actual <= bound,
        "lt": actual < bound,
    }[operator]
