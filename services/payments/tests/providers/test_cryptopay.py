"""Crypto Pay beyond what every provider promises: exact decimals, signatures, old webhooks, foreign invoices."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiosend
import httpx
import pytest
from aiosend import enums
from aiosend.client import Network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from providers import adapters, cryptopay_adapter, sandbox_harness, scripted_api

from contracts.message import AMOUNT_MINOR_MAX, Money
from payments import clients
from payments.clients import cryptopay
from payments.domain import facts

TOKEN = cryptopay_adapter.TOKEN
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# For clients that talk to nobody in the sandbox.
APP: Any = cryptopay_adapter.Adapter(None)  # type: ignore[arg-type]


@pytest.fixture
async def app(harness: sandbox_harness.Harness) -> AsyncIterator[cryptopay_adapter.Adapter]:
    made = cryptopay_adapter.Adapter(harness)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def api() -> Iterator[scripted_api.ScriptedApi]:
    with scripted_api.listening() as made:
        yield made


def own(base_url: str) -> cryptopay.api.CryptoPay:
    return cryptopay.api.CryptoPay(APP.account, base_url=base_url, timeout_s=5, token=TOKEN)


APP_CLIENT = own("http://127.0.0.1:9")


async def method(app: cryptopay_adapter.Adapter, name: str, **parameters: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False, headers={"Crypto-Pay-API-Token": TOKEN}) as http:
        answer = await http.post(f"{app.harness.url}/cryptopay/api/{name}", json=parameters)
    return answer.raise_for_status().json()["result"]


async def movements(client: clients.Provider, since: datetime, until: datetime) -> list[facts.Movement]:
    found: list[facts.Movement] = []
    cursor: str | None = None
    for _ in range(10):
        page = await client.list_movements(since, until, cursor)
        found += page.movements
        if (cursor := page.cursor) is None:
            break
    assert cursor is None
    return found


async def test_an_invoice_is_in_the_asset_and_expires_with_the_payment(
    app: cryptopay_adapter.Adapter,
) -> None:
    order = app.order()

    fact = await app.client().create(order, key="pay.1.create.1")

    [invoice] = await app.harness.made("cryptopay")
    assert (invoice["asset"], invoice["amount"], invoice["payload"]) == ("USDT", "12.500001", str(order.payment_id))
    assert (invoice["paid_btn_name"], invoice["paid_btn_url"]) == ("callback", order.return_url)
    assert fact.expires_at == fact.created_at + timedelta(hours=1)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (1, "USDT", "0.000001"),
        (1, "BTC", "0.00000001"),
        (1, "TON", "0.000000001"),
        (1_000_000, "USDC", "1"),
        (12_300_000_000, "TON", "12.3"),
        (10_000_000_000, "BTC", "100"),
    ],
)
async def test_the_least_unit_of_every_asset_comes_back_as_it_was_sent(
    app: cryptopay_adapter.Adapter, amount_minor: int, currency: str, written: str
) -> None:
    amount = Money(amount_minor=amount_minor, currency=currency)

    fact = await app.client().create(app.order(amount=amount), key="pay.1.create.1")

    assert (await app.harness.made("cryptopay"))[0]["amount"] == written
    assert fact.amount == amount


@given(
    amount_minor=st.integers(min_value=1, max_value=AMOUNT_MINOR_MAX),
    currency=st.sampled_from([*cryptopay.api.EXPONENTS]),
)
def test_an_amount_is_written_exactly_and_read_again(amount_minor: int, currency: str) -> None:
    written = cryptopay.api.written(Money(amount_minor=amount_minor, currency=currency))

    assert "e" not in written.lower()
    assert Decimal(written) * 10 ** cryptopay.api.EXPONENTS[currency] == amount_minor
    assert cryptopay.api._minor(Decimal(written), currency) == amount_minor


@pytest.mark.parametrize("return_url", ["", "tg://resolve?domain=shop", "javascript:1"])
async def test_a_way_back_that_crypto_pay_would_refuse_is_left_out(
    app: cryptopay_adapter.Adapter, return_url: str
) -> None:
    await app.client().create(app.order(return_url=return_url), key="pay.1.create.1")

    assert "paid_btn_url" not in (await app.harness.made("cryptopay"))[0]


async def test_the_fee_is_in_minor_units_of_the_asset(app: cryptopay_adapter.Adapter) -> None:
    client = app.client()
    made = await client.create(app.order(), key="pay.1.create.1")

    await app.pay(client, made)

    # Three parts in a hundred, 0.37500003, is finer than a unit of USDT.
    assert (await client.fetch(made.provider_ref)).fee_minor == 375_000


async def test_an_invoice_whose_answer_was_lost_is_replaced_and_can_not_be_paid_by_anybody(
    app: cryptopay_adapter.Adapter,
) -> None:
    order = app.order()
    await app.harness.fault("cryptopay", "timeout_after_commit", route="/api/createInvoice")
    with pytest.raises(clients.OutcomeUnknown):
        await app.client(timeout_s=0.4).create(order, key="pay.1.create.1")

    fact = await app.client().create(order, key="pay.1.create.1")

    shown, lost = await app.harness.made("cryptopay")
    assert (str(shown["invoice_id"]), lost["payload"]) == (fact.provider_ref, str(order.payment_id))
    assert lost["bot_invoice_url"] != fact.confirmation_url
    assert lost["expiration_date"]


async def test_an_invoice_that_we_can_not_have_made_is_foreign(app: cryptopay_adapter.Adapter) -> None:
    client = app.client()
    in_fiat = await method(app, "createInvoice", currency_type="fiat", fiat="EUR", amount="5")
    in_another = await method(app, "createInvoice", asset="LTC", amount="5")
    too_fine = await method(app, "createInvoice", asset="USDT", amount="5.0000001")

    for invoice in (in_fiat, in_another, too_fine):
        with pytest.raises(clients.Foreign):
            await client.fetch(str(invoice["invoice_id"]))

    now = datetime.now(UTC)
    assert await movements(client, now - timedelta(days=1), now + timedelta(days=1)) == []


async def test_an_unreadable_invoice_with_our_payload_is_not_taken_for_foreign(app: cryptopay_adapter.Adapter) -> None:
    payload = "0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e"
    invoice = await method(app, "createInvoice", asset="USDT", amount="5.0000001", payload=payload)

    with pytest.raises(clients.OutcomeUnknown):
        await app.client().fetch(str(invoice["invoice_id"]))


@pytest.mark.parametrize("payload", [None, "order-7", "0F3D2F8E-8D0C-4B8E-9A39-1F8A1C2B3D4E"])
async def test_an_invoice_without_our_payload_is_listed_and_names_no_payment_of_ours(
    app: cryptopay_adapter.Adapter, payload: str | None
) -> None:
    made = await method(app, "createInvoice", asset="TON", amount="5", **({"payload": payload} if payload else {}))
    await app.harness.act(str(made["invoice_id"]), "pay")

    now = datetime.now(UTC)
    [found] = await movements(app.client(), now - timedelta(days=1), now + timedelta(days=1))

    assert isinstance(found, facts.Fact)
    assert (found.payment_id, found.captured_minor) == (None, 5_000_000_000)


async def test_the_report_has_invoices_paid_long_after_their_creation(app: cryptopay_adapter.Adapter) -> None:
    client = cryptopay.api.CryptoPay(
        replace(app.account, payment_ttl=timedelta(days=7)),
        base_url=f"{app.harness.url}/cryptopay",
        timeout_s=5,
        token=TOKEN,
    )
    made = await client.create(app.order(), key="pay.1.create.1")
    await app.harness.control("POST", "/clock", advance_s=5 * 86_400)
    await app.pay(client, made)
    then = datetime.now(UTC) + timedelta(days=5)

    found = await movements(client, then - timedelta(hours=1), then + timedelta(hours=1))

    assert found == [await client.fetch(made.provider_ref)]
    await client.close()


# Crypto Pay repeats a webhook for three days, and then switches it off
@pytest.mark.parametrize("age", [timedelta(), timedelta(days=1), timedelta(days=30), timedelta(days=-1)])
async def test_a_signed_webhook_is_accepted_whatever_its_age(age: timedelta) -> None:
    dated = "2026-11-01T10:00:00.000Z"
    body = json.dumps({"update_id": 1, "update_type": "invoice_paid", "request_date": dated, "payload": {}})
    webhook = replace(APP.sealed(body.encode()), received_at=datetime.fromisoformat(dated) + age)

    APP_CLIENT.authenticate(webhook)


@pytest.fixture
def judge(app: cryptopay_adapter.Adapter) -> Any:
    """The published client, in front of the sandbox."""
    return aiosend.CryptoPay(TOKEN, Network(name="SANDBOX", base=f"{app.harness.url}/cryptopay/api/{{method}}"))


@many
@given(body=st.binary(max_size=200), change=st.integers(min_value=0, max_value=300))
async def test_the_published_client_accepts_the_same_signatures(judge: Any, body: bytes, change: int) -> None:
    client = own("http://127.0.0.1:9")
    headers = dict(APP.sealed(body).headers)
    seen = body if change >= len(body) else body[:change] + bytes([body[change] ^ 1]) + body[change + 1 :]

    try:
        client.authenticate(adapters.webhook(seen, **headers))
        is_believed = True
    except clients.Forged:
        is_believed = False

    assert is_believed is judge._check_signature(seen, headers) is (seen == body)
    await client.close()


def test_the_signature_is_the_one_of_the_documentation() -> None:
    body = b'{"update_id":1}'
    key = hashlib.sha256(TOKEN.encode()).digest()

    APP_CLIENT.authenticate(
        adapters.webhook(body, crypto_pay_api_signature=hmac.new(key, body, hashlib.sha256).hexdigest())
    )


@pytest.mark.parametrize("token", ["", "10001", ":abc", "10001:", "abc:def", "10001:a b"])
def test_without_a_token_there_is_no_client(token: str) -> None:
    with pytest.raises(ValueError, match="token is not") as refused:
        cryptopay.api.CryptoPay(APP.account, base_url="http://127.0.0.1:9", timeout_s=1, token=token)

    assert token == "" or token not in str(refused.value)


@pytest.mark.parametrize(
    ("base_url", "is_test"),
    [("https://pay.crypt.bot", False), ("https://testnet-pay.crypt.bot", True), ("http://127.0.0.1:9", True)],
)
def test_the_host_tells_the_network_and_for_imitations_the_account(base_url: str, is_test: bool) -> None:  # noqa: FBT001 - a table's column
    assert own(base_url)._is_test is is_test


def paid_invoice(**changes: Any) -> dict[str, Any]:
    return {
        "invoice_id": 7,
        "status": "paid",
        "currency_type": "crypto",
        "asset": "USDT",
        "amount": "5.25",
        "created_at": "2026-11-01T10:00:00.000Z",
        "paid_at": "2026-11-01T10:00:05.000Z",
        "fee_asset": "USDT",
        "fee_amount": 0.15750000000000003,
        **changes,
    }


async def fetched(api: scripted_api.ScriptedApi, invoice: Any) -> facts.Fact:
    raw = invoice if isinstance(invoice, bytes) else json.dumps(invoice).encode()
    api.reply = lambda _path, _parameters: b'{"ok":true,"result":{"items":[' + raw + b"]}}"
    client = own(api.url)
    try:
        return await client.fetch("7")
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("changes", "fee_minor"),
    [
        ({}, 157_500),
        ({"fee_amount": "0.1575"}, 157_500),
        ({"fee_amount": 0}, 0),
        ({"fee_amount": None}, None),
        ({"fee_asset": "TON"}, None),
        ({"fee_asset": None}, None),
    ],
)
async def test_a_fee_is_the_nearest_unit_and_unknown_in_another_asset(
    api: scripted_api.ScriptedApi, changes: dict[str, Any], fee_minor: int | None
) -> None:
    assert (await fetched(api, paid_invoice(**changes))).fee_minor == fee_minor


@pytest.mark.parametrize("amount", ["5.25", 5.25])
async def test_an_amount_may_be_a_number_or_a_text(api: scripted_api.ScriptedApi, amount: object) -> None:
    assert (await fetched(api, paid_invoice(amount=amount))).captured_minor == 5_250_000


async def test_a_number_of_many_digits_is_read_to_the_last_of_them(api: scripted_api.ScriptedApi) -> None:
    raw = json.dumps(paid_invoice(asset="TON", amount=0)).replace('"amount": 0', '"amount": 9007199.254740993')

    assert (await fetched(api, raw.encode())).captured_minor == 9_007_199_254_740_993


@pytest.mark.parametrize(
    "amount",
    ["-5", "+5", "5e1", "1e999999999", "NaN", "Infinity", "5,25", " 5", "", "\u0665", "05", None, True, [], {}],
)
async def test_an_amount_of_another_form_leaves_the_outcome_unknown(
    api: scripted_api.ScriptedApi, amount: object
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(api, paid_invoice(amount=amount))


@pytest.mark.parametrize("number", ["1e400", "1e999999999", "-1", "NaN", "9" * 5_000, "1." + "0" * 40])
async def test_a_number_of_another_form_leaves_the_outcome_unknown(api: scripted_api.ScriptedApi, number: str) -> None:
    raw = json.dumps(paid_invoice(amount=0)).replace('"amount": 0', f'"amount": {number}')

    with pytest.raises(clients.OutcomeUnknown):
        await fetched(api, raw.encode())


@pytest.mark.parametrize(
    "change",
    [{"paid_at": None}, {"paid_at": "now"}, {"fee_amount": "none"}, {"fee_asset": 7}, {"bot_invoice_url": "t.me"}],
)
async def test_an_odd_member_that_decides_nothing_about_money_hides_no_payment(
    api: scripted_api.ScriptedApi, change: dict[str, Any]
) -> None:
    fact = await fetched(api, paid_invoice(**change))

    assert (fact.state, fact.captured_minor) == ("paid", fact.amount.amount_minor)


@pytest.mark.parametrize("change", [{"status": "new"}, {"invoice_id": "7"}, {"created_at": "yesterday"}])
async def test_an_invoice_of_another_form_leaves_the_outcome_unknown(
    api: scripted_api.ScriptedApi, change: dict[str, Any]
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await fetched(api, paid_invoice(**change))


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b'{"ok":false}', b'{"ok":true,"result":{"items":7}}'])
async def test_an_answer_of_another_form_leaves_the_outcome_unknown(api: scripted_api.ScriptedApi, body: bytes) -> None:
    api.reply = lambda _path, _parameters: body
    client = own(api.url)

    with pytest.raises(clients.OutcomeUnknown):
        await client.fetch("7")
    await client.close()


async def test_another_invoice_than_the_requested_one_is_not_found(api: scripted_api.ScriptedApi) -> None:
    with pytest.raises(clients.NotFound):
        await fetched(api, paid_invoice(invoice_id=8))


# The client passes aiohttp an argument by its old name.
@pytest.mark.filterwarnings("ignore:ssl_context is deprecated:DeprecationWarning")
async def test_the_published_client_reads_the_invoice_that_we_made(app: cryptopay_adapter.Adapter, judge: Any) -> None:
    order = app.order()
    fact = await app.client().create(order, key="pay.1.create.1")

    [invoice] = await judge.get_invoices(invoice_ids=[int(fact.provider_ref)])

    assert (invoice.asset, invoice.amount) == (enums.Asset.USDT, 12.500001)
    assert invoice.payload == str(order.payment_id)


async def test_an_update_of_another_kind_is_about_no_payment() -> None:
    body = b'{"update_id":9,"update_type":"check_used","request_date":"2026-11-01T10:00:00Z","payload":[1]}'

    assert APP_CLIENT.read(APP.sealed(body)) == facts.Ignored("check_used")


async def test_the_invoice_is_the_key_and_neither_the_update_nor_its_date() -> None:
    bodies = [
        json.dumps(
            {"update_id": number, "update_type": "invoice_paid", "request_date": date, "payload": {"invoice_id": 7}}
        )
        for number, date in ((1, "2026-11-01T10:00:00Z"), (2, "2026-11-03T10:00:00Z"))
    ]

    first, again = (APP_CLIENT.read(APP.sealed(body.encode())) for body in bodies)

    assert first == again == facts.WebhookContent(event="invoice_paid", dedupe_key="invoice_paid:7", provider_ref="7")
