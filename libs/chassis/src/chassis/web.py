"""The HTTP server of a process: correlation ids, body limit, a problem for every error, metrics and health.

No request ends as a 500 because of what the client sent, and no response shows an internal detail.
"""

import re
import time
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import database, envelope, errors, health, telemetry

BODY_MAX_BYTES = 256 * 1024
RETRY_AFTER_S = 2
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The phrases of HTTPStatus change between versions of Python; codes never may.
CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    411: "length_required",
    413: "content_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}
_CORRELATION_ID = re.compile(r"^[A-Za-z0-9._:-]{8,128}$")
_TRACEPARENT = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")


def create(title: str, checks: health.Health, *, description: str = "") -> FastAPI:
    """Build the application of one process with health and metrics; the service adds its routes."""
    app = FastAPI(title=title, description=description, version="1")
    app.add_middleware(Correlation)
    app.add_exception_handler(errors.Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)

    @app.get("/health", include_in_schema=False)
    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        report = await checks.report()
        return JSONResponse(report, status_code=200 if report["status"] == "ready" else 503)

    @app.get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


class Correlation:
    """ASGI middleware that gives each request a correlation id and a trace, limits its body and measures it."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with its cause set."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given, trace = headers.get(b"x-correlation-id", ""), headers.get(b"traceparent", "")
        correlation_id = given if _CORRELATION_ID.match(given) else str(envelope.uuid7())
        scope.setdefault("state", {})["correlation_id"] = correlation_id
        status: int | None = None
        received_bytes = 0
        started = time.perf_counter()

        async def receive_within_limit() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > BODY_MAX_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-correlation-id", correlation_id.encode()),
                ]
            await send(message)

        traceparent = trace if _TRACEPARENT.match(trace) else telemetry.new_traceparent()
        with envelope.caused_by(envelope.Cause(correlation_id, None, traceparent)):
            try:
                await self._app(scope, receive_within_limit, send_with_id)
            except Exception as error:
                # A response that has begun can't be replaced; the server then closes the connection.
                if status is not None:
                    raise
                await _failure(Request(scope), error)(scope, receive, send_with_id)
            finally:
                route = getattr(scope.get("route"), "path", "unknown")
                method = scope["method"] if scope["method"] in METHODS else "other"
                telemetry.REQUESTS.labels(method, route, str(status)).observe(time.perf_counter() - started)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.Refusal)
    return answer(request, error.status, error.code, error.detail, **error.fields)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"], "code": item["type"]}
        for item in error.errors()[:20]
    ]
    if any(item["type"] == "json_invalid" for item in error.errors()):
        return answer(request, 400, "malformed_json", "The body is not valid JSON.", errors=problems)
    return answer(request, 422, "invalid_request", "Some fields are missing or wrong.", errors=problems)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    response = answer(
        request,
        error.status_code,
        CODES.get(error.status_code, "http_error"),
        HTTPStatus(error.status_code).description or error.detail,
    )
    response.headers.update(error.headers or {})
    return response


def _failure(request: Request, error: Exception) -> JSONResponse:
    if database.is_outage(error):
        telemetry.log.warning("http.unavailable", route=request.url.path, error=type(error).__name__)
        response = answer(request, 503, "temporarily_unavailable", "Please try again in a moment.")
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response
    telemetry.log.error("http.failed", error=type(error).__name__, exc_info=error)
    return answer(request, 500, "internal_error", "This is our fault and has been recorded.")


def answer(request: Request, status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """Build a problem+json response with a stable code."""
    body = errors.problem(
        status=status,
        code=code,
        title=HTTPStatus(status).phrase,
        detail=detail,
        correlation_id=request.state.correlation_id,
        **extra,
    )
    return JSONResponse(body, status_code=status, media_type="application/problem+json")
