"""YooKassa beyond what every provider promises: addresses, amounts, receipts, and answers that are not ours."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers import sandbox_harness, scripted_api, yookassa_adapter

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import yookassa
from payments.clients.yookassa import objects
from payments.domain import facts

REF = "22e12f66-000f-5000-8000-18db351245c7"
ANSWER: dict[str, Any] = {
    "id": REF,
    "status": "succeeded",
    "paid": True,
    "amount": {"value": "1500.00", "currency": "RUB"},
    "income_amount": {"value": "1447.50", "currency": "RUB"},
    "refunded_amount": {"value": "0.00", "currency": "RUB"},
    "created_at": "2026-08-01T10:00:00.000Z",
    "captured_at": "2026-08-01T10:01:00.000Z",
    "recipient": {"account_id": "demo-shop", "gateway_id": "1"},
    "refundable": True,
    "test": True,
    "metadata": {"payment_id": "00000000-0000-0000-0000-000000000001", "tenant": "demo"},
    "payment_method": {"type": "bank_card", "card": {"last4": "4477"}},
}


@pytest.fixture
async def shop(harness: sandbox_harness.Harness) -> AsyncIterator[yookassa_adapter.Adapter]:
    made = yookassa_adapter.Adapter(harness)
    yield made
    await made.close()


@pytest.fixture
def api() -> Iterator[scripted_api.ScriptedApi]:
    with scripted_api.listening() as made:
        yield made


@pytest.fixture
def client(shop: yookassa_adapter.Adapter) -> yookassa.api.YooKassa:
    return own(shop)


def own(shop: yookassa_adapter.Adapter, **options: Any) -> yookassa.api.YooKassa:
    made = shop.client(**options)
    assert isinstance(made, yookassa.api.YooKassa)
    return made


async def fetched(shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, answer: object) -> facts.Fact:
    """Give what we make of a payment that looks like this."""
    api.reply = lambda _path, _parameters: answer
    return await own(shop, base_url=api.url).fetch(REF)


# --- requests --------------------------------------------------------------------------------------------


async def test_money_is_captured_at_once_unless_the_order_is_held(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    api.reply = lambda _path, _parameters: ANSWER
    client = own(shop, base_url=api.url)

    await client.create(shop.order(), key="pay.1.create.1")
    await client.create(shop.order(is_held=True), key="pay.2.create.1")

    (_, at_once), (_, held) = api.requests
    assert (at_once["capture"], held["capture"]) == (True, False)
    assert at_once["amount"] == {"value": "1500.00", "currency": "RUB"}
    assert at_once["confirmation"] == {"type": "redirect", "return_url": "https://shop.example/thanks"}


async def test_a_receipt_is_written_as_the_provider_reads_it(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    api.reply = lambda _path, _parameters: ANSWER
    line = contracts.payments.ReceiptItem(
        description="Ж", quantity_milli=1_500, price=shop.part(3), vat_code=4, subject="commodity"
    ).model_copy(update={"description": "Ж" * 200})  # longer than what a command may have
    receipt = contracts.payments.Receipt(items=(line,), phone="79990000000")

    await own(shop, base_url=api.url, tax_system_code=2).create(shop.order(receipt=receipt), key="pay.1.create.1")

    ((_, asked),) = api.requests
    assert asked["receipt"] == {
        "customer": {"phone": "79990000000"},
        "tax_system_code": 2,
        "items": [
            {
                "description": "Ж" * 128,
                "quantity": 1.5,
                "measure": "piece",
                "amount": {"value": "500.00", "currency": "RUB"},
                "vat_code": 4,
                "payment_mode": "full_payment",
                "payment_subject": "commodity",
            }
        ],
    }


async def test_a_receipt_that_does_not_add_up_is_rejected(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    line = contracts.payments.ReceiptItem(description="A thing", quantity_milli=1_000, price=shop.part(), vat_code=1)
    order = shop.order(receipt=contracts.payments.Receipt(items=(line,), email="payer@shop.example"))

    with pytest.raises(clients.Rejected) as rejected:
        await client.create(order, key="pay.1.create.1")

    assert rejected.value.code == "invalid_request"


async def test_a_part_is_captured_with_the_receipt_of_what_is_left(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    line = contracts.payments.ReceiptItem(description="A thing", quantity_milli=1_000, price=shop.part(), vat_code=1)
    receipt = contracts.payments.Receipt(items=(line, line), email="payer@shop.example")
    made = await client.create(shop.order(is_held=True, receipt=receipt), key="pay.1.create.1")
    await shop.pay(client, made)

    fact = await client.capture(
        made.provider_ref, shop.part(), key="pay.1.capture.1", receipt=receipt.model_copy(update={"items": (line,)})
    )

    assert (fact.state, fact.captured_minor) == ("paid", shop.part().amount_minor)


async def test_a_declined_payment_is_canceled_with_the_banks_reason(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    made = await client.create(shop.order(), key="pay.1.create.1")

    await shop.decline(client, made)

    fact = await client.fetch(made.provider_ref)
    assert (fact.state, fact.reason, fact.failure_reason) == ("canceled", "insufficient_funds", "insufficient_funds")


async def test_the_fee_is_the_amount_less_the_income(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    made = await client.create(shop.order(), key="pay.1.create.1")
    await shop.pay(client, made)

    assert (await client.fetch(made.provider_ref)).fee_minor == 150_000 * 35 // 1000


async def test_the_expiry_of_an_authorization_is_read(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    made = await client.create(shop.order(is_held=True), key="pay.1.create.1")
    await shop.pay(client, made)

    fact = await client.fetch(made.provider_ref)

    assert fact.capture_before is not None
    assert timedelta(days=6) < fact.capture_before - datetime.now(UTC) < timedelta(days=8)


async def test_a_key_of_another_request_leaves_the_outcome_unknown(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    await client.create(shop.order(), key="pay.1.create.1")
    other = shop.order(amount=Money(amount_minor=1, currency="RUB"))

    with pytest.raises(clients.OutcomeUnknown, match="another request"):
        await client.create(other, key="pay.1.create.1")


@pytest.mark.rule("PA9")
async def test_a_creation_that_timed_out_after_it_was_made_is_the_same_payment_when_repeated(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    order = shop.order()
    await shop.harness.fault("yookassa", "timeout_after_commit")
    with pytest.raises(clients.OutcomeUnknown):
        await own(shop, timeout_s=0.3).create(order, key="pay.1.create.1")

    fact = await client.create(order, key="pay.1.create.1")

    assert [made["id"] for made in await shop.harness.made("yookassa")] == [fact.provider_ref]
    posted = [one for one in await shop.harness.requests("yookassa") if one["method"] == "POST"]
    assert {one["idempotence_key"] for one in posted} == {"pay.1.create.1"}


async def test_a_creation_at_an_address_that_is_not_there_is_rejected(
    client: yookassa.api.YooKassa, shop: yookassa_adapter.Adapter
) -> None:
    await shop.harness.fault("yookassa", "http:404")

    with pytest.raises(clients.Rejected, match="not_found"):
        await client.create(shop.order(), key="pay.1.create.1")


# --- how answers are read ---------------------------------------------------------------------------------


async def test_undocumented_members_are_ignored(shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi) -> None:
    fact = await fetched(shop, api, {**ANSWER, "unheard_of": {"deep": [1]}})

    assert (fact.state, fact.amount) == ("paid", Money(amount_minor=150_000, currency="RUB"))
    assert (fact.captured_minor, fact.refunded_minor, fact.fee_minor) == (150_000, 0, 5_250)
    assert fact.payment_id == UUID(int=1)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": {"value": 1500, "currency": "RUB"}},
        {"amount": {"value": 1500.0, "currency": "RUB"}},
        {"income_amount": {"value": "much", "currency": "RUB"}},
        {"income_amount": "1447.50"},
        {"confirmation": {"confirmation_url": "javascript:alert(1)"}},
        {"captured_at": "yesterday"},
        {"expires_at": 10**30},
        {"cancellation_details": {"party": "payment_network", "reason": "Try again later!"}},
    ],
)
async def test_an_odd_member_that_decides_nothing_about_money_hides_no_payment(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, change: dict[str, Any]
) -> None:
    fact = await fetched(shop, api, {**ANSWER, **change})

    assert (fact.state, fact.amount.amount_minor, fact.captured_minor) == ("paid", 150_000, 150_000)
    assert fact.confirmation_url is None


async def test_a_payment_in_a_currency_that_we_do_not_use_is_foreign(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    foreign = {**ANSWER, "amount": {"value": "1500.00", "currency": "CNY"}, "metadata": {}}

    with pytest.raises(clients.Foreign):
        await fetched(shop, api, foreign)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_known_by_the_status_alone(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, status: int
) -> None:
    api.status = status

    with pytest.raises(clients.AuthFailed):
        await fetched(shop, api, b"<html>Not for you</html>")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "paid"},
        {"status": None},
        {"amount": {"value": 1500.001, "currency": "RUB"}},
        {"amount": {"value": 1e16, "currency": "RUB"}},
        {"amount": {"value": True, "currency": "RUB"}},
        {"amount": {"value": "1500.001", "currency": "RUB"}},
        {"amount": {"value": "1e3", "currency": "RUB"}},
        {"amount": {"value": "-1.00", "currency": "RUB"}},
        {"amount": {"value": "0.00", "currency": "RUB"}},
        {"amount": {"value": "1500.00", "currency": "JPY"}},
        {"amount": "1500.00"},
        {"refunded_amount": {"value": "1.00", "currency": "USD"}},
        {"refunded_amount": {"value": "-1.00", "currency": "RUB"}},
        {"test": "true"},
        {"test": None},
        {"recipient": None},
        {"created_at": "2026-08-01T10:00:00"},
        {"created_at": "yesterday"},
        {"id": "../refunds"},
    ],
)
async def test_a_response_of_another_form_leaves_the_outcome_unknown(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, change: dict[str, Any]
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, {**ANSWER, **change})


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"id": 1', b"\xff\xfe", b" " * 1_100_000])
async def test_an_unreadable_response_leaves_the_outcome_unknown(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, body: bytes
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, body)


@pytest.mark.parametrize("metadata", [None, {}, {"payment_id": "no uuid"}, {"payment_id": 5}])
async def test_metadata_that_names_no_payment_gives_no_id(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, metadata: Any
) -> None:
    assert (await fetched(shop, api, {**ANSWER, "metadata": metadata})).payment_id is None


@pytest.mark.parametrize(
    ("held", "amount_minor"),
    [("200000", 200_000), ("150000", 150_000), ("100", 150_000), ("-5", 150_000), ("x", 150_000), (5, 150_000)],
)
async def test_a_payment_is_never_below_its_captured_amount(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, held: object, amount_minor: int
) -> None:
    fact = await fetched(shop, api, {**ANSWER, "metadata": {"held_minor": held}})

    assert (fact.amount.amount_minor, fact.captured_minor) == (amount_minor, 150_000)


@pytest.mark.parametrize(
    "income", [{"value": "1600.00", "currency": "RUB"}, {"value": "14.00", "currency": "USD"}, None]
)
async def test_an_impossible_fee_is_left_out(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, income: object
) -> None:
    assert (await fetched(shop, api, {**ANSWER, "income_amount": income})).fee_minor is None


@pytest.mark.parametrize("status", [301, 302, 400, 404, 451])
async def test_an_error_of_a_proxy_is_not_definite(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi, status: int
) -> None:
    api.status = status

    with pytest.raises(clients.OutcomeUnknown):
        await fetched(shop, api, b"<html>Not here</html>")


async def test_a_refund_that_is_pending_for_ever_in_pages_has_an_end(
    shop: yookassa_adapter.Adapter, api: scripted_api.ScriptedApi
) -> None:
    api.reply = lambda _path, _parameters: {"items": [], "next_cursor": "again"}

    with pytest.raises(clients.OutcomeUnknown):
        await own(shop, base_url=api.url).fetch_refunds(REF)

    assert len(api.requests) == yookassa.api.REFUND_PAGES_MAX


# --- amounts ----------------------------------------------------------------------------------------------


@given(st.integers(min_value=1, max_value=10**17), st.sampled_from(sorted(objects.EXPONENTS)))
def test_every_amount_survives_the_way_there_and_back(amount_minor: int, currency: str) -> None:
    amount = Money(amount_minor=amount_minor, currency=currency)

    assert objects.minor_of(objects.decimal_of(amount), currency) == amount_minor


@pytest.mark.parametrize(
    ("value", "minor"),
    [("100.00", 10_000), ("100", 10_000), ("0.01", 1), ("0.1", 10), ("5.500", 550), ("99999999999999.99", 10**16 - 1)],
)
def test_an_amount_is_read_exactly(value: str, minor: int) -> None:
    assert objects.minor_of(value, "RUB") == minor


@pytest.mark.parametrize("value", ["", "1,00", "1.005", " 1.00", "1.00 ", "+1.00", "01.00", "٣.00", "1.", ".5", "NaN"])
def test_an_amount_that_is_not_exact_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        objects.minor_of(value, "RUB")
