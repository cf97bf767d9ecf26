"""Stripe's API through its official SDK: payments, captures, refunds, disputes, balance."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stripe

Received = Callable[[int], list[dict[str, Any]]]


def session(account: stripe.StripeClient, **changes: Any) -> stripe.checkout.Session:
    price = {"currency": "usd", "unit_amount": 500, "product_data": {"name": "Top-up"}}
    params: Any = {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 3}],
        "success_url": "https://shop.example/back?session={CHECKOUT_SESSION_ID}",
        "metadata": {"payment_id": "p-1"},
    }
    return account.v1.checkout.sessions.create(params | changes)


def intent(account: stripe.StripeClient, **changes: Any) -> stripe.PaymentIntent:
    params: Any = {"amount": 1500, "currency": "usd"}
    return account.v1.payment_intents.create(params | changes)


def paid(account: stripe.StripeClient, **changes: Any) -> stripe.PaymentIntent:
    return intent(account, payment_method="pm_card_visa", confirm=True, **changes)


def act(ctl: httpx.Client, ref: str, action: str, **body: Any) -> Any:
    return ctl.post(f"/payments/{ref}/{action}", json=body).raise_for_status().json()


def event_types(account: stripe.StripeClient) -> list[str]:
    """The types of all events, oldest first; webhooks may arrive in another order."""
    return [str(event.type) for event in account.v1.events.list({"limit": 100}).data][::-1]


def test_a_session_is_open_until_it_is_paid(account: stripe.StripeClient, ctl: httpx.Client, sandbox_url: str) -> None:
    opened = session(account)

    act(ctl, opened.id, "pay")

    done = account.v1.checkout.sessions.retrieve(opened.id, {"expand": ["payment_intent.latest_charge"]})
    assert (opened.status, opened.payment_status, opened.payment_intent) == ("open", "unpaid", None)
    assert opened.url == f"{sandbox_url}/pay/{opened.id}"
    assert (done.status, done.payment_status, done.amount_total, done.url) == ("complete", "paid", 1500, None)
    assert done.metadata is not None
    assert done.metadata["payment_id"] == "p-1"
    assert isinstance(done.payment_intent, stripe.PaymentIntent)
    assert isinstance(done.payment_intent.latest_charge, stripe.Charge)
    assert (done.payment_intent.status, done.payment_intent.amount_received) == ("succeeded", 1500)
    assert done.payment_intent.latest_charge.captured
    assert event_types(account) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


def test_a_declined_session_stays_open_and_can_still_be_paid(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    opened = session(account)

    act(ctl, opened.id, "decline")
    declined = account.v1.checkout.sessions.retrieve(opened.id, {"expand": ["payment_intent"]})
    act(ctl, opened.id, "pay")

    assert declined.status == "open"
    assert isinstance(declined.payment_intent, stripe.PaymentIntent)
    assert declined.payment_intent.status == "requires_payment_method"
    assert declined.payment_intent.last_payment_error is not None
    assert declined.payment_intent.last_payment_error["decline_code"] == "insufficient_funds"
    assert account.v1.checkout.sessions.retrieve(opened.id).payment_status == "paid"


def test_a_delayed_method_is_paid_after_the_session_is_complete(
    account: stripe.StripeClient, ctl: httpx.Client, received: Received
) -> None:
    good, bad = (session(account, payment_method_types=["sepa_debit"]) for _ in range(2))

    act(ctl, good.id, "pay")
    agreed = account.v1.checkout.sessions.retrieve(good.id)
    act(ctl, good.id, "pay")
    act(ctl, bad.id, "pay")
    act(ctl, bad.id, "decline")

    assert (agreed.status, agreed.payment_status) == ("complete", "unpaid")
    assert account.v1.checkout.sessions.retrieve(good.id).payment_status == "paid"
    assert account.v1.checkout.sessions.retrieve(bad.id).payment_status == "unpaid"
    assert [kind for kind in event_types(account) if kind.startswith("checkout")] == [
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "checkout.session.async_payment_failed",
    ]
    assert len(received(14)) == 14


def test_a_session_expires_on_the_virtual_clock_or_by_the_api(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    by_time, by_shop = session(account), session(account)

    account.v1.checkout.sessions.expire(by_shop.id)
    ctl.post("/clock", json={"advance_s": 86_401}).raise_for_status()

    statuses = {one.status for one in account.v1.checkout.sessions.list().data}
    assert statuses == {"expired"}
    assert event_types(account) == ["checkout.session.expired"] * 2
    assert ctl.post(f"/payments/{by_time.id}/pay").status_code == 409
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.checkout.sessions.expire(by_shop.id)


def test_an_intent_is_paid_with_a_test_card(account: stripe.StripeClient) -> None:
    waiting = intent(account)

    done = account.v1.payment_intents.confirm(waiting.id, {"payment_method": "pm_card_visa"})

    assert (waiting.status, done.status, done.amount_received) == ("requires_payment_method", "succeeded", 1500)


def test_a_declined_card_is_an_error_with_its_intent(account: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as refusal:
        intent(account, payment_method="pm_card_visa_chargeDeclined", confirm=True)

    assert (refusal.value.code, refusal.value.http_status) == ("card_declined", 402)
    assert refusal.value.error is not None
    assert refusal.value.error.payment_intent is not None
    assert refusal.value.error.payment_intent["status"] == "requires_payment_method"


def test_a_card_with_authentication_requires_an_action(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    authenticating = intent(account, payment_method="pm_card_threeDSecure2Required", confirm=True)

    act(ctl, authenticating.id, "pay")

    assert authenticating.status == "requires_action"
    assert authenticating.next_action is not None
    assert authenticating.next_action["redirect_to_url"]["url"].endswith(f"/pay/{authenticating.id}")
    assert account.v1.payment_intents.retrieve(authenticating.id).status == "succeeded"


def test_a_finished_intent_cannot_be_confirmed(account: stripe.StripeClient) -> None:
    done, canceled = paid(account), intent(account)
    account.v1.payment_intents.cancel(canceled.id)

    for ref, status in ((done.id, "succeeded"), (canceled.id, "canceled")):
        with pytest.raises(stripe.InvalidRequestError):
            account.v1.payment_intents.confirm(ref, {"payment_method": "pm_card_threeDSecure2Required"})
        assert account.v1.payment_intents.retrieve(ref).status == status
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.payment_intents.confirm(intent(account).id)


def test_an_expired_session_cancels_its_intent(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    opened = session(account)
    act(ctl, opened.id, "decline")

    act(ctl, opened.id, "expire")

    assert [one.status for one in account.v1.payment_intents.list().data] == ["canceled"]


def test_held_money_is_captured_in_part(account: stripe.StripeClient) -> None:
    held = paid(account, capture_method="manual")

    done = account.v1.payment_intents.capture(held.id, {"amount_to_capture": 400})

    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 1500, 0)
    assert (done.status, done.amount_capturable, done.amount_received) == ("succeeded", 0, 400)
    assert event_types(account)[2:] == [
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]


def test_a_capture_above_the_hold_or_twice_is_refused(account: stripe.StripeClient) -> None:
    held = paid(account, capture_method="manual")

    with pytest.raises(stripe.InvalidRequestError) as too_much:
        account.v1.payment_intents.capture(held.id, {"amount_to_capture": 1501})
    account.v1.payment_intents.capture(held.id)
    with pytest.raises(stripe.InvalidRequestError) as again:
        account.v1.payment_intents.capture(held.id)

    assert too_much.value.code == "amount_too_large"
    assert again.value.code == "payment_intent_unexpected_state"


def test_held_money_is_released_by_a_cancel_or_after_a_week(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    by_shop, by_time = (paid(account, capture_method="manual") for _ in range(2))

    canceled = account.v1.payment_intents.cancel(by_shop.id, {"cancellation_reason": "requested_by_customer"})
    ctl.post("/clock", json={"advance_s": 7 * 86_400 + 1}).raise_for_status()

    expired = account.v1.payment_intents.retrieve(by_time.id)
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "requested_by_customer")
    assert (expired.status, expired.cancellation_reason, expired.amount_capturable) == ("canceled", "automatic", 0)


def test_a_held_session_is_complete_and_paid_only_when_it_is_captured(
    account: stripe.StripeClient, ctl: httpx.Client
) -> None:
    opened = session(account, payment_intent_data={"capture_method": "manual"})
    act(ctl, opened.id, "pay")
    held = account.v1.checkout.sessions.retrieve(opened.id)

    account.v1.payment_intents.capture(str(held.payment_intent))

    assert (held.status, held.payment_status) == ("complete", "unpaid")
    assert account.v1.checkout.sessions.retrieve(opened.id).payment_status == "paid"


def test_an_unpaid_intent_can_be_updated(account: stripe.StripeClient) -> None:
    waiting = intent(account, metadata={"a": "1", "b": "2"})

    changed = account.v1.payment_intents.update(waiting.id, {"amount": 900, "metadata": {"a": "", "c": "3"}})
    account.v1.payment_intents.confirm(waiting.id, {"payment_method": "pm_card_visa"})

    assert (changed.amount, changed.metadata.to_dict()) == (900, {"b": "2", "c": "3"})
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.payment_intents.update(waiting.id, {"amount": 100})


def test_refunds_cannot_exceed_the_charge(account: stripe.StripeClient) -> None:
    ref = paid(account).id

    part = account.v1.refunds.create({"payment_intent": ref, "amount": 500})
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.refunds.create({"payment_intent": ref, "amount": 1001})
    rest = account.v1.refunds.create({"charge": str(part.charge)})
    with pytest.raises(stripe.InvalidRequestError) as nothing_left:
        account.v1.refunds.create({"payment_intent": ref})

    charge = account.v1.charges.retrieve(str(part.charge))
    assert (part.status, rest.amount) == ("succeeded", 1000)
    assert (charge.amount_refunded, charge.refunded) == (1500, True)
    assert nothing_left.value.code == "charge_already_refunded"
    assert account.v1.payment_intents.retrieve(ref).status == "succeeded"
    assert event_types(account)[3:] == ["refund.created", "charge.refunded"] * 2


def test_an_unpaid_intent_cannot_be_refunded(account: stripe.StripeClient) -> None:
    held = paid(account, capture_method="manual")

    for ref in (held.id, intent(account).id):
        with pytest.raises(stripe.InvalidRequestError):
            account.v1.refunds.create({"payment_intent": ref})


def test_a_pending_refund_reserves_its_amount_until_it_fails(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    ctl.post("/refunds", json={"provider": "stripe", "outcome": "pending", "count": 2}).raise_for_status()
    ref = paid(account).id
    bad, good = (account.v1.refunds.create({"payment_intent": ref, "amount": 700}) for _ in range(2))
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.refunds.create({"payment_intent": ref, "amount": 200})

    ctl.post(f"/refunds/{bad.id}/cancel").raise_for_status()
    ctl.post(f"/refunds/{good.id}/succeed").raise_for_status()

    assert (bad.status, good.status) == ("pending", "pending")
    assert [one.status for one in account.v1.refunds.list({"payment_intent": ref}).data] == ["succeeded", "failed"]
    assert account.v1.charges.retrieve(str(bad.charge)).amount_refunded == 700
    assert event_types(account)[7:] == ["refund.updated", "refund.failed", "refund.updated"]
    assert ctl.post(f"/refunds/{good.id}/succeed").status_code == 409


def test_a_refund_can_fail_after_it_has_succeeded(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    ref = paid(account).id
    refund = account.v1.refunds.create({"payment_intent": ref, "amount": 700})

    ctl.post(f"/refunds/{refund.id}/cancel").raise_for_status()

    assert account.v1.refunds.retrieve(refund.id).status == "failed"
    assert account.v1.charges.retrieve(str(refund.charge)).amount_refunded == 0
    assert ctl.post(f"/refunds/{refund.id}/cancel").status_code == 409


def test_a_refund_can_fail_at_once(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    ctl.post("/refunds", json={"provider": "stripe", "outcome": "canceled"}).raise_for_status()
    ref = paid(account).id

    first = account.v1.refunds.create({"payment_intent": ref})
    second = account.v1.refunds.create({"payment_intent": ref})

    assert (first.status, second.status) == ("failed", "succeeded")


def test_the_dashboard_can_refund(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    ref = paid(account).id

    act(ctl, ref, "refund", amount_minor=500)
    act(ctl, ref, "refund")

    assert [one.amount for one in account.v1.refunds.list({"payment_intent": ref}).data] == [1000, 500]
    assert ctl.post(f"/payments/{ref}/refund").status_code == 409


@pytest.mark.parametrize(("outcome", "net"), [("won", -1500), ("lost", -3000)])
def test_a_dispute_withdraws_money_and_returns_it_when_won(
    account: stripe.StripeClient, ctl: httpx.Client, outcome: str, net: int
) -> None:
    ref = paid(account).id
    act(ctl, ref, "dispute")
    [opened] = account.v1.disputes.list({"payment_intent": ref}).data
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        account.v1.refunds.create({"payment_intent": ref})

    act(ctl, ref, "dispute", outcome=outcome)

    booked = account.v1.balance_transactions.list({"type": "adjustment"}).data
    assert (opened.status, opened.amount) == ("needs_response", 1500)
    assert account.v1.disputes.retrieve(opened.id).status == outcome
    assert refusal.value.code == "charge_disputed"
    assert sum(one.net for one in booked) == net
    reinstated = ["charge.dispute.funds_reinstated"] if outcome == "won" else []
    assert event_types(account)[3:] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        *reinstated,
        "charge.dispute.closed",
    ]
    assert ctl.post(f"/payments/{ref}/dispute", json={"outcome": "won"}).status_code == 409


def test_a_dispute_closed_by_the_shop_is_lost(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    ref = paid(account).id
    act(ctl, ref, "dispute", amount_minor=600)
    [opened] = account.v1.disputes.list().data

    closed = account.v1.disputes.close(opened.id)

    assert (closed.amount, closed.status) == (600, "lost")
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.disputes.close(opened.id)


def test_balance_transactions_have_amount_and_fee(account: stripe.StripeClient) -> None:
    done = paid(account, expand=["latest_charge.balance_transaction"])
    account.v1.refunds.create({"payment_intent": done.id, "amount": 500})

    refund, charge = account.v1.balance_transactions.list().data

    assert (charge.type, charge.amount, charge.fee, charge.net) == ("charge", 1500, 73, 1427)
    assert (refund.type, refund.amount, refund.fee, refund.net) == ("refund", -500, 0, -500)
    assert isinstance(done.latest_charge, stripe.Charge)
    assert isinstance(done.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert done.latest_charge.balance_transaction.id == charge.id
    assert charge.source == done.latest_charge.id


def test_the_control_api_lists_sessions_and_intents_without_one(
    account: stripe.StripeClient, ctl: httpx.Client
) -> None:
    opened = session(account)
    act(ctl, opened.id, "pay")
    ctl.post("/clock", json={"advance_s": 2}).raise_for_status()
    alone = intent(account)

    items = ctl.get("/payments", params={"provider": "stripe"}).json()["items"]
    shown = ctl.get(f"/payments/{opened.id}").json()

    assert [item["payment"]["id"] for item in items] == [alone.id, opened.id]
    assert shown["payment"]["payment_status"] == "paid"
    assert len(shown["sent"]) == 4


@pytest.mark.parametrize("amount", ["15.00 USD", "1500 JPY"])
def test_the_page_formats_amounts_by_currency(account: stripe.StripeClient, amount: str) -> None:
    price = {"currency": amount[-3:], "unit_amount": 1500, "product_data": {"name": "Tea"}}

    opened = session(account, line_items=[{"price_data": price, "quantity": 1}])
    page = httpx.post(str(opened.url), data={"decision": "pay"}, follow_redirects=True)

    assert amount in page.text
    assert "checkout.session.completed" in page.text
    assert f'href="https://shop.example/back?session={opened.id}"' in page.text


def test_the_account_of_a_key_is_returned(account: stripe.StripeClient) -> None:
    assert account.v1.accounts.retrieve_current().id == "acct_1DemoKopilkaSandbox"
