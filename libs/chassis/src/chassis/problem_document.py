"""Problems in OpenAPI documents: the schema of problem+json, and the responses of a route by status and code."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]


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
    """Return the problem responses of a route for `<status> <code>` each."""
    codes_by_status: dict[int, list[str]] = {}
    for entry in codes:
        status, _, code = entry.partition(" ")
        codes_by_status.setdefault(int(status), []).append(code)
    return {status: _documented(status, codes_by_status[status]) for status in sorted(codes_by_status)}


class Application(FastAPI):
    """An application whose OpenAPI document has the schema of problems."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            _leave_out_the_frameworks_own_error(document)
            for model in (FieldProblem, Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
        return super().openapi()


def _leave_out_the_frameworks_own_error(document: dict[str, Any]) -> None:
    """Remove what FastAPI adds for wrong fields: such a response is a problem here, where it can occur at all."""
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


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
