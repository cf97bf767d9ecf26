"""The parts of the gateway's OpenAPI document that FastAPI can't derive: problems, security schemes, headers."""

from typing import Any

from fastapi import FastAPI

from chassis import problem_document

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The access token that POST /auth/telegram returns."},
    "tma": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`tma <initData>`, as Mini Apps send it.",
    },
}
PERSONAL: dict[str, Any] = {"security": [{"bearer": []}, {"tma": []}]}
"""For a route that requires authentication."""

WRITE: dict[str, Any] = {
    **PERSONAL,
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "Makes repetitions of this request one request; quoted or bare, 1 to 255 characters.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "example": "0198c0de-7000-7000-8000-0000000000f1",
        },
        {
            "name": "Prefer",
            "in": "header",
            "required": False,
            "description": "`wait=N`: the seconds, 0 to 10, to wait for the result before answering 202.",
            "schema": {"type": "string"},
            "example": "wait=5",
        },
    ],
}
"""For a route that is a write."""

BODY = ("413 content_too_large", "415 unsupported_media_type")
"""The problems of a route with a body."""
PERSON = (
    "401 unauthenticated",
    "401 token_invalid",
    "401 token_expired",
    "401 init_data_invalid",
    "401 init_data_expired",
)
"""The problems of a route that requires authentication."""
LIST = ("400 cursor_invalid",)
"""The problems of a list."""
EVERY = ("400 malformed_json", "422 invalid_request", "429 too_many_requests", "503 temporarily_unavailable")
"""The problems of every route."""
KEY = ("400 idempotency_key_required", "400 idempotency_key_invalid", "422 idempotency_key_reused")
"""The problems of a write."""

LIMIT_HEADERS = {
    "X-RateLimit-Limit": "The number of requests of this class per minute; absent without a limit.",
    "X-RateLimit-Remaining": "The number of requests left.",
    "X-RateLimit-Reset": "When the limit is full again, in seconds since 1970.",
}
WAIT_HEADERS = {"Retry-After": "The seconds to wait; they grow with repeated violations."}


def responses(*codes: str) -> problem_document.Responses:
    """Return the problem responses of a route: the given `<status> <code>` and those of every route."""
    return problem_document.responses(*codes, *EVERY)


def describe(app: FastAPI) -> None:
    """Add the security schemes and headers that routes refer to, to the document of an application."""
    components = app.openapi()["components"]
    components["securitySchemes"] = SCHEMES
    for operation in (operation for path in app.openapi()["paths"].values() for operation in path.values()):
        for status, answer in operation["responses"].items():
            headers = LIMIT_HEADERS | (WAIT_HEADERS if status == "429" else {})
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "integer"}} for name, text in headers.items()
            }
