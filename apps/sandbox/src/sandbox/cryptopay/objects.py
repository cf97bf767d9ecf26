"""Crypto Pay's request parameters, errors and invoices. Pure.

Amounts are decimal numbers of the asset, formatted without an exponent. Source: help.send.tg, "Crypto Pay API".
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic

# The fixed price of one unit in USD.
ASSET_RATES = {
    "USDT": Decimal(1),
    "TON": Decimal(3),
    "SOL": Decimal(150),
    "BTC": Decimal(100_000),
    "ETH": Decimal(4_000),
    "LTC": Decimal(100),
    "BNB": Decimal(800),
    "TRX": Decimal("0.25"),
    "USDC": Decimal(1),
}
FIAT_RATES = {
    "USD": Decimal(1),
    "EUR": Decimal("1.1"),
    "RUB": Decimal("0.0125"),
    "UAH": Decimal("0.025"),
    "KZT": Decimal("0.002"),
    "GBP": Decimal("1.25"),
}
EXPIRES_S_MAX = 2_678_400
# The share of every paid invoice that Crypto Pay keeps.
FEE = Decimal("0.03")
PLACES = Decimal("0.00000001")


class CryptoPayError(Exception):
    """A request that Crypto Pay answers with an error of this name."""

    def __init__(self, name: str, status: int = 400) -> None:
        super().__init__(name)
        self.name, self.status = name, status

    def body(self) -> dict[str, Any]:
        """Build the error body."""
        return {"ok": False, "error": {"code": self.status, "name": self.name}}


class CreateInvoice(pydantic.BaseModel):
    """The parameters of createInvoice, in JSON types or as text."""

    model_config = pydantic.ConfigDict(frozen=True, coerce_numbers_to_str=True)

    currency_type: Literal["crypto", "fiat"] = "crypto"
    asset: str | None = None
    fiat: str | None = None
    accepted_assets: list[str] | None = None
    amount: Annotated[Decimal, pydantic.Field(gt=0, max_digits=18, decimal_places=9)]
    description: Annotated[str, pydantic.StringConstraints(max_length=1024)] | None = None
    hidden_message: Annotated[str, pydantic.StringConstraints(max_length=2048)] | None = None
    paid_btn_name: Literal["viewItem", "openChannel", "openBot", "callback"] | None = None
    paid_btn_url: Annotated[str, pydantic.StringConstraints(pattern=r"^https?://.{1,2000}$")] | None = None
    payload: Annotated[str, pydantic.StringConstraints(max_length=4096)] | None = None
    allow_comments: bool = True
    allow_anonymous: bool = True
    expires_in: Annotated[int, pydantic.Field(ge=1, le=EXPIRES_S_MAX)] | None = None

    @pydantic.field_validator("accepted_assets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


@dataclasses.dataclass(slots=True, kw_only=True)
class Invoice:
    """An invoice; `status` is active, paid or expired."""

    id: str
    number: int
    request: CreateInvoice
    page_url: str
    hash: str
    created_at: datetime
    expires_at: datetime | None
    status: str = "active"
    paid_at: datetime | None = None
    is_deleted: bool = False

    @property
    def currency(self) -> str:
        """The asset or fiat currency of its amount."""
        return self.request.asset or self.request.fiat or ""

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses, without unset members."""
        fields = {
            "invoice_id": int(self.id),
            "hash": self.hash,
            "currency_type": self.request.currency_type,
            "asset": self.request.asset,
            "fiat": self.request.fiat,
            "amount": format_amount(self.request.amount),
            "accepted_assets": self.request.accepted_assets,
            "pay_url": self.page_url,
            "bot_invoice_url": self.page_url,
            "mini_app_invoice_url": self.page_url,
            "web_app_invoice_url": self.page_url,
            "description": self.request.description,
            "status": self.status,
            "created_at": _timestamp(self.created_at),
            "allow_comments": self.request.allow_comments,
            "allow_anonymous": self.request.allow_anonymous,
            "expiration_date": _timestamp(self.expires_at),
            "hidden_message": self.request.hidden_message,
            "payload": self.request.payload,
            "paid_btn_name": self.request.paid_btn_name,
            "paid_btn_url": self.request.paid_btn_url,
            **(self._paid() if self.status == "paid" else {}),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _paid(self) -> dict[str, Any]:
        asset = self.request.asset or (self.request.accepted_assets or ["USDT"])[0]
        rate = ASSET_RATES[asset]
        amount = self.request.amount
        if self.request.fiat is not None:
            amount = (amount * FIAT_RATES[self.request.fiat] / rate).quantize(PLACES)
        fee = (amount * FEE).quantize(PLACES)
        fiat = {
            "paid_asset": asset,
            "paid_amount": format_amount(amount),
            "paid_fiat_rate": format_amount(rate / FIAT_RATES[self.request.fiat or "USD"]),
        }
        return {
            "paid_at": _timestamp(self.paid_at),
            "paid_anonymously": True,
            "paid_usd_rate": format_amount(rate),
            "fee_asset": asset,
            "fee_amount": float(fee),
            "fee": format_amount(fee),
            "fee_in_usd": format_amount((fee * rate).quantize(PLACES)),
            **(fiat if self.request.fiat is not None else {}),
        }


def parse_create_invoice(params: Mapping[str, Any]) -> CreateInvoice:
    """Validate the parameters of a new invoice; raises CryptoPayError that names the first invalid one."""
    try:
        request = CreateInvoice.model_validate(params)
    except pydantic.ValidationError as error:
        invalid = str((error.errors(include_input=False, include_url=False)[0]["loc"] or ("params",))[0])
        raise CryptoPayError(f"{invalid.upper()}_INVALID") from None
    is_crypto = request.currency_type == "crypto"
    if (request.asset not in ASSET_RATES) if is_crypto else (request.fiat not in FIAT_RATES):
        raise CryptoPayError("ASSET_INVALID" if is_crypto else "FIAT_INVALID")
    accepted = request.accepted_assets
    if accepted is not None and (is_crypto or not accepted or not ASSET_RATES.keys() >= set(accepted)):
        raise CryptoPayError("ACCEPTED_ASSETS_INVALID")
    if request.paid_btn_name is not None and request.paid_btn_url is None:
        raise CryptoPayError("PAID_BTN_URL_REQUIRED")
    return request.model_copy(update={"fiat" if is_crypto else "asset": None})


def parse_integer(params: Mapping[str, Any], name: str, default: int, *, maximum: int) -> int:
    """Parse an integer that is not negative; raises CryptoPayError."""
    try:
        value = int(params.get(name, default))
    except (TypeError, ValueError):
        raise CryptoPayError(f"{name.upper()}_INVALID") from None
    if not 0 <= value <= maximum:
        raise CryptoPayError(f"{name.upper()}_INVALID")
    return value


def format_amount(amount: Decimal) -> str:
    """Format an amount without exponent and trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _timestamp(value: datetime | None) -> str | None:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None
