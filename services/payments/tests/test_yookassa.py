import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import payments
from contracts.message import Money
from payments import clients, domain
from payments.clients import yookassa

Client = Callable[..., yookassa.YooKassa]

ANSWER: dict[str, Any] = {
    "id": "22e12f66-000f-5000-8000-18db351245c7",
    "status": "succeeded",
    "paid": True,
    "amount": {"value": "1500.00", "currency": "RUB"},
    "created_at": "2026-08-01T10:00:00.000Z",
    "captured_at": "2026-08-01T10:01:00.000Z",
    "recipient": {"account_id": "demo-shop", "gateway_id": "1"},
    "refundable": True,
    "test": True,
    "metadata": {"payment_id": "00000000-0000-0000-0000-000000000001", "tenant": "demo"},
    "payment_method": {"type": "bank_card", "card": {"last4": "4477"}},
}


@pytest.fixture
def payment(command: payments.CreatePayment) -> domain.Payment:
    return domain.requested(command, correlation_id="journey", traceparent=None)


@pytest.fixture
def client(client_of: Client, sandbox: Any) -> yookassa.YooKassa:
    return client_of(sandbox.yookassa_url)


async def test_a_created_payment_is_pending_with_a_page(
    client: yookassa.YooKassa, payment: domain.Payment, sandbox: Any
) -> None:
    fact = await client.create(payment, key="pay.1.create.1")

    assert fact.state is domain.State.PENDING
    assert fact.confirmation_url is not None
    assert fact.confirmation_url.startswith(sandbox.url)
    assert (fact.amount, fact.payment_id) == (payment.amount, payment.payment_id)
    assert (fact.shop_id, fact.is_test) == ("demo-shop", True)


async def test_the_payers_money_is_captured_at_once(
    client: yookassa.YooKassa, payment: domain.Payment, sandbox: Any
) -> None:
    made = await client.create(payment, key="pay.1.create.1")

    sandbox.act(made.provider_ref, "pay")

    fact = await client.fetch(made.provider_ref)
    assert fact.state is domain.State.PAID
    assert fact.paid_at is not None


async def test_a_declined_payment_is_canceled_with_its_reason(
    client: yookassa.YooKassa, payment: domain.Payment, sandbox: Any
) -> None:
    made = await client.create(payment, key="pay.1.create.1")

    sandbox.act(made.provider_ref, "decline")

    fact = await client.fetch(made.provider_ref)
    assert (fact.state, fact.reason) == (domain.State.CANCELED, "insufficient_funds")


@pytest.mark.rule("PA9")
async def test_a_creation_that_timed_out_after_it_was_made_is_the_same_payment_when_repeated(
    client_of: Client, payment: domain.Payment, sandbox: Any
) -> None:
    hasty = client_of(sandbox.yookassa_url, timeout_s=0.3)
    sandbox.fault("timeout_after_commit")
    with pytest.raises(clients.OutcomeUnknown):
        await hasty.create(payment, key="pay.1.create.1")

    fact = await client_of(sandbox.yookassa_url).create(payment, key="pay.1.create.1")

    assert [made["id"] for made in sandbox.made()] == [fact.provider_ref]
    assert {request["idempotence_key"] for request in sandbox.requests("POST")} == {"pay.1.create.1"}


@pytest.mark.parametrize("fault", ["http:500", "http:503", "drop", "timeout_before"])
async def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(
    client_of: Client, payment: domain.Payment, sandbox: Any, fault: str
) -> None:
    client = client_of(sandbox.yookassa_url, timeout_s=0.3)
    sandbox.fault(fault)

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(payment, key="pay.1.create.1")


async def test_a_key_used_for_another_payment_is_rejected(client: yookassa.YooKassa, command: Any) -> None:
    one = domain.requested(command, correlation_id="journey", traceparent=None)
    other = domain.requested(
        command.model_copy(update={"amount": Money(amount_minor=1, currency="RUB")}),
        correlation_id="journey",
        traceparent=None,
    )
    await client.create(one, key="pay.1.create.1")

    with pytest.raises(clients.Rejected) as rejected:
        await client.create(other, key="pay.1.create.1")

    assert rejected.value.code == "invalid_request"


async def test_after_too_many_requests_nothing_is_sent_until_the_time_is_over(
    client: yookassa.YooKassa, payment: domain.Payment, sandbox: Any
) -> None:
    sandbox.fault("http:429:30")
    with pytest.raises(clients.RateLimited) as limited:
        await client.create(payment, key="pay.1.create.1")

    with pytest.raises(clients.RateLimited):
        await client.fetch("any")

    assert limited.value.retry_after_s == 30
    assert len(sandbox.requests("POST")) == 1
    assert sandbox.requests("GET") == []


async def test_a_wrong_secret_is_told_apart(client_of: Client, payment: domain.Payment, sandbox: Any) -> None:
    client = client_of(sandbox.yookassa_url, secret_key="wrong")

    with pytest.raises(clients.AuthFailed):
        await client.create(payment, key="pay.1.create.1")


async def test_a_payment_that_the_provider_does_not_know_is_not_found(client: yookassa.YooKassa) -> None:
    with pytest.raises(clients.NotFound):
        await client.fetch("22e12f66-000f-5000-8000-18db351245c7")


async def test_a_creation_at_an_address_that_is_not_there_is_rejected(
    client: yookassa.YooKassa, payment: domain.Payment, sandbox: Any
) -> None:
    sandbox.fault("http:404")

    with pytest.raises(clients.Rejected) as rejected:
        await client.create(payment, key="pay.1.create.1")

    assert rejected.value.code == "not_found"


