"""What the HTTP server itself refuses: each refusal is counted, and logged at most once a second for each reason.

A flood of bad requests must be visible to an operator and must not fill the log.
"""

import json
import time
from collections.abc import Sequence
from http import HTTPStatus

from prometheus_client import Counter

from chassis import envelope, errors, telemetry

LOG_INTERVAL_S = 1.0

REFUSED = Counter("kopilka_http_refused_total", "Requests and connections refused by the server itself.", ["reason"])

# The security headers of every response. TLS ends at a proxy, so Strict-Transport-Security is the proxy's.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_DETAILS = {
    400: ("bad_request", "This is not a valid HTTP request."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("content_too_large", "The body is too large."),
    431: ("request_header_fields_too_large", "The request's headers are too large or too many."),
    503: ("temporarily_unavailable", "Please try again in a moment."),
}
RETRY_AFTER_S = 2

_next_log_at: dict[str, float] = {}
_unlogged: dict[str, int] = {}


def record(reason: str, *, status: int | None, correlation_id: str | None = None) -> None:
    """Count a refusal, and log it unless one with this reason was logged within the last second.

    `status` is None when the connection was closed without a response. The peer's address is personal data and is not
    logged.
    """
    REFUSED.labels(reason).inc()
    now = time.monotonic()
    count = _unlogged.get(reason, 0) + 1
    if now < _next_log_at.get(reason, 0):
        _unlogged[reason] = count
        return
    _next_log_at[reason], _unlogged[reason] = now + LOG_INTERVAL_S, 0
    cause = {"correlation_id": correlation_id} if correlation_id else {}
    telemetry.log.warning("http.refused", reason=reason, status=status, count=count, **cause)


def response(status: int, *, reason: str, default_headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Record a refusal and give its whole response, after which the connection is closed."""
    correlation_id = str(envelope.uuid7())
    record(reason, status=status, correlation_id=correlation_id)
    code, detail = _DETAILS[status]
    phrase = HTTPStatus(status).phrase
    body = json.dumps(
        errors.problem(status=status, code=code, title=phrase, detail=detail, correlation_id=correlation_id)
    ).encode()
    headers = [
        *default_headers,
        *HEADERS,
        (b"cache-control", b"no-store"),
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-correlation-id", correlation_id.encode()),
        (b"connection", b"close"),
        *([(b"retry-after", str(RETRY_AFTER_S).encode())] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
    ]
    lines = [f"HTTP/1.1 {status} {phrase}".encode(), *(name + b": " + value for name, value in headers), b"", body]
    return b"\r\n".join(lines)
