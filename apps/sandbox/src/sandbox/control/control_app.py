"""The control plane's app. Wrong input gets a JSON problem."""

import http

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sandbox import faults, json_response, providers, webhooks
from sandbox.control import fault_routes, orders, payments, people
from sandbox.ton import boc


def build(parts: orders.Parts) -> FastAPI:
    """Return the app with all routes, to be mounted at /__ctl."""
    app = FastAPI(title="Sandbox control plane", docs_url=None, redoc_url=None)
    people.add_routes(app, parts)
    payments.add_routes(app, parts)
    fault_routes.add_routes(app, parts)
    for kind in (
        HTTPException,
        RequestValidationError,
        providers.UnknownPayment,
        providers.NotAllowed,
        faults.TooManyFaults,
        faults.UnknownFault,
        webhooks.UnknownPlan,
        boc.InvalidAddress,
    ):
        app.add_exception_handler(kind, _refuse)
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    match error:
        case HTTPException():
            return _problem(error.status_code, error.detail)
        case providers.UnknownPayment():
            return _problem(404, str(error))
        case providers.NotAllowed() | faults.TooManyFaults():
            return _problem(409, str(error))
        case RequestValidationError():
            first = error.errors()[0]
            return _problem(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        case _:
            return _problem(422, str(error))


def _problem(status: int, detail: str) -> Response:
    title = http.HTTPStatus(status).phrase
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": title.lower().replace(" ", "_"),
    }
    return json_response.build(body, status, media_type="application/problem+json")