async def test_a_currency_that_the_provider_does_not_take_is_rejected_without_a_call(
    client: yookassa.YooKassa, command: Any, sandbox: Any
) -> None:
    points = command.model_copy(update={"amount": Money(amount_minor=5, currency="POINTS")})

    with pytest.raises(clients.Rejected) as rejected:
        await client.create(domain.requested(points, correlation_id="journey", traceparent=None), key="k")

    assert rejected.value.code == "currency_not_supported"
    assert sandbox.requests("POST") == []


async def test_nobody_listening_leaves_the_outcome_unknown(client_of: Client, payment: domain.Payment) -> None:
    client = client_of("http://127.0.0.1:9")

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(payment, key="pay.1.create.1")


async def test_what_is_not_documented_is_not_looked_at(client_of: Client, liar: Any) -> None:
    liar.says({**ANSWER, "unheard_of": {"deep": [1]}})

    fact = await client_of(liar.url).fetch("any")

    assert (fact.state, fact.amount) == (domain.State.PAID, Money(amount_minor=150_000, currency="RUB"))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "paid"},
        {"status": None},
        {"amount": {"value": 1500, "currency": "RUB"}},
        {"amount": {"value": "1500.001", "currency": "RUB"}},
        {"amount": {"value": "1e3", "currency": "RUB"}},
        {"amount": {"value": "-1.00", "currency": "RUB"}},
        {"amount": {"value": "0.00", "currency": "RUB"}},
        {"amount": {"value": "1500.00", "currency": "JPY"}},
        {"amount": "1500.00"},
        {"test": "true"},
        {"test": None},
        {"recipient": None},
        {"created_at": "2026-08-01T10:00:00"},
        {"created_at": "yesterday"},
        {"id": "../refunds"},
        {"confirmation": {"confirmation_url": "javascript:alert(1)"}},
    ],
)
async def test_an_answer_of_another_shape_is_not_believed(client_of: Client, liar: Any, change: dict[str, Any]) -> None:
    liar.says({**ANSWER, **change})

    with pytest.raises(clients.OutcomeUnknown):
        await client_of(liar.url).fetch("any")


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"id": 1', b"\xff\xfe", b" " * 300_000])
async def test_an_answer_that_cannot_be_read_is_not_believed(client_of: Client, liar: Any, body: bytes) -> None:
    liar.body = body

    with pytest.raises(clients.OutcomeUnknown):
        await client_of(liar.url).fetch("any")


@pytest.mark.parametrize("metadata", [None, {}, {"payment_id": "no uuid"}, {"payment_id": 5}])
async def test_metadata_that_names_no_payment_gives_no_id(client_of: Client, liar: Any, metadata: Any) -> None:
    liar.says({**ANSWER, "metadata": metadata})

    assert (await client_of(liar.url).fetch("any")).payment_id is None


async def test_a_redirect_is_not_followed(client_of: Client, liar: Any) -> None:
    liar.status = 302

    with pytest.raises(clients.OutcomeUnknown):
        await client_of(liar.url).fetch("any")


@given(st.integers(min_value=1, max_value=10**17), st.sampled_from(sorted(yookassa.EXPONENTS)))
def test_every_amount_survives_the_way_there_and_back(amount_minor: int, currency: str) -> None:
    amount = Money(amount_minor=amount_minor, currency=currency)

    assert yookassa.money_of(yookassa.decimal_of(amount), currency) == amount


@pytest.mark.parametrize(
    ("value", "minor"),
    [("100.00", 10_000), ("100", 10_000), ("0.01", 1), ("0.1", 10), ("5.500", 550), ("99999999999999.99", 10**16 - 1)],
)
def test_an_amount_is_read_exactly(value: str, minor: int) -> None:
    assert yookassa.money_of(value, "RUB").amount_minor == minor


@pytest.mark.parametrize("value", ["", "1,00", "1.005", " 1.00", "1.00 ", "+1.00", "01.00", "٣.00", "1.", ".5", "NaN"])
def test_an_amount_that_is_not_exact_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        yookassa.money_of(value, "RUB")


@pytest.mark.parametrize(
    ("event", "subject", "ref"),
    [
        ("payment.succeeded", {"id": "ref-1"}, "ref-1"),
        ("payment.canceled", {"id": "ref-1", "status": "canceled"}, "ref-1"),
        ("refund.succeeded", {"id": "refund-1", "payment_id": "ref-1"}, "ref-1"),
        ("payout.succeeded", {"id": "payout-1"}, None),
    ],
)
async def test_a_notification_tells_at_which_payment_to_look(
    client_of: Client, event: str, subject: dict[str, str], ref: str | None
) -> None:
    body = json.dumps({"type": "notification", "event": event, "object": subject}).encode()

    hint = client_of("http://127.0.0.1:9").read(body)

    assert (hint.provider_ref, hint.dedupe_key) == (ref, f"{event}:{subject['id']}")


@pytest.mark.parametrize(
    ("peer", "is_admitted"),
    [
        ("185.71.76.1", True),
        ("185.71.76.31", True),
        ("185.71.76.32", False),
        ("77.75.156.11", True),
        ("77.75.156.12", False),
        ("::ffff:185.71.76.1", True),
        ("2a02:5180:0:1509::1", True),
        ("2a02:5181::1", False),
        ("127.0.0.1", False),
        ("", False),
        ("unix", False),
    ],
)
async def test_only_published_addresses_are_admitted(client_of: Client, peer: str, is_admitted: bool) -> None:  # noqa: FBT001 - a table's column
    assert client_of("http://127.0.0.1:9").admits(peer) is is_admitted
