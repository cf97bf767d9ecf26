"""YooKassa's API through its official SDK; plain HTTP only for requests that the SDK cannot send."""

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


def created(**changes: Any) -> str:
    return str(yookassa.Payment.create(payment_request(**changes)).id)


def post(shop: httpx.Client, path: str, **request: Any) -> httpx.Response:
    headers = {"Idempotence-Key": str(uuid.uuid4()), "Content-Type": "application/json"} | request.pop("headers", {})
    return shop.post(path, headers=headers, **request)


def test_a_new_payment_is_pending(sandbox_url: str) -> None:
    payment = yookassa.Payment.create(payment_request())

    assert (payment.status, payment.paid, payment.test, payment.refundable) == ("pending", False, True, False)
    assert (str(payment.amount.value), payment.amount.currency) == ("1500.00", "RUB")
    assert payment.metadata["payment_id"] == "p-1"
    assert payment.recipient.account_id == "demo-shop"
    assert payment.confirmation.confirmation_url == f"{sandbox_url}/pay/{payment.id}"
    assert len(payment.id) == 36


def test_a_paid_payment_has_its_card_and_authorization(ctl: httpx.Client) -> None:
    ref = created()

    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    payment = yookassa.Payment.find_one(ref)
    assert (payment.status, payment.paid, payment.refundable) == ("succeeded", True, True)
    assert payment.payment_method.card.last4 == "4477"
    assert payment.authorization_details.rrn
    assert str(payment.refunded_amount.value) == "0.00"
    assert payment.captured_at is not None
    assert payment.confirmation is None


def test_the_same_key_and_body_get_the_original_response(ctl: httpx.Client) -> None:
    first = yookassa.Payment.create(payment_request(), "key-1")
    ctl.post(f"/payments/{first.id}/pay").raise_for_status()

    again = yookassa.Payment.create(payment_request(), "key-1")

    assert again.id == first.id
    assert again.status == "pending"
    assert len(ctl.get("/payments").json()["items"]) == 1


def test_the_same_key_with_another_body_is_refused() -> None:
    yookassa.Payment.create(payment_request(), "key-1")

    with pytest.raises(exceptions.BadRequestError) as refusal:
        yookassa.Payment.create(payment_request(description="Top-up 2"), "key-1")

    error = refusal.value.content
    assert error["type"] == "error"
    assert error["code"] == "invalid_request"
    assert error["description"] == "Idempotence key duplicated"
    assert error["parameter"] == "Idempotence-Key"


def test_a_key_can_be_reused_after_a_day(ctl: httpx.Client) -> None:
    first = yookassa.Payment.create(payment_request(), "key-1")
    ctl.post("/clock", json={"advance_s": 23 * 3600}).raise_for_status()
    within = yookassa.Payment.create(payment_request(), "key-1")
    ctl.post("/clock", json={"advance_s": 3601}).raise_for_status()

    after = yookassa.Payment.create(payment_request(), "key-1")

    assert within.id == first.id
    assert after.id != first.id


def test_a_refused_request_is_stored_under_its_key(shop: httpx.Client) -> None:
    wrong = payment_request(amount={"value": "1", "currency": "RUB"})
    first = post(shop, "/payments", json=wrong, headers={"Idempotence-Key": "key-1"})

    again = post(shop, "/payments", json=wrong, headers={"Idempotence-Key": "key-1"})
    corrected = post(shop, "/payments", json=payment_request(), headers={"Idempotence-Key": "key-1"})

    assert first.status_code == 400
    assert again.content == first.content
    assert corrected.json()["parameter"] == "Idempotence-Key"


def test_a_payment_without_capture_takes_two_steps(ctl: httpx.Client) -> None:
    ref = str(yookassa.Payment.create({"amount": {"value": "10.00", "currency": "RUB"}}).id)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    held = yookassa.Payment.find_one(ref)

    captured = yookassa.Payment.capture(ref)

    assert (held.status, held.paid) == ("waiting_for_capture", True)
    assert held.expires_at is not None
    assert captured.status == "succeeded"


def test_a_hold_can_be_captured_in_part(ctl: httpx.Client) -> None:
    ref = created(capture=False)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    captured = yookassa.Payment.capture(ref, {"amount": {"value": "400.00", "currency": "RUB"}})

    assert str(captured.amount.value) == "400.00"


@pytest.mark.parametrize("amount", [{"value": "1500.01", "currency": "RUB"}, {"value": "1.00", "currency": "USD"}])
def test_a_capture_above_the_hold_or_in_another_currency_is_refused(ctl: httpx.Client, amount: dict[str, str]) -> None:
    ref = created(capture=False)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    with pytest.raises(exceptions.BadRequestError):
        yookassa.Payment.capture(ref, {"amount": amount})

    assert yookassa.Payment.find_one(ref).status == "waiting_for_capture"


def test_a_hold_can_be_canceled_by_its_shop(ctl: httpx.Client) -> None:
    ref = created(capture=False)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    canceled = yookassa.Payment.cancel(ref)

    assert (canceled.status, canceled.paid) == ("canceled", False)
    assert canceled.cancellation_details.party == "merchant"
    assert canceled.cancellation_details.reason == "canceled_by_merchant"


def test_a_pending_payment_cannot_be_canceled_by_its_shop() -> None:
    ref = created()

    with pytest.raises(exceptions.BadRequestError):
        yookassa.Payment.cancel(ref)

    assert yookassa.Payment.find_one(ref).status == "pending"


