"""YooKassa's pending and canceled refunds, receipts (54-FZ) and fees."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yookassa
from yookassa.domain import exceptions

pytestmark = pytest.mark.usefixtures("shop")

Received = Callable[[int], list[dict[str, Any]]]


def money(value: str) -> dict[str, str]:
    return {"value": value, "currency": "RUB"}


def receipt(*prices: str, **changes: Any) -> dict[str, Any]:
    items = [
        {
            "description": "Tea",
            "quantity": "1.00",
            "amount": money(price),
            "vat_code": 1,
            "payment_mode": "full_payment",
        }
        for price in prices
    ]
    return {"customer": {"email": "payer@shop.example"}, "items": items} | changes


def paid(ctl: httpx.Client, **changes: Any) -> str:
    ref = str(yookassa.Payment.create({"amount": money("100.00"), "capture": True} | changes).id)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    return ref


def refund(ref: str, value: str, **changes: Any) -> Any:
    return yookassa.Refund.create({"payment_id": ref, "amount": money(value)} | changes)


def plan(ctl: httpx.Client, outcome: str, kind: str = "refunds", count: int = 1) -> None:
    ctl.post(f"/{kind}", json={"provider": "yookassa", "outcome": outcome, "count": count}).raise_for_status()


def test_a_pending_refund_reserves_its_amount_until_it_succeeds(ctl: httpx.Client, received: Received) -> None:
    ref = paid(ctl)
    plan(ctl, "pending")
    pending = refund(ref, "60.00")
    with pytest.raises(exceptions.BadRequestError):
        refund(ref, "50.00")
    before = yookassa.Payment.find_one(ref)

    answer = ctl.post(f"/refunds/{pending.id}/succeed").raise_for_status().json()

    after = yookassa.Payment.find_one(ref)
    assert (pending.status, answer["refund"]["status"], answer["webhooks"]) == ("pending", "succeeded", 1)
    assert (str(before.refunded_amount.value), str(after.refunded_amount.value)) == ("0.00", "60.00")
    assert [one["body"]["event"] for one in received(2)] == ["payment.succeeded", "refund.succeeded"]


def test_a_canceled_refund_releases_its_amount_without_a_notification(ctl: httpx.Client, received: Received) -> None:
    ref = paid(ctl)
    plan(ctl, "pending")
    pending = refund(ref, "60.00")

    ctl.post(f"/refunds/{pending.id}/cancel").raise_for_status()

    canceled = yookassa.Refund.find_one(pending.id)
    assert canceled.status == "canceled"
    assert canceled.cancellation_details.reason == "general_decline"
    assert refund(ref, "100.00").status == "succeeded"
    assert [one["body"]["event"] for one in received(2)] == ["payment.succeeded", "refund.succeeded"]


def test_refunds_are_canceled_as_often_as_planned(ctl: httpx.Client) -> None:
    ref = paid(ctl)
    plan(ctl, "canceled", count=2)

    statuses = [refund(ref, "30.00").status for _ in range(3)]

    assert statuses == ["canceled", "canceled", "succeeded"]
    listed = yookassa.Refund.list({"payment_id": ref, "status": "canceled"})
    assert len(listed.items) == 2


def test_a_decided_refund_cannot_be_changed(ctl: httpx.Client) -> None:
    decided = refund(paid(ctl), "30.00")

    assert ctl.post(f"/refunds/{decided.id}/cancel").status_code == 409
    assert ctl.post("/refunds/none/cancel").status_code == 404
    assert yookassa.Refund.find_one(decided.id).status == "succeeded"


@pytest.mark.parametrize("provider", ["telegram", "nobody"])
def test_refunds_and_receipts_are_planned_only_for_providers_that_have_them(ctl: httpx.Client, provider: str) -> None:
    for kind in ("refunds", "receipts"):
        answer = ctl.post(f"/{kind}", json={"provider": provider, "outcome": "pending"})

        assert answer.status_code == 422


def test_a_receipt_is_registered_some_time_after_its_payment(ctl: httpx.Client) -> None:
    ref = str(yookassa.Payment.create({"amount": money("100.00"), "capture": True, "receipt": receipt("100.00")}).id)
    unpaid = yookassa.Payment.find_one(ref).receipt_registration
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    just_paid = yookassa.Payment.find_one(ref).receipt_registration

    ctl.post("/clock", json={"advance_s": 31}).raise_for_status()

    assert (unpaid, just_paid) == ("pending", "pending")
    assert yookassa.Payment.find_one(ref).receipt_registration == "succeeded"


@pytest.mark.parametrize("outcome", ["canceled", "pending"])
def test_a_receipt_may_be_refused_or_never_registered(ctl: httpx.Client, outcome: str) -> None:
    plan(ctl, outcome, "receipts")
    ref = paid(ctl, receipt=receipt("100.00"))

    ctl.post("/clock", json={"advance_s": 3 * 86_400}).raise_for_status()

    payment = yookassa.Payment.find_one(ref)
    assert (payment.status, payment.receipt_registration) == ("succeeded", outcome)


def test_a_partial_refund_of_a_payment_with_a_receipt_needs_a_receipt(ctl: httpx.Client) -> None:
    ref = paid(ctl, receipt=receipt("60.00", "40.00"))

    with pytest.raises(exceptions.BadRequestError) as refusal:
        refund(ref, "40.00")
    part = refund(ref, "40.00", receipt=receipt("40.00"))
    ctl.post("/clock", json={"advance_s": 31}).raise_for_status()

    assert refusal.value.content["parameter"] == "receipt"
    assert (part.status, part.receipt_registration) == ("succeeded", "pending")
    assert yookassa.Refund.find_one(part.id).receipt_registration == "succeeded"


def test_a_full_refund_of_a_payment_with_a_receipt_needs_none(ctl: httpx.Client) -> None:
    ref = paid(ctl, receipt=receipt("100.00"))

    assert refund(ref, "100.00").status == "succeeded"


@pytest.mark.parametrize(
    "wrong",
    [
        receipt("99.99"),
        receipt("100.00", customer={}),
        receipt("100.00", items=[]),
        receipt(*["1.25"] * 80, "0.00"),
        receipt("100.00", tax_system_code=7),
        {"customer": {"email": "payer@shop.example"}},
    ],
)
def test_an_invalid_receipt_is_refused(shop: httpx.Client, wrong: dict[str, Any]) -> None:
    request = {"amount": money("100.00"), "receipt": wrong}

    answer = shop.post("/payments", headers={"Idempotence-Key": "key-1"}, json=request)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"


def test_income_amount_is_the_amount_minus_the_fee(ctl: httpx.Client) -> None:
    assert str(yookassa.Payment.find_one(paid(ctl)).income_amount.value) == "96.50"


def test_disputes_are_not_supported(ctl: httpx.Client) -> None:
    assert ctl.post(f"/payments/{paid(ctl)}/dispute").status_code == 409
