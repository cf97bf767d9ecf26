"""YooKassa's errors: credentials, keys, bodies, queries and routes."""

import uuid
from typing import Any

import httpx
import pytest
import yookassa
from yookassa.domain import exceptions

pytestmark = pytest.mark.usefixtures("shop")


def payment_request(**changes: Any) -> dict[str, Any]:
    return {
        "amount": {"value": "1500.00", "currency": "RUB"},
        "confirmation": {"type": "redirect", "return_url": "https://shop.example/back"},
        "capture": True,
        "description": "Top-up 1",
        "metadata": {"payment_id": "p-1"},
    } | changes


def post(shop: httpx.Client, path: str, **request: Any) -> httpx.Response:
    headers = {"Idempotence-Key": str(uuid.uuid4()), "Content-Type": "application/json"} | request.pop("headers", {})
    return shop.post(path, headers=headers, **request)


def test_wrong_credentials_are_refused(sandbox_url: str) -> None:
    yookassa.Configuration.configure("demo-shop", "wrong", api_url=f"{sandbox_url}/yookassa/v3")

    with pytest.raises(exceptions.UnauthorizedError) as refusal:
        yookassa.Payment.create(payment_request())

    assert refusal.value.content["code"] == "invalid_credentials"


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Bearer demo-shop:demo-secret", "Basic ZGVtbw=="])
def test_any_other_authorization_is_refused(sandbox_url: str, header: str) -> None:
    answer = httpx.get(f"{sandbox_url}/yookassa/v3/payments", headers={"Authorization": header})

    assert answer.status_code == 401


def test_an_unknown_payment_is_not_found() -> None:
    with pytest.raises(exceptions.NotFoundError) as refusal:
        yookassa.Payment.find_one(str(uuid.uuid4()))

    assert refusal.value.content["code"] == "not_found"


@pytest.mark.parametrize("key", ["", "a b", "k" * 65, "ключ".encode().decode("latin-1")])
def test_a_missing_or_malformed_key_is_refused(shop: httpx.Client, key: str) -> None:
    answer = post(shop, "/payments", json=payment_request(), headers={"Idempotence-Key": key.encode("latin-1")})

    assert (answer.status_code, answer.json()["parameter"]) == (400, "Idempotence-Key")


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"amount": None}, "amount"),
        ({"amount": {"value": 100, "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "100", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "0.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "-1.00", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "1.00\n", "currency": "RUB"}}, "amount.value"),
        ({"amount": {"value": "100.00", "currency": "XTR"}}, "amount.currency"),
        ({"capture": "yes"}, "capture"),
        ({"confirmation": {"type": "redirect"}}, "confirmation"),
        ({"confirmation": {"type": "pigeon"}}, "confirmation.type"),
        ({"confirmation": {"type": "redirect", "return_url": "http://["}}, "confirmation.return_url"),
        ({"confirmation": {"type": "redirect", "return_url": "x" * 2049}}, "confirmation.return_url"),
        ({"description": "x" * 129}, "description"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 33: "x"}}, "metadata." + "k" * 33),
        ({"metadata": {"key": "x" * 513}}, "metadata.key"),
        ({"metadata": {"key": 1}}, "metadata.key"),
        ({"payment_method_id": "22d6d597-000f-5000-9000-145f6df21d6f"}, "payment_method_id"),
    ],
)
def test_an_invalid_body_is_refused_with_the_parameter(
    ctl: httpx.Client, shop: httpx.Client, changes: dict[str, Any], parameter: str
) -> None:
    answer = post(shop, "/payments", json=payment_request(**changes))

    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["parameter"] == parameter
    assert ctl.get("/payments").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"amount": NaN}',
        b'{"description": "\\ud800"}',
        b'{"amount": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("path", ["/payments", "/refunds"])
def test_a_malformed_body_is_refused(shop: httpx.Client, path: str, body: bytes) -> None:
    answer = post(shop, path, content=body)

    assert answer.status_code == 400
    assert answer.json()["type"] == "error"


def test_a_body_of_another_type_or_size_is_refused(shop: httpx.Client) -> None:
    form = post(shop, "/payments", content=b"amount=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    huge = post(shop, "/payments", content=b" " * (1024 * 1024 + 1))

    assert (form.status_code, form.json()["type"]) == (415, "error")
    assert (huge.status_code, huge.json()["type"]) == (413, "error")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=%D9%A1",
        "limit=1&limit=2",
        "cursor=x",
        "created_at.gte=yesterday",
        "created_at=2026-01-01",
        "colour=red",
    ],
)
def test_a_malformed_list_query_is_refused(shop: httpx.Client, query: str) -> None:
    answer = shop.get(f"/payments?{query}")

    assert (answer.status_code, answer.json()["type"]) == (400, "error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/payments", 405),
        ("GET", "/payments/a/b/c", 404),
        ("GET", "/payments/", 404),
    ],
)
def test_an_unknown_route_or_method_gets_the_providers_error(
    shop: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = shop.request(method, path)

    assert (answer.status_code, answer.json()["type"]) == (status, "error")
