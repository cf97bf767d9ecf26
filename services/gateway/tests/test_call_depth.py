"""How many functions of ours lead from a route to its SQL."""

from typing import Any

import httpx
import pytest

from chassis import call_stacks

TOP_UP = {
    "purpose": "top_up",
    "provider": "yookassa",
    "amount": {"amount_minor": 15_000, "currency": "RUB"},
    "return_url": "https://t.me/bot/app",
}
ORDER = {"items": [{"product_id": "sencha", "quantity": 1}], "payment_method": "wallet"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/balance", None), ("GET", "/products", None), ("POST", "/payments", TOP_UP), ("POST", "/orders", ORDER)],
)
async def test_a_route_reaches_each_of_its_statements_in_few_calls(
    client: httpx.AsyncClient, log_in: Any, *, method: str, path: str, body: dict[str, Any] | None
) -> None:
    headers = {**await log_in(client), "Idempotency-Key": "first"}

    with call_stacks.recorded() as stacks:
        answer = await client.request(method, path, headers=headers, json=body)

    assert answer.is_success, answer.text
    assert len(stacks[0]) <= 3, stacks[0]
    assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX, stacks
