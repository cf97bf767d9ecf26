"""How Stripe's responses are read: which money counts, and which responses are unusable."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from providers import sandbox_harness, scripted_api, stripe_adapter

from payments import clients
from payments.clients import stripe
from payments.domain import facts

CHARGE: dict[str, Any] = {
    "id": "ch_1",
    "created": 1_790_000_060,
    "amount_refunded": 0,
    "balance_transaction": {"id": "txn_1", "created": 1_790_000_060, "fee": 160, "currency": "eur"},
    "payment_intent": "pi_1",
    "payment_method_details": {"type": "card", "card": {"last4": "4242"}},
}
INTENT: dict[str, Any] = {
    "id": "pi_1",
    "status": "succeeded",
    "currency": "eur",
    "capture_method": "automatic",
    "amount_received": 4_500,
    "latest_charge": CHARGE,
}
SESSION: dict[str, Any] = {
    "id": "cs_live_1",
    "mode": "payment",
    "status": "complete",
    "payment_status": "paid",
    "currency": "eur",
    "amount_total": 4_500,
    "created": 1_790_000_000,
    "expires_at": 1_790_086_400,
    "livemode": False,
    "metadata": {"payment_id": "00000000-0000-0000-0000-000000000001", "tenant": "demo"},
    "payment_intent": INTENT,
    "url": None,
}


@pytest.fixture
async def shop(harness: sandbox_harness.Harness) -> AsyncIterator[stripe_adapter.Adapter]:
    made = stripe_adapter.Adapter(harness)
    yield made
    await made.close()


@pytest.fixture
def api() -> Iterator[scripted_api.ScriptedApi]:
    with scripted_api.listening() as made:
        yield made


def own(shop: stripe_adapter.Adapter, **options: Any) -> stripe.api.Stripe:
    made = shop.client(**options)
    assert isinstance(made, stripe.api.Stripe)
    return made


async def fetched(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, session: object, refunds: object = ()
) -> facts.Fact:
    """Give what we make of a session that looks like this."""

    def reply(path: str, _parameters: dict[str, Any]) -> Any:
        if path == "/v1/account":
            return {"id": shop.shop_id}
        return {"data": refunds, "has_more": False} if path == "/v1/refunds" else session

    api.reply = reply
    return await own(shop, base_url=api.url).fetch("cs_live_1")


async def test_undocumented_members_are_ignored(shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi) -> None:
    fact = await fetched(shop, api, {**SESSION, "unheard_of": {"deep": [1]}})

    assert (fact.state, fact.captured_minor, fact.fee_minor) == ("paid", 4_500, 160)
    assert fact.payment_id == UUID(int=1)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status": "open", "payment_status": "unpaid", "payment_intent": None}, "pending"),
        (
            {"status": "open", "payment_status": "unpaid", "payment_intent": {**INTENT, "status": "processing"}},
            "pending",
        ),
        ({"payment_status": "unpaid"}, "pending"),
        ({"payment_status": "unpaid", "payment_intent": {**INTENT, "capture_method": "manual"}}, "paid"),
        ({"payment_status": "paid", "payment_intent": {**INTENT, "status": "requires_capture"}}, "authorized"),
        ({"payment_status": "paid", "payment_intent": {**INTENT, "status": "processing"}}, "pending"),
        ({"payment_status": "paid", "payment_intent": None}, "pending"),
        ({"payment_status": "unpaid", "payment_intent": {**INTENT, "status": "canceled"}}, "canceled"),
        ({"status": "expired", "payment_status": "unpaid", "payment_intent": None}, "canceled"),
    ],
)
async def test_money_is_there_only_when_session_and_intent_say_so(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, changes: dict[str, Any], state: str
) -> None:
    fact = await fetched(shop, api, {**SESSION, **changes})

    assert fact.state == state
    assert fact.captured_minor == (4_500 if state == "paid" else 0)


async def test_the_release_of_an_authorization_is_no_refund(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    released = {"id": "re_1", "status": "succeeded", "amount": 1_500, "currency": "eur", "created": 1_790_000_100}
    refund = released | {"id": "re_2", "amount": 200, "balance_transaction": "txn_2"}
    intent = {**INTENT, "amount_received": 3_000, "latest_charge": {**CHARGE, "amount_refunded": 1_700}}

    fact = await fetched(shop, api, {**SESSION, "payment_intent": intent}, [released, refund])

    assert (fact.amount.amount_minor, fact.captured_minor, fact.refunded_minor) == (4_500, 3_000, 200)


async def test_a_fee_in_another_currency_is_left_out(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    balance = {"id": "txn_1", "created": 1_790_000_060, "fee": 160, "currency": "usd"}
    intent = {**INTENT, "latest_charge": {**CHARGE, "balance_transaction": balance}}

    assert (await fetched(shop, api, {**SESSION, "payment_intent": intent})).fee_minor is None


async def test_the_expiry_of_an_authorization_is_read(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    charge = {**CHARGE, "payment_method_details": {"card": {"capture_before": 1_790_600_000}}}
    intent = {**INTENT, "status": "requires_capture", "capture_method": "manual", "latest_charge": charge}

    fact = await fetched(shop, api, {**SESSION, "payment_status": "unpaid", "payment_intent": intent})

    assert fact.capture_before == datetime.fromtimestamp(1_790_600_000, UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "javascript:alert(1)"},
        {"payment_intent": {**INTENT, "last_payment_error": {"decline_code": "try-again later", "code": 7}}},
        {"payment_intent": {**INTENT, "last_payment_error": "none"}},
        {"payment_intent": {**INTENT, "cancellation_reason": "a bank's holiday"}},
        {"payment_intent": {**INTENT, "latest_charge": {**CHARGE, "payment_method_details": "card"}}},
    ],
)
async def test_an_odd_member_that_decides_nothing_about_money_hides_no_payment(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, changes: dict[str, Any]
) -> None:
    fact = await fetched(shop, api, {**SESSION, **changes})

    assert (fact.state, fact.captured_minor) == ("paid", SESSION["amount_total"])


@pytest.mark.parametrize(
    "changes", [{"payment_status": "no_payment_required"}, {"amount_total": 0}, {"currency": "isk"}]
)
async def test_a_session_that_we_can_not_have_made_is_foreign(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, changes: dict[str, Any]
) -> None:
    with pytest.raises(clients.Foreign):
        await fetched(shop, api, {**SESSION, **changes, "metadata": {}})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "card_declined", "decline_code": "insufficient_funds"}, "insufficient_funds"),
        ({"code": "expired_card"}, "card_details"),
        ({"code": "card_declined", "decline_code": "stolen_card"}, "declined"),
        ({"code": "card_declined", "decline_code": "fraudulent", "advice_code": "do_not_try_again"}, "declined"),
        ({"code": "card_declined", "decline_code": "generic", "advice_code": "try_again_later"}, "bank_unavailable"),
        (None, "expired"),
    ],
)
async def test_a_page_that_expired_tells_the_last_error(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, error: dict[str, str] | None, reason: str
) -> None:
    intent = {**INTENT, "status": "canceled", "last_payment_error": error, "latest_charge": None}
    expired = {**SESSION, "status": "expired", "payment_status": "unpaid", "payment_intent": intent}

    fact = await fetched(shop, api, expired)

    assert (fact.state, fact.failure_reason, fact.is_payer_gone) == ("canceled", reason, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "done"},
        {"status": None},
        {"amount_total": "4500"},
        {"amount_total": 45.5},
        {"amount_total": 0},
        {"amount_total": -1},
        {"currency": "isk"},
        {"currency": "EUR"},
        {"livemode": None},
        {"created": "yesterday"},
        {"created": 10**15},
        {"id": "../refunds"},
        {"payment_intent": {**INTENT, "status": "paid"}},
        {"payment_intent": {**INTENT, "currency": "usd"}},
        {"payment_intent": {**INTENT, "amount_received": None}},
    ],
)
async def test_a_response_of_another_form_leaves_the_outcome_unknown(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, changes: dict[str, Any]
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, {**SESSION, **changes})


async def test_a_session_of_another_mode_is_foreign(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    with pytest.raises(clients.Foreign):
        await fetched(shop, api, {**SESSION, "mode": "subscription"})


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"id": 1', b"\xff\xfe", b" " * 1_100_000])
async def test_an_unreadable_response_leaves_the_outcome_unknown(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, body: bytes
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, body)


@pytest.mark.parametrize("metadata", [None, {}, {"payment_id": "no uuid"}, {"payment_id": 5}])
async def test_metadata_that_names_no_payment_gives_no_id(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, metadata: Any
) -> None:
    assert (await fetched(shop, api, {**SESSION, "metadata": metadata})).payment_id is None


async def test_a_refusal_without_stripes_error_is_not_definite(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    api.status = 400

    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, b"<html>Blocked by the firewall</html>")


async def test_foreign_payments_of_the_account_are_left_out_of_the_report(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    now_s = int(datetime.now(UTC).timestamp())
    ours = {**SESSION, "created": now_s}
    others = [{**ours, "id": "cs_2", "mode": "subscription"}, {**ours, "id": "cs_3", "mode": "setup", "currency": None}]
    answers = {
        "/v1/account": {"id": shop.shop_id},
        "/v1/checkout/sessions": {"data": [ours, *others], "has_more": False},
    }
    api.reply = lambda path, _parameters: answers[path]
    since = datetime.now(UTC) - timedelta(hours=1)

    page = await own(shop, base_url=api.url).list_movements(since, since + timedelta(hours=2), None)

    assert [one.provider_ref for one in page.movements] == ["cs_live_1"]


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_closed", "prevented", "unheard_of"])
async def test_an_inquiry_takes_no_money_and_is_no_dispute(
    shop: stripe_adapter.Adapter, api: scripted_api.ScriptedApi, status: str
) -> None:
    dispute = {"id": "du_1", "status": status, "amount": 100, "currency": "eur", "created": 1_790_000_000}
    answers = {"/v1/account": {"id": shop.shop_id}, "/v1/disputes": {"data": [dispute], "has_more": False}}
    api.reply = lambda path, _parameters: answers.get(path, SESSION)

    assert await own(shop, base_url=api.url).fetch_disputes("cs_live_1") == []
