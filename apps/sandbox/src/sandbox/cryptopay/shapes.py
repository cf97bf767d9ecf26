"""What Crypto Pay accepts and how it refuses, and the invoice on the wire. Pure.

Amounts are decimal numbers of the asset, written without an exponent. Source: help.send.tg, "Crypto Pay API".
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic

# What a unit is worth in USD here; the real rates change every minute, these never do.
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


class Refused(Exception):  # noqa: N818 - the provider's answer, not a failure of ours
    """A request that Crypto Pay answers with an error of this name."""

    def __init__(self, name: str, status: int = 400) -> None:
        super().__init__(name)
        self.name, self.status = name, status

    def body(self) -> dict[str, Any]:
        """Build the error body."""
        return {"ok": False, "error": {"code": self.status, "name": self.name}}


class CreateInvoice(pydantic.BaseModel):
    """The parameters of createInvoice; they arrive as JSON or as text."""

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
    def _is_split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


@dataclasses.dataclass(slots=True, kw_only=True)
class Invoice:
    """One invoice; `status` is active, paid or expired."""

    id: str
    number: int
    asked: CreateInvoice
    page_url: str
    hash: str
    created_at: datetime
    expires_at: datetime | None
    status: str = "active"
    paid_at: datetime | None = None
    is_deleted: bool = False

    @property
    def currency(self) -> str:
        """The asset or fiat currency that it is written in."""
        return self.asked.asset or self.asked.fiat or ""

    def wire(self) -> dict[str, Any]:
        """Render the object; what is not set is not there."""
        shown = {
            "invoice_id": int(self.id),
            "hash": self.hash,
            "currency_type": self.asked.currency_type,
            "asset": self.asked.asset,
            "fiat": self.asked.fiat,
            "amount": written(self.asked.amount),
            "accepted_assets": self.asked.accepted_assets,
            "pay_url": self.page_url,
            "bot_invoice_url": self.page_url,
            "mini_app_invoice_url": self.page_url,
            "web_app_invoice_url": self.page_url,
            "description": self.asked.description,
            "status": self.status,
            "created_at": _moment(self.created_at),
            "allow_comments": self.asked.allow_comments,
            "allow_anonymous": self.asked.allow_anonymous,
            "expiration_date": _moment(self.expires_at),
            "hidden_message": self.asked.hidden_message,
            "payload": self.asked.payload,
            "paid_btn_name": self.asked.paid_btn_name,
            "paid_btn_url": self.asked.paid_btn_url,
            **(self._paid() if self.status == "paid" else {}),
        }
        return {name: value for name, value in shown.items() if value is not None}

    def _paid(self) -> dict[str, Any]:
        asset = self.asked.asset or (self.asked.accepted_assets or ["USDT"])[0]
        rate = ASSET_RATES[asset]
        amount = self.asked.amount
        if self.asked.fiat is not None:
            amount = (amount * FIAT_RATES[self.asked.fiat] / rate).quantize(PLACES)
        fee = (amount * FEE).quantize(PLACES)
        fiat = {
            "paid_asset": asset,
            "paid_amount": written(amount),
            "paid_fiat_rate": written(rate / FIAT_RATES[self.asked.fiat or "USD"]),
        }
        return {
            "paid_at": _moment(self.paid_at),
            "paid_anonymously": True,
            "paid_usd_rate": written(rate),
            "fee_asset": asset,
            "fee_amount": float(fee),
            "fee": written(fee),
            "fee_in_usd": written((fee * rate).quantize(PLACES)),
            **(fiat if self.asked.fiat is not None else {}),
        }


def create_invoice(asked: Mapping[str, Any]) -> CreateInvoice:
    """Read the parameters of a new invoice; raises Refused that names the first wrong one."""
    try:
        request = CreateInvoice.model_validate(asked)
    except pydantic.ValidationError as error:
        wrong = str((error.errors(include_input=False, include_url=False)[0]["loc"] or ("params",))[0])
        raise Refused(f"{wrong.upper()}_INVALID") from None
    is_crypto = request.currency_type == "crypto"
    if (request.asset not in ASSET_RATES) if is_crypto else (request.fiat not in FIAT_RATES):
        raise Refused("ASSET_INVALID" if is_crypto else "FIAT_INVALID")
    accepted = request.accepted_assets
    if accepted is not None and (is_crypto or not accepted or not ASSET_RATES.keys() >= set(accepted)):
        raise Refused("ACCEPTED_ASSETS_INVALID")
    if request.paid_btn_name is not None and request.paid_btn_url is None:
        raise Refused("PAID_BTN_URL_REQUIRED")
    return request.model_copy(update={"fiat" if is_crypto else "asset": None})


def integer(asked: Mapping[str, Any], name: str, default: int, *, most: int) -> int:
    """Read a whole number that is not negative; raises Refused."""
    try:
        value = int(asked.get(name, default))
    except (TypeError, ValueError):
        raise Refused(f"{name.upper()}_INVALID") from None
    if not 0 <= value <= most:
        raise Refused(f"{name.upper()}_INVALID")
    return value


def written(amount: Decimal) -> str:
    """Write an amount without exponent and needless zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(value: datetime | None) -> str | None:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None
