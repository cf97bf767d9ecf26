"""TON's part of the control app: deposits and their finality."""

from typing import Annotated

import pydantic
from fastapi import FastAPI, Response

from sandbox import json_response
from sandbox.control import schemas
from sandbox.ton import chain

_Address = Annotated[str, pydantic.StringConstraints(max_length=128)]


class JettonBody(schemas.Body):
    """The jetton of a deposit, by its master; a foreign wallet belongs to another jetton."""

    master: _Address
    is_foreign_wallet: bool = False


class DepositBody(schemas.Body):
    """A deposit to an account; `amount` is in nanotons or the jetton's base units."""

    account: _Address
    amount: Annotated[int, pydantic.Field(ge=1, le=10**27)]
    comment: Annotated[str, pydantic.StringConstraints(max_length=1000)] | None = None
    source: _Address | None = None
    is_final: bool = True
    is_bounced: bool = False
    sends_on: bool = False
    jetton: JettonBody | None = None


class TransactionBody(schemas.Body):
    """A transaction, by its hash as in the API."""

    hash: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=128)]


def add_routes(app: FastAPI, imitated_chain: chain.Chain) -> None:
    """Add the routes below /ton."""

    @app.post("/ton/deposits", status_code=201)
    async def deposit(body: DepositBody) -> Response:
        transaction = imitated_chain.deposit(
            **body.model_dump(exclude={"jetton"}),
            jetton_master=body.jetton.master if body.jetton else None,
            is_foreign_wallet=body.jetton.is_foreign_wallet if body.jetton else False,
        )
        return json_response.build(transaction, 201)

    @app.get("/ton/deposits")
    async def list_deposits(account: str | None = None, limit: schemas.Limit = 1000) -> Response:
        return json_response.build({"items": imitated_chain.latest(account, limit)})

    @app.post("/ton/finalize")
    async def finalize(body: TransactionBody) -> Response:
        return json_response.build(imitated_chain.finalize(body.hash))

    @app.post("/ton/invalidate", status_code=204)
    async def invalidate(body: TransactionBody) -> None:
        imitated_chain.invalidate(body.hash)
