"""The control app: the routes that work for every provider, and those that the providers bring.

Invalid input gets a problem in JSON.
"""

import http
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sandbox import errors, faults, json_response, providers, recording
from sandbox.control import fault_routes, payment_routes


def build(
    runtime: providers.Runtime,
    imitated: Sequence[providers.Provider],
    *,
    planned_faults: faults.Faults,
    request_log: recording.RequestLog,
) -> FastAPI:
    """Build the app with all routes, to be mounted at /__ctl."""
    app = FastAPI(title="Sandbox control API", docs_url=None, redoc_url=None)
    for provider in imitated:
        provider.add_control_routes(app)
    payment_routes.add_routes(app, runtime, imitated)
    fault_routes.add_routes(app, runtime, imitated, planned_faults=planned_faults, request_log=request_log)
    for kind in (HTTPException, RequestValidationError, errors.ControlError):
        app.add_exception_handler(kind, _handle_error)
    return app


async def _handle_error(_request: Request, error: Exception) -> Response:
    match error:
        case HTTPException():
            return _problem(error.status_code, error.detail)
        case RequestValidationError():
            first = error.errors()[0]
            return _problem(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        case errors.ControlError():
            return _problem(error.status, str(error))
    raise error


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
