"""What goes wrong, and when: faults, the way of webhooks, the clock; and what is remembered of it."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from sandbox import faults, webhooks
from sandbox.control import orders


def add_routes(app: FastAPI, parts: orders.Parts) -> None:
    """Add the routes /faults, /webhooks, /stripe, /clock, /requests and /reset."""
    _add_faults(app, parts)
    _add_webhooks(app, parts)
    _add_memory(app, parts)


def _add_faults(app: FastAPI, parts: orders.Parts) -> None:
    @app.post("/faults", status_code=201)
    async def plan_fault(order: orders.Fault) -> orders.Json:
        if order.target not in {one.name for one in parts.apis}:
            raise HTTPException(422, "There is no such target")
        parts.planned.plan(order.target, faults.Fault.parse(order.fault), route=order.route, count=order.count)
        return order.model_dump(exclude_none=True)

    @app.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        parts.planned.reset()


def _add_webhooks(app: FastAPI, parts: orders.Parts) -> None:
    @app.post("/webhooks")
    async def plan_webhooks(order: orders.WebhookPlan) -> orders.Json:
        parts.webhook_sender.set_plan(webhooks.DeliveryPlan.parse(order.plan))
        return parts.webhook_sender.statistics()

    @app.get("/webhooks")
    async def report_webhooks() -> orders.Json:
        return parts.webhook_sender.statistics()

    @app.post("/stripe/webhook-secrets", status_code=204)
    async def rotate(order: orders.WebhookSecrets) -> None:
        parts.stripe.events.set_secrets(order.secrets)

    @app.post("/clock")
    async def advance(order: orders.Jump) -> orders.Json:
        parts.virtual_clock.advance(order.advance_s)
        await webhooks.wait_for_attempts(parts.webhook_sender.due(), timeout_s=orders.WEBHOOK_WAIT_S_MAX)
        return {"now": parts.virtual_clock.now().isoformat()}


def _add_memory(app: FastAPI, parts: orders.Parts) -> None:
    @app.get("/requests")
    async def requests(target: str | None = None, limit: orders.Limit = 1000) -> orders.Json:
        return {"items": parts.request_log.latest(target=target, limit=limit)}

    @app.post("/reset", status_code=204)
    async def reset() -> None:
        for part in (parts.virtual_clock, parts.webhook_sender, parts.planned, parts.request_log):
            part.reset()
        for api in parts.apis:
            api.reset()
