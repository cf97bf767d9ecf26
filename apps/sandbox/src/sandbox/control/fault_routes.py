"""Faults, webhook plans and the clock; the request log; the reset."""

from collections.abc import Sequence
from typing import Annotated

import pydantic
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from sandbox import faults, providers, recording, webhooks
from sandbox.control import schemas

TEN_YEARS_S = 10 * 365 * 86_400


class FaultBody(schemas.Body):
    """A fault to plan."""

    target: str
    route: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)] | None = None
    fault: str
    count: schemas.Count = 1


class WebhookPlanBody(schemas.Body):
    """How webhooks are delivered from now on."""

    plan: str


class ClockBody(schemas.Body):
    """A jump of the virtual clock."""

    advance_s: Annotated[float, pydantic.Field(gt=0, le=TEN_YEARS_S, strict=False, allow_inf_nan=False)]


def add_routes(
    app: FastAPI,
    runtime: providers.Runtime,
    imitated: Sequence[providers.Provider],
    *,
    planned_faults: faults.Faults,
    request_log: recording.RequestLog,
) -> None:
    """Add the routes /faults, /webhooks, /clock, /requests and /reset."""
    _add_faults(app, planned_faults, {provider.api.name for provider in imitated})
    _add_webhooks(app, runtime)

    @app.get("/requests")
    async def list_requests(target: str | None = None, limit: schemas.Limit = 1000) -> schemas.Json:
        return {"items": request_log.latest(target=target, limit=limit)}

    @app.post("/reset", status_code=204)
    async def reset() -> None:
        for part in (runtime.virtual_clock, runtime.webhook_sender, planned_faults, request_log):
            part.reset()
        for provider in imitated:
            provider.api.reset()


def _add_faults(app: FastAPI, planned_faults: faults.Faults, targets: set[str]) -> None:
    @app.post("/faults", status_code=201)
    async def plan_fault(body: FaultBody) -> schemas.Json:
        if body.target not in targets:
            raise HTTPException(422, "There is no such target")
        planned_faults.plan(body.target, faults.Fault.parse(body.fault), route=body.route, count=body.count)
        return body.model_dump(exclude_none=True)

    @app.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        planned_faults.reset()


def _add_webhooks(app: FastAPI, runtime: providers.Runtime) -> None:
    @app.post("/webhooks")
    async def plan_webhooks(body: WebhookPlanBody) -> schemas.Json:
        runtime.webhook_sender.set_plan(webhooks.DeliveryPlan.parse(body.plan))
        return runtime.webhook_sender.statistics()

    @app.get("/webhooks")
    async def get_webhook_statistics() -> schemas.Json:
        return runtime.webhook_sender.statistics()

    @app.post("/clock")
    async def advance(body: ClockBody) -> schemas.Json:
        runtime.virtual_clock.advance(body.advance_s)
        await schemas.wait_for_webhooks(runtime.webhook_sender.due())
        return {"now": runtime.virtual_clock.now().isoformat()}
