"""YooKassa's notifications: their format, delivery plans and retries."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Received = Callable[[int], list[dict[str, Any]]]


def created(shop: httpx.Client, **changes: Any) -> str:
    answer = shop.post(
        "/payments",
        headers={"Idempotence-Key": str(uuid.uuid4())},
        json={"amount": {"value": "1500.00", "currency": "RUB"}, "capture": True} | changes,
    )
    return str(answer.raise_for_status().json()["id"])


def paid(shop: httpx.Client, ctl: httpx.Client) -> str:
    ref = created(shop)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    return ref


def events(webhooks: list[dict[str, Any]]) -> list[str]:
    return [webhook["body"]["event"] for webhook in webhooks]


def test_a_notification_has_three_members_and_the_current_object(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ref = paid(shop, ctl)

    webhook = received(1)[0]

    assert set(webhook["body"]) == {"type", "event", "object"}
    assert webhook["body"]["type"] == "notification"
    assert webhook["body"]["event"] == "payment.succeeded"
    assert webhook["body"]["object"] == shop.get(f"/payments/{ref}").json()
    assert webhook["peer"] == "127.0.0.1"


def test_the_response_to_an_action_comes_after_its_notification(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ref = created(shop)

    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    assert len(received(0)) == 1


def test_every_change_of_state_is_notified_but_not_the_creation(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    def key() -> dict[str, str]:
        return {"Idempotence-Key": str(uuid.uuid4())}

    captured, canceled, declined, expired = (created(shop, capture=False) for _ in range(4))
    for ref in (captured, canceled):
        ctl.post(f"/payments/{ref}/pay").raise_for_status()
    shop.post(f"/payments/{captured}/capture", headers=key()).raise_for_status()
    shop.post(f"/payments/{canceled}/cancel", headers=key()).raise_for_status()
    refund = {"payment_id": captured, "amount": {"value": "1.00", "currency": "RUB"}}
    shop.post("/refunds", headers=key(), json=refund).raise_for_status()
    ctl.post(f"/payments/{declined}/decline").raise_for_status()
    ctl.post(f"/payments/{expired}/expire").raise_for_status()

    webhooks = received(7)

    notified = {
        (webhook["body"]["event"], webhook["body"]["object"].get("payment_id", webhook["body"]["object"]["id"]))
        for webhook in webhooks
    }
    assert notified == {
        ("payment.waiting_for_capture", captured),
        ("payment.waiting_for_capture", canceled),
        ("payment.succeeded", captured),
        ("payment.canceled", canceled),
        ("refund.succeeded", captured),
        ("payment.canceled", declined),
        ("payment.canceled", expired),
    }
    assert len(webhooks) == 7


def test_a_dropped_notification_is_never_sent(shop: httpx.Client, ctl: httpx.Client, received: Received) -> None:
    ctl.post("/webhooks", json={"plan": "drop"}).raise_for_status()

    ref = paid(shop, ctl)
    ctl.post("/clock", json={"advance_s": 86_400}).raise_for_status()

    assert shop.get(f"/payments/{ref}").json()["status"] == "succeeded"
    assert received(0) == []


def test_a_duplicated_notification_is_sent_as_often_as_planned(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ctl.post("/webhooks", json={"plan": "duplicate:10"}).raise_for_status()

    paid(shop, ctl)

    webhooks = received(10)
    assert len(webhooks) == 10
    assert all(webhook["body"] == webhooks[0]["body"] for webhook in webhooks)


def test_a_delayed_notification_is_sent_after_its_delay(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ctl.post("/webhooks", json={"plan": "delay:3600000"}).raise_for_status()

    paid(shop, ctl)
    before = received(0)
    ctl.post("/clock", json={"advance_s": 3601}).raise_for_status()

    assert before == []
    assert len(received(0)) == 1


def test_reordered_notifications_are_swapped_in_pairs(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ctl.post("/webhooks", json={"plan": "reorder"}).raise_for_status()
    ref = created(shop, capture=False)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    before = received(0)

    shop.post(f"/payments/{ref}/capture", headers={"Idempotence-Key": "key-1"}).raise_for_status()

    assert before == []
    assert events(received(2)) == ["payment.succeeded", "payment.waiting_for_capture"]


def test_the_next_plan_releases_a_notification_held_for_reordering(
    shop: httpx.Client, ctl: httpx.Client, received: Received
) -> None:
    ctl.post("/webhooks", json={"plan": "reorder"}).raise_for_status()
    paid(shop, ctl)

    ctl.post("/webhooks", json={"plan": "normal"}).raise_for_status()

    assert events(received(1)) == ["payment.succeeded"]


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
def test_any_status_but_200_is_retried(
    shop: httpx.Client, ctl: httpx.Client, received: Received, answers: list[int], status: int
) -> None:
    answers.append(status)
    paid(shop, ctl)

    ctl.post("/clock", json={"advance_s": 2}).raise_for_status()

    webhooks = received(2)
    assert webhooks[0]["body"] == webhooks[1]["body"]
    assert ctl.get("/webhooks").json() == {
        "plan": "normal",
        "acknowledged": 1,
        "failed_attempts": 1,
        "lost": 0,
        "open": 0,
    }


def test_retries_back_off_and_end_after_a_day(
    shop: httpx.Client, ctl: httpx.Client, received: Received, answers: list[int]
) -> None:
    answers.extend([500] * 100)
    paid(shop, ctl)

    for _ in range(30):
        ctl.post("/clock", json={"advance_s": 3600}).raise_for_status()

    report = ctl.get("/webhooks").json()
    assert (report["open"], report["lost"], report["acknowledged"]) == (0, 1, 0)
    assert 20 <= len(received(0)) <= 40


def test_a_receiver_that_is_down_for_an_hour_gets_every_notification(
    shop: httpx.Client, ctl: httpx.Client, received: Received, answers: list[int]
) -> None:
    answers.extend([503] * 3)
    refs = {paid(shop, ctl) for _ in range(3)}

    ctl.post("/clock", json={"advance_s": 3600}).raise_for_status()

    assert {webhook["body"]["object"]["id"] for webhook in received(6)[3:]} == refs


@pytest.mark.parametrize("plan", ["", "Normal", "duplicate:0", "duplicate:1001", "duplicate:", "delay:-1", "drop:1"])
def test_an_unknown_plan_is_refused_and_changes_nothing(ctl: httpx.Client, plan: str) -> None:
    answer = ctl.post("/webhooks", json={"plan": plan})

    assert answer.status_code == 422
    assert ctl.get("/webhooks").json()["plan"] == "normal"
