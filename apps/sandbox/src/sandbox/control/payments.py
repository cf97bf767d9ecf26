"""What payers, banks, time and cabinets do to payments and refunds.

An action is answered after its webhooks were attempted once, or after 5 s.
"""

from collections.abc import Sequence

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

from sandbox import json_response, providers, webhooks
from sandbox.control import orders


def add_routes(app: FastAPI, parts: orders.Parts) -> None:
    """Add the routes below /payments, /refunds and /receipts."""
    _add_views(app, parts)
    _add_actions(app, parts)
    _add_refunds(app, parts)


def _add_views(app: FastAPI, parts: orders.Parts) -> None:
    @app.get("/payments")
    async def payments(provider: str | None = None, limit: orders.Limit = 1000) -> Response:
        asked = [one for one in parts.payments if provider in {None, one.name}]
        if not asked:
            raise HTTPException(404, "There is no such provider")
        items = [{"provider": one.name, "payment": shown} for one in asked for shown in one.latest_payments(limit)]
        return json_response.build({"items": items})

    @app.get("/payments/{ref}")
    async def payment(ref: orders.Ref) -> Response:
        holder = providers.find_payments(ref, parts.payments)
        sent = [
            delivery.to_json()
            for delivery in parts.webhook_sender.deliveries_of(holder.payment_page(ref).ref, orders.SENT_SHOWN_MAX)
        ]
        return json_response.build({"provider": holder.name, "payment": holder.payment_json(ref), "sent": sent})


def _add_actions(app: FastAPI, parts: orders.Parts) -> None:
    async def done(ref: str, sent: Sequence[webhooks.Delivery]) -> Response:
        await webhooks.wait_for_attempts(sent, timeout_s=orders.WEBHOOK_WAIT_S_MAX)
        shown = providers.find_payments(ref, parts.payments).payment_json(ref)
        return json_response.build({"payment": shown, "webhooks": len(sent)})

    @app.post("/payments/{ref}/pay")
    async def pay(ref: orders.Ref, order: orders.Payer | None = None) -> Response:
        payer_id = (order or orders.Payer()).user_id
        return await done(ref, providers.find_payments(ref, parts.payments).pay(ref, payer_id))

    @app.post("/payments/{ref}/decline")
    async def decline(ref: orders.Ref, order: orders.Payer | None = None) -> Response:
        payer_id = (order or orders.Payer()).user_id
        return await done(ref, providers.find_payments(ref, parts.payments).decline(ref, payer_id))

    @app.post("/payments/{ref}/expire")
    async def expire(ref: orders.Ref) -> Response:
        return await done(ref, providers.find_payments(ref, parts.payments).expire(ref))

    @app.post("/payments/{ref}/refund")
    async def refund(ref: orders.Ref, order: orders.Refund | None = None) -> Response:
        amount_minor = order.amount_minor if order else None
        return await done(ref, providers.find_payments(ref, parts.payments).refund(ref, amount_minor))

    @app.post("/payments/{ref}/dispute")
    async def dispute(ref: orders.Ref, order: orders.Dispute | None = None) -> Response:
        asked = order or orders.Dispute()
        holder = providers.find_payments(ref, parts.payments)
        return await done(ref, holder.dispute(ref, asked.amount_minor, asked.outcome))


def _add_refunds(app: FastAPI, parts: orders.Parts) -> None:
    @app.post("/refunds")
    async def plan_refunds(order: orders.OutcomePlan) -> orders.Json:
        holder = next((one for one in parts.refunds if one.name == order.provider), None)
        if holder is None:
            raise HTTPException(422, "There is no such provider with refunds")
        holder.plan_refunds(order.outcome, order.count)
        return order.model_dump()

    @app.post("/refunds/{ref}/succeed")
    async def succeed(ref: orders.Ref) -> Response:
        return await decided(ref, "succeeded")

    @app.post("/refunds/{ref}/cancel")
    async def cancel(ref: orders.Ref) -> Response:
        return await decided(ref, "canceled")

    async def decided(ref: str, outcome: str) -> Response:
        holder = next((one for one in parts.refunds if one.has_refund(ref)), None)
        if holder is None:
            raise providers.UnknownPayment("No imitated provider has a refund with this id")
        sent = holder.decide_refund(ref, outcome)
        await webhooks.wait_for_attempts(sent, timeout_s=orders.WEBHOOK_WAIT_S_MAX)
        return json_response.build({"refund": holder.refund_json(ref), "webhooks": len(sent)})

    @app.post("/receipts")
    async def plan_receipts(order: orders.OutcomePlan) -> orders.Json:
        if order.provider != parts.yookassa.name:
            raise HTTPException(422, "There is no such provider with receipts")
        parts.yookassa.plan_receipts(order.outcome, order.count)
        return order.model_dump()
