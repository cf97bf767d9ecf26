"""Planned faults, seen by a client."""

import uuid
from typing import Any

import httpx
import pytest
import yookassa
from yookassa.domain import exceptions

REQUEST = {"amount": {"value": "1500.00", "currency": "RUB"}, "capture": True}
SHORT_S = 0.3


def plan(ctl: httpx.Client, fault: str, **more: Any) -> None:
    ctl.post("/faults", json={"target": "yookassa", "fault": fault} | more).raise_for_status()


def create(shop: httpx.Client, key: str = "key-1", **more: Any) -> httpx.Response:
    return shop.post("/payments", headers={"Idempotence-Key": key}, json=REQUEST, **more)


def count(ctl: httpx.Client) -> int:
    return len(ctl.get("/payments", params={"provider": "yookassa"}).json()["items"])


def test_a_timeout_before_executes_nothing(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "timeout_before")

    with pytest.raises(httpx.ReadTimeout):
        create(shop, timeout=SHORT_S)

    assert count(ctl) == 0


def test_a_timeout_after_the_commit_is_resolved_by_the_same_key(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "timeout_after_commit")
    with pytest.raises(httpx.ReadTimeout):
        create(shop, timeout=SHORT_S)

    again = create(shop)

    listed = ctl.get("/payments").json()["items"]
    assert [item["payment"]["id"] for item in listed] == [again.json()["id"]]


def test_a_dropped_connection_has_no_response(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "drop")

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        create(shop)

    assert count(ctl) == 0
    assert create(shop).status_code == 200


def test_an_error_status_has_the_providers_body(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "http:500")

    with pytest.raises(exceptions.InternalServerError) as failure:
        yookassa.Payment.create(REQUEST)

    assert failure.value.content["code"] == "internal_server_error"
    assert count(ctl) == 0


def test_too_many_requests_has_the_retry_time_in_milliseconds(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "http:429:3")

    with pytest.raises(exceptions.TooManyRequestsError) as failure:
        yookassa.Payment.create(REQUEST)

    assert failure.value.content["code"] == "too_many_requests"
    assert failure.value.content["retry_after"] == 3000


def test_an_error_after_the_commit_hides_the_success(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "http_after_commit:500")

    failed = create(shop)
    again = create(shop)

    listed = ctl.get("/payments").json()["items"]
    assert failed.status_code == 500
    assert [item["payment"]["id"] for item in listed] == [again.json()["id"]]


def test_a_slow_response_is_complete(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "slow:400", count=2)

    with pytest.raises(httpx.ReadTimeout):
        create(shop, timeout=0.1)
    answer = create(shop)

    assert answer.status_code == 200


def test_a_fault_applies_to_its_route_as_often_as_planned(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "http:500", route="POST /payments", count=2)
    plan(ctl, "http:503", route="/payments/*/capture")

    listed = shop.get("/payments")
    created = [create(shop, str(uuid.uuid4())).status_code for _ in range(3)]
    captured = shop.post("/payments/x/capture", headers={"Idempotence-Key": "key-2"})

    assert listed.status_code == 200
    assert created == [500, 500, 200]
    assert captured.status_code == 503


def test_cleared_faults_do_not_happen(ctl: httpx.Client, shop: httpx.Client) -> None:
    plan(ctl, "http:500", count=1000)

    ctl.delete("/faults").raise_for_status()

    assert create(shop).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"target": "nobody", "fault": "drop"},
        {"target": "yookassa", "fault": "explode"},
        {"target": "yookassa", "fault": "http:200"},
        {"target": "yookassa", "fault": "http:600"},
        {"target": "yookassa", "fault": "http_after_commit"},
        {"target": "yookassa", "fault": "slow:60001"},
        {"target": "yookassa", "fault": "slow:"},
        {"target": "yookassa", "fault": "drop", "count": 0},
        {"target": "yookassa", "fault": "drop", "route": ""},
        {"target": "yookassa"},
    ],
)
def test_an_invalid_fault_is_refused(ctl: httpx.Client, body: dict[str, Any]) -> None:
    answer = ctl.post("/faults", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_number_of_planned_faults_is_limited(ctl: httpx.Client) -> None:
    answers = [ctl.post("/faults", json={"target": "telegram", "fault": "drop"}).status_code for _ in range(1001)]

    assert set(answers[:-1]) == {201}
    assert answers[-1] == 409
