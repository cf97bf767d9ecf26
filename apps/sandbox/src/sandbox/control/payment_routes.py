"""The actions of payers, banks, time and dashboards on the payments and refunds of every provider.

The response to an action comes after its webhooks were attempted once, or after 5 s.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import pydantic
from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

from sandbox import errors, json_response, providers, webhooks
from sandbox.control import schemas

# How many webhooks are returned with a payment.
SENT_MAX = 100

_UserId = Annotated[int, pydantic.Field(ge=1, le=2**52)]
_Minor = Annotated[int, pydantic.Field(ge=1, le=10**14)]


class PayerBody(schemas.Body):
    """Who pays; only Telegram uses it."""

    user_id: _UserId = providers.PAYER_ID_DEFAULT


class RefundBody(schemas.Body):
    """A refund in the dashboard; without an amount, of all that is left."""

    amount_minor: _Minor | None = None


class DisputeBody(schemas.Body):
    """A new dispute, of everything if there is no amount, or the decision of the open one."""

    amount_minor: _Minor | None = None
    outcome: Literal["open", "won", "lost"] = "open"


class RefundPlanBody(schemas.Body):
    """The outcome of the next refunds of a provider."""

    provider: str
    outcome: Literal["succeeded", "pending", "canceled"]
    count: schemas.Count = 1


def add_routes(app: FastAPI, runtime: providers.Runtime, imitated: Sequence[providers.Provider]) -> None:
    """Add the routes below /payments and /refunds."""
    payments = [provider.payments for provider in imitated if provider.payments is not None]
    _add_queries(app, payments, runtime.webhook_sender)
    _add_actions(app, payments)
    _add_refunds(app, [provider.refunds for provider in imitated if provider.refunds is not None])


def _add_queries(app: FastAPI, payments: Sequence[providers.Payments], webhook_sender: webhooks.WebhookSender) -> None:
    @app.get("/payments")
    async def list_payments(provider: str | None = None, limit: schemas.Limit = 1000) -> Response:
        selected = [one for one in payments if provider in {None, one.name}]
        if not selected:
            raise HTTPException(404, "There is no such provider")
        items = [{"provider": one.name, "payment": item} for one in selected for item in one.latest_payments(limit)]
        return json_response.build({"items": items})

    @app.get("/payments/{ref}")
    async def get_payment(ref: schemas.Ref) -> Response:
        found = providers.find_payments(ref, payments)
        deliveries = webhook_sender.deliveries_of(found.payment_page(ref).ref, SENT_MAX)
        sent = [delivery.to_json() for delivery in deliveries]
        return json_response.build({"provider": found.name, "payment": found.payment_json(ref), "sent": sent})


def _add_actions(app: FastAPI, payments: Sequence[providers.Payments]) -> None:
    def find(ref: str) -> providers.Payments:
        return providers.find_payments(ref, payments)

    async def respond(ref: str, sent: Sequence[webhooks.Delivery]) -> Response:
        await schemas.wait_for_webhooks(sent)
        return json_response.build({"payment": find(ref).payment_json(ref), "webhooks": len(sent)})

    @app.post("/payments/{ref}/pay")
    async def pay(ref: schemas.Ref, body: PayerBody | None = None) -> Response:
        return await respond(ref, find(ref).pay(ref, (body or PayerBody()).user_id))

    @app.post("/payments/{ref}/decline")
    async def decline(ref: schemas.Ref, body: PayerBody | None = None) -> Response:
        return await respond(ref, find(ref).decline(ref, (body or PayerBody()).user_id))

    @app.post("/payments/{ref}/expire")
    async def expire(ref: schemas.Ref) -> Response:
        return await respond(ref, find(ref).expire(ref))

    @app.post("/payments/{ref}/refund")
    async def refund(ref: schemas.Ref, body: RefundBody | None = None) -> Response:
        return await respond(ref, find(ref).refund(ref, (body or RefundBody()).amount_minor))

    @app.post("/payments/{ref}/dispute")
    async def dispute(ref: schemas.Ref, body: DisputeBody | None = None) -> Response:
        requested = body or DisputeBody()
        return await respond(ref, find(ref).dispute(ref, requested.amount_minor, requested.outcome))


def _add_refunds(app: FastAPI, refunds: Sequence[providers.Refunds]) -> None:
    @app.post("/refunds")
    async def plan_refunds(body: RefundPlanBody) -> schemas.Json:
        planned = next((one for one in refunds if one.name == body.provider), None)
        if planned is None:
            raise HTTPException(422, "There is no such provider with refunds")
        planned.plan_refunds(body.outcome, body.count)
        return body.model_dump()

    @app.post("/refunds/{ref}/succeed")
    async def succeed(ref: schemas.Ref) -> Response:
        return await decide(ref, "succeeded")

    @app.post("/refunds/{ref}/cancel")
    async def cancel(ref: schemas.Ref) -> Response:
        return await decide(ref, "canceled")

    async def decide(ref: str, outcome: str) -> Response:
        found = next((one for one in refunds if one.has_refund(ref)), None)
        if found is None:
            raise errors.UnknownPayment("No imitated provider has a refund with this id")
        sent = found.decide_refund(ref, outcome)
        await schemas.wait_for_webhooks(sent)
        return json_response.build({"refund": found.refund_json(ref), "webhooks": len(sent)})