def test_refunds_cannot_exceed_the_payment(ctl: httpx.Client) -> None:
    ref = created()
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    part = yookassa.Refund.create({"payment_id": ref, "amount": {"value": "500.00", "currency": "RUB"}})
    rest = yookassa.Refund.create({"payment_id": ref, "amount": {"value": "1000.00", "currency": "RUB"}})
    with pytest.raises(exceptions.BadRequestError):
        yookassa.Refund.create({"payment_id": ref, "amount": {"value": "0.01", "currency": "RUB"}})

    payment = yookassa.Payment.find_one(ref)
    assert part.status == "succeeded"
    assert str(yookassa.Refund.find_one(rest.id).amount.value) == "1000.00"
    assert (payment.status, str(payment.refunded_amount.value)) == ("succeeded", "1500.00")
    assert payment.refundable is False


def test_two_equal_refunds_with_two_keys_are_two_refunds(ctl: httpx.Client) -> None:
    ref = created()
    ctl.post(f"/payments/{ref}/pay").raise_for_status()
    refund_request = {"payment_id": ref, "amount": {"value": "30.00", "currency": "RUB"}}

    first = yookassa.Refund.create(refund_request, "key-1")
    replayed = yookassa.Refund.create(refund_request, "key-1")
    second = yookassa.Refund.create(refund_request, "key-2")

    assert first.id == replayed.id != second.id
    assert str(yookassa.Payment.find_one(ref).refunded_amount.value) == "60.00"


def test_an_unpaid_payment_cannot_be_refunded() -> None:
    ref = created()

    with pytest.raises(exceptions.BadRequestError):
        yookassa.Refund.create({"payment_id": ref, "amount": {"value": "1.00", "currency": "RUB"}})


def test_list_pages_contain_every_payment_once_newest_first() -> None:
    refs = [created() for _ in range(5)]

    first = yookassa.Payment.list({"limit": 2})
    second = yookassa.Payment.list({"limit": 2, "cursor": first.next_cursor})
    third = yookassa.Payment.list({"limit": 2, "cursor": second.next_cursor})

    listed = [payment.id for page in (first, second, third) for payment in page.items]
    assert listed == refs[::-1]
    assert third.next_cursor is None


def test_a_list_is_filtered_by_status_method_and_time(ctl: httpx.Client, shop: httpx.Client) -> None:
    early = created()
    ctl.post(f"/payments/{early}/pay").raise_for_status()
    ctl.post("/clock", json={"advance_s": 600}).raise_for_status()
    late = created(payment_method_data={"type": "sbp"})
    moment = yookassa.Payment.find_one(late).created_at

    def listed(**filters: str) -> list[str]:
        return [item["id"] for item in shop.get("/payments", params=filters).raise_for_status().json()["items"]]

    assert listed(status="succeeded") == [early]
    assert listed(payment_method="sbp") == [late]
    assert listed(**{"created_at.gte": moment}) == [late]
    assert listed(**{"created_at.lt": moment}) == [early]
    assert listed(**{"captured_at.lte": moment}) == [early]


def test_refunds_are_listed_by_payment(ctl: httpx.Client) -> None:
    refs = [created(), created()]
    made = []
    for ref in refs:
        ctl.post(f"/payments/{ref}/pay").raise_for_status()
        made.append(yookassa.Refund.create({"payment_id": ref, "amount": {"value": "1.00", "currency": "RUB"}}).id)

    listed = yookassa.Refund.list({"payment_id": refs[0]})

    assert [refund.id for refund in listed.items] == [made[0]]


def test_a_declined_payment_has_party_and_reason(ctl: httpx.Client) -> None:
    ref = created()

    ctl.post(f"/payments/{ref}/decline").raise_for_status()

    payment = yookassa.Payment.find_one(ref)
    assert payment.status == "canceled"
    assert payment.cancellation_details.party == "payment_network"
    assert payment.cancellation_details.reason == "insufficient_funds"


def test_an_unpaid_payment_expires_on_the_virtual_clock(ctl: httpx.Client) -> None:
    ref = created()

    ctl.post("/clock", json={"advance_s": 3601}).raise_for_status()

    payment = yookassa.Payment.find_one(ref)
    assert payment.cancellation_details.party == "yoo_money"
    assert payment.cancellation_details.reason == "expired_on_confirmation"


def test_an_uncaptured_hold_expires_on_the_virtual_clock(ctl: httpx.Client) -> None:
    ref = created(capture=False)
    ctl.post(f"/payments/{ref}/pay").raise_for_status()

    ctl.post("/clock", json={"advance_s": 7 * 86_400 + 1}).raise_for_status()

    assert yookassa.Payment.find_one(ref).cancellation_details.reason == "expired_on_capture"


def test_the_control_api_expires_and_refunds(ctl: httpx.Client) -> None:
    unpaid, paid = created(), created()
    ctl.post(f"/payments/{paid}/pay").raise_for_status()

    ctl.post(f"/payments/{unpaid}/expire").raise_for_status()
    ctl.post(f"/payments/{paid}/refund", json={"amount_minor": 50_000}).raise_for_status()
    ctl.post(f"/payments/{paid}/refund").raise_for_status()
    third = ctl.post(f"/payments/{paid}/refund")

    assert yookassa.Payment.find_one(unpaid).cancellation_details.reason == "expired_on_confirmation"
    assert str(yookassa.Payment.find_one(paid).refunded_amount.value) == "1500.00"
    assert third.status_code == 409
