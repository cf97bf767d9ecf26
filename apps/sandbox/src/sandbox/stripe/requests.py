"""Stripe's request parameters and error object. Pure.

Parameters that are not imitated are ignored; Stripe itself rejects unknown names.
"""

from typing import Annotated, Any, Literal, TypeVar

import pydantic

# Currencies without minor units: 500 JPY is 500.
ZERO_DECIMAL = {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof"}
CURRENCIES = ZERO_DECIMAL | {
    *("aed", "amd", "aud", "azn", "brl", "byn", "cad", "chf", "cny", "czk", "dkk", "eur", "gbp", "gel", "hkd", "huf"),
    *("ils", "inr", "kgs", "kzt", "mdl", "mxn", "nok", "nzd", "pln", "ron", "rub", "sek", "sgd", "thb", "try", "uah"),
    *("usd", "uzs"),
}
AMOUNT_MAX = 99_999_999
# Payment methods whose money arrives days after the confirmation.
DELAYED = {"acss_debit", "bacs_debit", "boleto", "oxxo", "sepa_debit", "us_bank_account"}
EXPIRES_S_MIN, EXPIRES_S_MAX = 30 * 60, 24 * 3600

Model = TypeVar("Model", bound="_Parameters")
Metadata = Annotated[
    dict[
        Annotated[str, pydantic.StringConstraints(max_length=40)],
        Annotated[str, pydantic.StringConstraints(max_length=500)],
    ],
    pydantic.Field(max_length=50),
]
Amount = Annotated[int, pydantic.Field(ge=1, le=AMOUNT_MAX)]
Text = Annotated[str, pydantic.StringConstraints(max_length=5000)]


class StripeError(Exception):
    """A request that Stripe answers with 4xx; `members` are added to the error object. `is_stored` tells whether the
    response is stored under its idempotency key: invalid parameters are not, because nothing was executed.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        type_: str = "invalid_request_error",
        is_stored: bool = True,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.is_stored = message, status, is_stored
        self._members = {"code": code, "message": message, "param": param, "type": type_, **members}

    def body(self) -> dict[str, Any]:
        """Return the error body."""
        return {"error": {name: value for name, value in self._members.items() if value is not None}}


class _Parameters(pydantic.BaseModel):
    """Base of the parameters: form fields are text, so numbers and booleans are parsed from it."""

    model_config = pydantic.ConfigDict(frozen=True)


def _known_currency(value: str) -> str:
    if value.lower() not in CURRENCIES:
        raise ValueError(f"Invalid currency: {value[:8]}")
    return value.lower()


Currency = Annotated[str, pydantic.AfterValidator(_known_currency)]


class CreateIntent(_Parameters):
    """POST /v1/payment_intents."""

    amount: Amount
    currency: Currency
    capture_method: Literal["automatic", "automatic_async", "manual"] = "automatic"
    confirm: bool = False
    description: Text | None = None
    metadata: Metadata = {}
    payment_method: Text | None = None
    payment_method_types: Annotated[list[Text], pydantic.Field(min_length=1, max_length=20)] = ["card"]
    receipt_email: Text | None = None


class UpdateIntent(_Parameters):
    """POST /v1/payment_intents/{id}."""

    amount: Amount | None = None
    description: Text | None = None
    metadata: Metadata = {}


class ConfirmIntent(_Parameters):
    """POST /v1/payment_intents/{id}/confirm."""

    payment_method: Text | None = None


class CaptureIntent(_Parameters):
    """POST /v1/payment_intents/{id}/capture."""

    amount_to_capture: Amount | None = None


class CancelIntent(_Parameters):
    """POST /v1/payment_intents/{id}/cancel."""

    cancellation_reason: Literal["duplicate", "fraudulent", "requested_by_customer", "abandoned"] | None = None


class ProductData(_Parameters):
    """The product of a line item."""

    name: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=250)]


class PriceData(_Parameters):
    """An inline price."""

    currency: Currency
    unit_amount: Annotated[int, pydantic.Field(ge=0, le=AMOUNT_MAX)]
    product_data: ProductData


class LineItem(_Parameters):
    """One line of a session; only inline prices are imitated."""

    price_data: PriceData
    quantity: Annotated[int, pydantic.Field(ge=1, le=999_999)] = 1


class IntentData(_Parameters):
    """The parameters that a session passes to its payment intent."""

    capture_method: Literal["automatic", "automatic_async", "manual"] = "automatic"
    description: Text | None = None
    metadata: Metadata = {}


class CreateSession(_Parameters):
    """POST /v1/checkout/sessions, for single payments."""

    mode: Literal["payment"]
    line_items: Annotated[list[LineItem], pydantic.Field(min_length=1, max_length=100)]
    success_url: Text | None = None
    cancel_url: Text | None = None
    client_reference_id: Annotated[str, pydantic.StringConstraints(max_length=200)] | None = None
    customer_email: Text | None = None
    expires_at: int | None = None
    metadata: Metadata = {}
    payment_intent_data: IntentData = IntentData()
    payment_method_types: Annotated[list[Text], pydantic.Field(min_length=1, max_length=20)] = ["card"]

    @pydantic.model_validator(mode="after")
    def _has_valid_total(self) -> "CreateSession":
        if len({item.price_data.currency for item in self.line_items}) > 1:
            raise ValueError("All line items must have the same currency")
        if not 1 <= self.total <= AMOUNT_MAX:
            raise ValueError(f"The total amount must be between 1 and {AMOUNT_MAX}")
        return self

    @property
    def total(self) -> int:
        """The sum of all lines."""
        return sum(item.price_data.unit_amount * item.quantity for item in self.line_items)


class CreateRefund(_Parameters):
    """POST /v1/refunds."""

    charge: Text | None = None
    payment_intent: Text | None = None
    amount: Amount | None = None
    metadata: Metadata = {}
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None


def parse(model: type[Model], params: dict[str, Any]) -> Model:
    """Validate the parameters of a call; raises StripeError with the first invalid one."""
    try:
        return model.model_validate(params)
    except pydantic.ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        first, *rest = [str(part) for part in problem["loc"] if part != "[key]"] or [""]
        param = first + "".join(f"[{part}]" for part in rest)
        if problem["type"] == "missing":
            missing = f"Missing required param: {param}."
            raise StripeError(missing, param=param, code="parameter_missing", is_stored=False) from None
        code = "parameter_invalid_integer" if problem["type"] == "int_parsing" else None
        message = problem["msg"].removeprefix("Value error, ")
        raise StripeError(message, param=param or None, code=code, is_stored=False) from None


def no_such_object(noun: str, object_id: str, param: str | None = "id", *, status: int = 404) -> StripeError:
    """Build the error for an unknown id."""
    return StripeError(f"No such {noun}: '{object_id[:64]}'", param=param, code="resource_missing", status=status)
