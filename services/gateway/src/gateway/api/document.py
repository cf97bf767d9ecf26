"""The parts of the OpenAPI document that FastAPI can't derive: problems, security schemes, headers."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]

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


class FieldProblem(BaseModel):
    """An invalid field of a request."""

    field: str = Field(examples=["body.amount.amount_minor"])
    message: str = Field(examples=["Input should be greater than 0"])
    code: str = Field(examples=["greater_than"])


class Problem(BaseModel):
    """An error in the form of RFC 9457. Programs rely on `code`, which is stable."""

    type: str = Field(examples=["urn:kopilka:problem:invalid_request"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Some fields are missing or wrong."])
    code: str = Field(examples=["invalid_request"])
    correlation_id: str = Field(examples=["0198c0de-7000-7000-8000-0000000000c1"])
    errors: list[FieldProblem] | None = Field(default=None)


def responses(*codes: str) -> Responses:
    """Return the problem responses of a route: the given `<status> <code>` and those of every route."""
    codes_by_status: dict[int, list[str]] = {}
    for entry in (*codes, *EVERY):
        status, _, code = entry.partition(" ")
        codes_by_status.setdefault(int(status), []).append(code)
    return {status: _documented(status, codes_by_status[status]) for status in sorted(codes_by_status)}


def describe(app: FastAPI) -> None:
    """Add the schemas, security schemes and headers that routes refer to, to the document of an application."""
    components = app.openapi()["components"]
    for model in (FieldProblem, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        components["schemas"][model.__name__] = schema
    components["securitySchemes"] = SCHEMES
    for operation in (operation for path in app.openapi()["paths"].values() for operation in path.values()):
        for status, answer in operation["responses"].items():
            headers = LIMIT_HEADERS | (WAIT_HEADERS if status == "429" else {})
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "integer"}} for name, text in headers.items()
            }


def _documented(status: int, codes: list[str]) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    return {
        "description": f"{phrase}: {', '.join(codes)}",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code: {"value": _example(status, phrase, code)} for code in codes},
            }
        },
    }


def _example(status: int, title: str, code: str) -> dict[str, Any]:
    return {
        "type": f"urn:kopilka:problem:{code}",
        "title": title,
        "status": status,
        "detail": "What happened, for people.",
        "code": code,
        "correlation_id": "0198c0de-7000-7000-8000-0000000000c1",
    }
