"""The order as clients read it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from contracts import message, orders
from gateway.domain import read_models

Status = Literal["accepted", "placed", "paid", "refused", "canceled"]


class Refusal(read_models.ReadModel):
    """Why an order was refused or canceled."""

    code: Annotated[str, Field(examples=["insufficient_funds"])]
    detail: Annotated[str, Field(examples=["The wallet holds less than the total."])]


class Order(read_models.ReadModel):
    """An order with the prices at the time of placing. `items` is empty and `total` null until it is priced."""

    id: Annotated[UUID, Field(examples=[read_models.UUID_7])]
    status: Annotated[Status, Field(examples=["paid"])]
    items: list[orders.OrderLine]
    total: Annotated[message.Money | None, Field(examples=[read_models.MONEY])]
    refusal: Annotated[Refusal | None, Field(examples=[None])]
    created_at: Annotated[datetime, Field(examples=[read_models.MOMENT])]
