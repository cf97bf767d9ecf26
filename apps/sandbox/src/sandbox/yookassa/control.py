"""YooKassa's part of the control app: the outcome of fiscal receipts."""

from typing import Literal

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from sandbox.control import schemas
from sandbox.yookassa import shop


class ReceiptPlanBody(schemas.Body):
    """The outcome of the next receipts."""

    provider: str
    outcome: Literal["succeeded", "pending", "canceled"]
    count: schemas.Count = 1


def add_routes(app: FastAPI, imitated_shop: shop.Shop) -> None:
    """Add the route /receipts."""

    @app.post("/receipts")
    async def plan_receipts(body: ReceiptPlanBody) -> schemas.Json:
        if body.provider != imitated_shop.name:
            raise HTTPException(422, "There is no such provider with receipts")
        imitated_shop.plan_receipts(body.outcome, body.count)
        return body.model_dump()
