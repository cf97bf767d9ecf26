"""What clients read: the read models, exactly as they appear on the wire. Amounts are integer minor units."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts import message, orders

MONEY = {"amount_minor": 150_000, "currency": "RUB"}
UUID_7 = "0198c0de-7000-7000-8000-00000000a001"
MOMENT = "2026-05-01T09:30:00Z"

PaymentStatus = Literal[
    "created", "pending", "authorized", "paid", "partially_refunded", "refunded", "failed", "canceled"
]
OrderStatus = Literal["accepted", "placed", "paid", "refused", "canceled"]
LineKind = Literal["credit", "debit", "refund", "hold", "capture", "release"]


class View(BaseModel):
    """What every read model has in common: it is a frozen snapshot."""

    model_config = ConfigDict(frozen=True)


class User(View):
    """A person who has opened the Mini App. The gateway keeps the chat address and nothing else about them."""

    id: Annotated[UUID, Field(examples=[UUID_7])]
    telegram_id: Annotated[int, Field(examples=[279058397])]
    registered_at: Annotated[datetime, Field(examples=[MOMENT])]


class Payment(View):
    """Money on its way in. It is `created` until the provider has answered, then `pending` until it is settled.

    While the payer's money is only held it is `authorized`.
    """

    id: Annotated[UUID, Field(examples=[UUID_7])]
    status: Annotated[PaymentStatus, Field(examples=["pending"])]
    purpose: Annotated[str, Field(examples=["top_up"])]
    amount: Annotated[message.Money, Field(examples=[MONEY])]
    paid_minor: Annotated[
        int | None,
        Field(description="What was really taken, which may be less than was asked; null until then.", examples=[None]),
    ]
    refunded_minor: Annotated[int, Field(description="What was given back of it so far.", examples=[0])]
    provider: Annotated[str, Field(examples=["yookassa"])]
    confirmation_url: Annotated[
        str | None,
        Field(description="Where the payer continues.", examples=["https://yoomoney.ru/checkout/payments/v2/contract"]),
    ]
    expires_at: Annotated[datetime | None, Field(examples=[MOMENT])]
    failure_code: Annotated[str | None, Field(description="Why no money can arrive.", examples=[None])]
    created_at: Annotated[datetime, Field(examples=[MOMENT])]


class Refusal(View):
    """Why an order could not be."""

    code: Annotated[str, Field(examples=["insufficient_funds"])]
    detail: Annotated[str, Field(examples=["The wallet holds less than the total."])]


class Order(View):
    """A purchase with the prices it was placed at. `items` is empty and `total` null until it has its prices."""

    id: Annotated[UUID, Field(examples=[UUID_7])]
    status: Annotated[OrderStatus, Field(examples=["paid"])]
    items: list[orders.OrderLine]
    total: Annotated[message.Money | None, Field(examples=[MONEY])]
    refusal: Annotated[Refusal | None, Field(examples=[None])]
    created_at: Annotated[datetime, Field(examples=[MOMENT])]


class Balance(View):
    """What a user has of one asset: `available_minor` is the balance without what is held."""

    asset: Annotated[str, Field(examples=["RUB"])]
    balance_minor: Annotated[int, Field(examples=[150_000])]
    held_minor: Annotated[int, Field(examples=[40_000])]
    available_minor: Annotated[int, Field(examples=[110_000])]


class StatementLine(View):
    """One change of a user's account. The amounts of all lines of an asset sum to its balance."""

    id: Annotated[str, Field(examples=["RUB-17"])]
    kind: Annotated[LineKind, Field(examples=["credit"])]
    asset: Annotated[str, Field(examples=["RUB"])]
    amount_minor: Annotated[int, Field(description="Signed; 0 where money was only held.", examples=[150_000])]
    held_change_minor: Annotated[
        int | None,
        Field(description="How much more is held; null while the line before is not known yet.", examples=[0]),
    ]
    balance_after_minor: Annotated[int, Field(examples=[150_000])]
    occurred_at: Annotated[datetime, Field(examples=[MOMENT])]
    reference: Annotated[str, Field(examples=[f"payment:{UUID_7}"])]


class Category(View):
    """A shelf of the catalog."""

    id: Annotated[str, Field(examples=["coffee"])]
    title: Annotated[str, Field(examples=["Coffee"])]


class Product(View):
    """Something on sale, at its present price."""

    id: Annotated[str, Field(examples=["coffee-250"])]
    category_id: Annotated[str, Field(examples=["coffee"])]
    title: Annotated[str, Field(examples=["Coffee, 250 g"])]
    description: Annotated[str, Field(examples=["Whole beans."])]
    price: Annotated[message.Money, Field(examples=[MONEY])]
