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
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import (
    database,
    envelope,
    errors,
    health,
    http_refusals,
    http_server,
    problem_document,
    strict_json,
    telemetry,
)

BODY_MAX_BYTES = 256 * 1024
REQUESTS_MAX = 1_000
RETRY_AFTER_S = http_refusals.RETRY_AFTER_S
CLIENT_CLOSED_REQUEST = 499  # in metrics only: the client went away before its request was whole
OPERATOR_PATHS = frozenset({"/metrics", "/health/ready"})
DOCUMENT_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_INNER_PATHS = ("/health", *OPERATOR_PATHS, *DOCUMENT_PATHS)
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


def create(
    title: str,
    checks: health.Health,
    *,
    description: str = "",
    inner_port: int | None = None,
    has_public_docs: bool = True,
    requests_max: int = REQUESTS_MAX,
) -> FastAPI:
    """Build the application of one process with health and metrics; the service adds its routes.

    With an `inner_port` what is for operators is found there alone, and nothing else is.
    """
    # A redirect to the path with or without a slash would be built from the Host header that the client sends, and
    # providers follow no redirect of a POST.
    app = problem_document.Application(title=title, description=description, version="1", redirect_slashes=False)
    app.router.route_class = strict_json.Route
    app.add_middleware(Correlation, requests_max=requests_max)
    app.user_middleware.append(Middleware(Ports, inner_port=inner_port, has_public_docs=has_public_docs))
    app.add_exception_handler(errors.Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)

    @app.get("/health", include_in_schema=False)
    @app.get("/health/ready", include_in_schema=False)
    async def ready(request: Request) -> JSONResponse:
        report = await checks.report()
        status = 200 if report["status"] == "ready" else 503
        has_details = inner_port is None or request.url.path in OPERATOR_PATHS
        return JSONResponse(report if has_details else {"status": report["status"]}, status_code=status)

    @app.get(http_server.LIVE_PATH, include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


class Correlation:
    """ASGI middleware around each request: its correlation id and trace, its limits, its measurement.

    Above `requests_max` requests at once it answers 503, except for liveness: a restart would make an overload worse.
    """

    def __init__(self, app: ASGIApp, *, requests_max: int = REQUESTS_MAX) -> None:
        """Wrap the application."""
        self._app = app
        self._requests = 0
        self._requests_max = requests_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with its cause set."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        is_refused = self._requests >= self._requests_max and scope["path"] != http_server.LIVE_PATH
        self._requests += 1
        try:
            with envelope.caused_by(exchange.cause):
                await exchange.run(_overloaded if is_refused else self._app)
        finally:
            self._requests -= 1


class _Exchange:
    """One request and its response, as the middleware sees them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given, trace = headers.get(b"x-correlation-id", ""), headers.get(b"traceparent", "")
        self._correlation_id = given if _CORRELATION_ID.match(given) else str(envelope.uuid7())
        traceparent = trace if _TRACEPARENT.match(trace) else telemetry.new_traceparent()
        self.cause = envelope.Cause(self._correlation_id, None, traceparent)
        # The server looks into its own scope, to leave out the body of a response to HEAD.
        self._scope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        self._scope.setdefault("state", {})["correlation_id"] = self._correlation_id
        self._method = scope["method"]
        self._receive, self._send = receive, send
        self._status: int | None = None
        self._received_bytes = 0
        self._is_whole = self._is_gone = False

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer, and measure how long that takes."""
        started = time.perf_counter()
        try:
            await app(self._scope, self._receive_within_limit, self._send_with_headers)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            # A response that has begun can't be replaced; the server then closes the connection.
            if self._status is not None:
                raise
            failure = _failure(Request(self._scope), error)
            await failure(self._scope, self._receive_within_limit, self._send_with_headers)
        finally:
            route = getattr(self._scope.get("route"), "path", "unknown")
            method = self._method if self._method in METHODS else "other"
            status = CLIENT_CLOSED_REQUEST if self._is_gone else self._status
            telemetry.REQUESTS.labels(method, route, str(status)).observe(time.perf_counter() - started)

    async def _receive_within_limit(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._is_whole:
            self._is_gone = True
            raise ClientDisconnect
        self._is_whole = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > BODY_MAX_BYTES:
            http_refusals.record("body_too_large", status=413, correlation_id=self._correlation_id)
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", []))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            correlation_id = (b"x-correlation-id", self._correlation_id.encode())
            message = {**message, "headers": [*headers, *http_refusals.HEADERS, correlation_id]}
        elif self._method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)


class Ports:
    """ASGI middleware that shows operators' paths on the inner port alone, when there is one."""

    def __init__(self, app: ASGIApp, *, inner_port: int | None, has_public_docs: bool) -> None:
        """Wrap the application."""
        self._app = app
        self._inner_port = inner_port
        inner = OPERATOR_PATHS if inner_port is not None else frozenset()
        self._inner_only = inner if has_public_docs else inner | DOCUMENT_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that came by the right port; to others the path is unknown."""
        if scope["type"] == "http":
            path, port = scope["path"], (scope.get("server") or (None, None))[1]
            is_inner = self._inner_port is not None and port == self._inner_port
            if path in self._inner_only if not is_inner else not path.startswith(_INNER_PATHS):
                response = answer(Request(scope), 404, "not_found", HTTPStatus.NOT_FOUND.description)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    http_refusals.record("too_many_requests", status=503, correlation_id=request.state.correlation_id)
    response = answer(request, 503, "temporarily_unavailable", "Please try again in a moment.")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    await response(scope, receive, send)


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
