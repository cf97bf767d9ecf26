"""The payment as clients read it."""

from datetime import datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

from pydantic import Field

from contracts import message, payments
from gateway.domain import read_models

Status = Literal["created", "pending", "authorized", "paid", "partially_refunded", "refunded", "failed", "canceled"]


class Payment(read_models.ReadModel):
    """A payment into the wallet. It is `created` until the provider has answered, then `pending` until it is settled.

    While the payer's money is authorized and not captured it is `authorized`.
    """

    id: Annotated[UUID, Field(examples=[read_models.UUID_7])]
    status: Annotated[Status, Field(examples=["pending"])]
    purpose: Annotated[str, Field(examples=["top_up"])]
    amount: Annotated[message.Money, Field(examples=[read_models.MONEY])]
    paid_minor: Annotated[
        int | None,
        Field(
            description="The captured amount, which may be less than the requested one; null until then.",
            examples=[None],
        ),
    ]
    refunded_minor: Annotated[int, Field(description="The refunded amount so far.", examples=[0])]
    provider: Annotated[str, Field(examples=["yookassa"])]
    confirmation_url: Annotated[
        str | None,
        Field(description="Where the payer continues.", examples=["https://yoomoney.ru/checkout/payments/v2/contract"]),
    ]
    expires_at: Annotated[datetime | None, Field(examples=[read_models.MOMENT])]
    failure_code: Annotated[
        str | None, Field(description="The provider's code, or ours, of a creation that was refused.", examples=[None])
    ]
    failure_reason: Annotated[
        str | None,
        Field(
            description="Why the payment failed or was canceled, to be shown to the payer: "
            f"{', '.join(get_args(payments.FailureReason))}. Show one that you do not know as `declined`.",
            examples=[None],
        ),
    ]
    created_at: Annotated[datetime, Field(examples=[read_models.MOMENT])]
