"""Requests made of the OpenAPI documents, and bodies changed beyond them, get documented answers and never a 5xx."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fuzzing
import httpx
import mutations
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from demo import clients, stack

OF_EACH_OPERATION = 5
BEYOND_THE_SCHEMA = 25
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
BODIES = {
    "/api/v1/auth/telegram": {"init_data": "query_id=1&hash=2"},
    "/api/v1/payments": {
        "purpose": "top_up",
        "amount": {"amount_minor": 50_000, "currency": "RUB"},
        "provider": "yookassa",
        "return_url": "https://t.me/demo_shop_bot/app",
    },
    "/api/v1/orders": {"items": [{"product_id": "clay-cup", "quantity": 1}], "payment_method": "wallet"},
}
Posted = tuple[str, tuple[mutations.Change, ...]]
# oobabooga/textgen#7658
KNOWN: list[Posted] = [
    ("/api/v1/payments", (mutations.Change(("amount", "amount_minor"), "a number of 5,000 digits"),)),
    ("/api/v1/payments", (mutations.Change(None, "120,000 arrays"),)),
    ("/api/v1/payments", (mutations.Change(None, "a latin-1 byte"),)),
    ("/api/v1/payments", (mutations.Change(("amount", "amount_minor"), mutations.DOUBLED),)),
]


@pytest.fixture
async def token(customer: clients.Customer) -> str:
    return customer._token


@pytest.fixture
def documents(where: stack.Stack) -> dict[str, dict[str, Any]]:
    """The OpenAPI document of each API, by its address."""
    return {
        url: httpx.get(f"{url}/openapi.json").raise_for_status().json()
        for url in (where.gateway_url, where.payments_url)
    }


def require_problem(document: dict[str, Any], route: str, method: str, answer: Any) -> None:
    """Require that an error is a problem document whose code the route documents."""
    problem = json.loads(answer.content)
    documented = document["paths"][route][method]["responses"].get(str(answer.status_code), {})
    codes = documented.get("content", {}).get("application/problem+json", {}).get("examples", {})
    assert answer.status_code < 500, problem
    assert problem["status"] == answer.status_code
    assert problem["code"] in codes, f"{answer.status_code} {problem['code']} is not documented: {list(codes)}"
    assert problem["type"] == f"urn:kopilka:problem:{problem['code']}"
    assert problem["correlation_id"]


def operations(schema: OpenApiSchema) -> Iterator[Any]:
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        yield result.ok()


def test_requests_that_keep_or_break_the_schema_get_documented_answers(
    token: str, documents: dict[str, dict[str, Any]]
) -> None:
    def checking(url: str, document: dict[str, Any], operation: Any) -> Callable[[Any], None]:
        def check(case: Any) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            answer = case.call(base_url=url, headers=headers, timeout=30)
            case.validate_response(answer, checks=CHECKS, headers=headers)
            if answer.status_code >= 400:
                require_problem(document, operation.path, operation.method, answer)

        return check

    for url, document in documents.items():
        found = [
            (operation, mode)
            for operation in operations(schemathesis.openapi.from_dict(document))
            for mode in schemathesis.GenerationMode
            # Where there is no body, nothing breaks the schema.
            if mode.is_positive or "requestBody" in document["paths"][operation.path][operation.method]
        ]
        for operation, mode in found:
            fuzzing.run(
                checking(url, document, operation),
                operation.as_strategy(generation_mode=mode),
                examples=OF_EACH_OPERATION,
                runs=len(found) * len(documents),
            )


def test_bodies_beyond_the_schema_are_problems_with_documented_codes(
    token: str, documents: dict[str, dict[str, Any]], where: stack.Stack
) -> None:
    with httpx.Client(base_url=where.gateway_url, timeout=30) as http:

        def check(posted: Posted) -> None:
            route, changes = posted
            body = mutations.body_of(BODIES[route], changes)
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": str(uuid.uuid4()),
            }
            answer = http.post(route, content=body, headers=headers)
            if answer.status_code >= 400:
                require_problem(documents[where.gateway_url], route, "post", answer)

        routes = strategies.sampled_from(sorted(BODIES))
        bodies = routes.flatmap(lambda route: mutations.changes_of(BODIES[route]).map(lambda changes: (route, changes)))
        fuzzing.run(check, bodies, examples=BEYOND_THE_SCHEMA, known=KNOWN)
