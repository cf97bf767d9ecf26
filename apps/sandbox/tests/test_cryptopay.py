"""Crypto Pay through the client library aiosend; plain HTTP only for requests that aiosend cannot send."""

# ruff: noqa: ASYNC212 - the sandbox serves from a thread of its own, so a short blocking call is harmless
import hashlib
import hmac
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiosend
import httpx
import pytest
from aiosend import enums, exceptions
from aiosend.client import Network

Received = Callable[[int], list[dict[str, Any]]]
# aiosend passes an argument of aiohttp by its deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:ssl_context is deprecated:DeprecationWarning")

TOKEN = "10001:DEMO-kopilka-sandbox-crypto-pay-0000000"
USDT, TON = enums.Asset.USDT, enums.Asset.TON


@pytest.fixture
def app(ctl: httpx.Client, sandbox_url: str) -> aiosend.CryptoPay:
    return aiosend.CryptoPay(TOKEN, Network(name="SANDBOX", base=f"{sandbox_url}/cryptopay/api/{{method}}"))


@pytest.fixture
def call(ctl: httpx.Client, sandbox_url: str) -> Callable[..., httpx.Response]:
    def call(method: str, **request: Any) -> httpx.Response:
        headers = {"Crypto-Pay-API-Token": TOKEN}
        return httpx.post(f"{sandbox_url}/cryptopay/api/{method}", headers=headers, **request)

    return call


def act(ctl: httpx.Client, invoice: Any, action: str) -> Any:
    return ctl.post(f"/payments/{invoice.invoice_id}/{action}").raise_for_status().json()


async def test_get_me_returns_the_app(app: aiosend.CryptoPay) -> None:
    assert (await app.get_me()).app_id == 10001


async def test_a_paid_invoice_has_its_fee_and_rate(app: aiosend.CryptoPay, ctl: httpx.Client, sandbox_url: str) -> None:
    invoice = await app.create_invoice(12.5, USDT, description="Top-up", payload="p-1")

    act(ctl, invoice, "pay")

    [paid] = await app.get_invoices(invoice_ids=[invoice.invoice_id])
    assert (invoice.status, invoice.amount, invoice.payload) == ("active", 12.5, "p-1")
    assert invoice.bot_invoice_url == f"{sandbox_url}/pay/{invoice.invoice_id}"
    assert (paid.status, paid.fee_asset, paid.fee_amount) == ("paid", "USDT", 0.375)
    assert paid.paid_at is not None
    balance = {one.currency_code: one.available for one in await app.get_balance()}
    assert Decimal(str(balance[USDT])) == Decimal("12.125")


async def test_an_invoice_in_fiat_is_paid_in_an_accepted_asset(app: aiosend.CryptoPay, ctl: httpx.Client) -> None:
    fiat: Any = {"currency_type": enums.CurrencyType.FIAT, "fiat": enums.Fiat.RUB}
    invoice = await app.create_invoice(1500, accepted_assets=[TON, USDT], **fiat)

    act(ctl, invoice, "pay")

    [paid] = await app.get_invoices(fiat=enums.Fiat.RUB)
    assert (paid.amount, paid.fiat, paid.asset) == (1500, "RUB", None)
    assert (paid.paid_asset, paid.paid_amount) == ("TON", 6.25)


async def test_the_client_accepts_the_signature_of_a_webhook(
    app: aiosend.CryptoPay, ctl: httpx.Client, received: Received
) -> None:
    invoice = await app.create_invoice(1, TON, payload="ключ/1")
    act(ctl, invoice, "pay")
    handled: list[Any] = []
    client: Any = app  # its annotations say that it returns nothing

    @app.invoice_paid()
    async def handle(invoice: aiosend.types.Invoice) -> None:
        handled.append(invoice)

    [webhook] = received(1)
    is_forged_accepted = await client.feed_update(webhook["raw"] + b" ", webhook["headers"])
    is_accepted = await client.feed_update(webhook["raw"], webhook["headers"])

    key = hashlib.sha256(TOKEN.encode()).digest()
    signature = hmac.new(key, webhook["raw"], hashlib.sha256).hexdigest()
    assert webhook["headers"]["crypto-pay-api-signature"] == signature
    assert (webhook["body"]["update_type"], webhook["body"]["payload"]["payload"]) == ("invoice_paid", "ключ/1")
    assert (is_forged_accepted, is_accepted) == (False, True)
    assert [one.invoice_id for one in handled] == [invoice.invoice_id]


async def test_an_invoice_expires_on_the_virtual_clock_without_a_webhook(
    app: aiosend.CryptoPay, ctl: httpx.Client, received: Received
) -> None:
    by_time = await app.create_invoice(1, TON, expires_in=600)
    by_hand = await app.create_invoice(1, TON)

    ctl.post("/clock", json={"advance_s": 601}).raise_for_status()
    act(ctl, by_hand, "expire")

    assert {one.status for one in await app.get_invoices()} == {"expired"}
    assert ctl.post(f"/payments/{by_time.invoice_id}/pay").status_code == 409
    assert received(0) == []


async def test_declining_leaves_an_invoice_active(app: aiosend.CryptoPay, ctl: httpx.Client) -> None:
    invoice = await app.create_invoice(1, TON)

    act(ctl, invoice, "decline")

    assert [one.status for one in await app.get_invoices()] == ["active"]
    assert ctl.post(f"/payments/{invoice.invoice_id}/refund").status_code == 409


async def test_invoices_are_listed_in_pages_newest_first(app: aiosend.CryptoPay, ctl: httpx.Client) -> None:
    made = [await app.create_invoice(1, asset) for asset in (TON, USDT, TON)]
    act(ctl, made[0], "pay")

    listed = [one.invoice_id for one in await app.get_invoices()]

    assert listed == [one.invoice_id for one in reversed(made)]
    assert [one.invoice_id for one in await app.get_invoices(offset=1, count=1)] == [listed[1]]
    assert [one.invoice_id for one in await app.get_invoices(status=enums.InvoiceStatus.PAID)] == [listed[2]]
    assert [one.invoice_id for one in await app.get_invoices(asset=USDT)] == [listed[1]]


async def test_a_deleted_invoice_is_not_listed(app: aiosend.CryptoPay, ctl: httpx.Client) -> None:
    invoice = await app.create_invoice(1, TON)

    await app.delete_invoice(invoice.invoice_id)

    assert await app.get_invoices() == []
    assert ctl.post(f"/payments/{invoice.invoice_id}/pay").status_code == 409
    with pytest.raises(exceptions.APIError, match="INVOICE_NOT_FOUND"):
        await app.delete_invoice(invoice.invoice_id)


def test_amounts_are_formatted_without_exponent(ctl: httpx.Client, call: Callable[..., httpx.Response]) -> None:
    made = call("createInvoice", json={"asset": "BTC", "amount": "0.00000010"}).json()["result"]

    assert made["amount"] == "0.0000001"


def test_parameters_are_accepted_in_every_encoding(
    ctl: httpx.Client, call: Callable[..., httpx.Response], sandbox_url: str
) -> None:
    parameters = {"asset": "TON", "amount": "1.5"}

    answers = [
        call("createInvoice", json=parameters),
        call("createInvoice", data=parameters),
        call("createInvoice", params=parameters),
    ]

    assert [answer.json()["result"]["amount"] for answer in answers] == ["1.5"] * 3


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"amount": "1"}, "ASSET_INVALID"),
        ({"asset": "DOGE", "amount": "1"}, "ASSET_INVALID"),
        ({"asset": "TON"}, "AMOUNT_INVALID"),
        ({"asset": "TON", "amount": "0"}, "AMOUNT_INVALID"),
        ({"asset": "TON", "amount": "NaN"}, "AMOUNT_INVALID"),
        ({"asset": "TON", "amount": "1", "expires_in": 2_678_401}, "EXPIRES_IN_INVALID"),
        ({"asset": "TON", "amount": "1", "payload": "x" * 4097}, "PAYLOAD_INVALID"),
        ({"asset": "TON", "amount": "1", "accepted_assets": "USDT"}, "ACCEPTED_ASSETS_INVALID"),
        ({"asset": "TON", "amount": "1", "paid_btn_name": "callback"}, "PAID_BTN_URL_REQUIRED"),
        ({"currency_type": "fiat", "fiat": "XXX", "amount": "1"}, "FIAT_INVALID"),
    ],
)
def test_an_invalid_invoice_is_refused_with_an_error_name(
    ctl: httpx.Client, call: Callable[..., httpx.Response], parameters: dict[str, Any], name: str
) -> None:
    answer = call("createInvoice", json=parameters)

    assert answer.status_code == 400
    assert answer.json() == {"ok": False, "error": {"code": 400, "name": name}}


@pytest.mark.parametrize(
    ("method", "request_", "status", "name"),
    [
        ("getInvoices", {"json": {"count": 1001}}, 400, "COUNT_INVALID"),
        ("getInvoices", {"json": {"offset": "x"}}, 400, "OFFSET_INVALID"),
        ("getInvoices", {"json": {"count": []}}, 400, "COUNT_INVALID"),
        ("createInvoice", {"json": {"asset": [], "amount": {}}}, 400, "ASSET_INVALID"),
        ("deleteInvoice", {"json": {"invoice_id": []}}, 400, "INVOICE_NOT_FOUND"),
        ("getInvoices", {"content": b"{"}, 400, "BAD_REQUEST"),
        ("getInvoices", {"content": b"[]"}, 400, "BAD_REQUEST"),
        ("transfer", {"json": {}}, 405, "METHOD_NOT_FOUND"),
    ],
)
def test_a_malformed_call_is_refused(
    call: Callable[..., httpx.Response], method: str, request_: dict[str, Any], status: int, name: str
) -> None:
    answer = call(method, **request_)

    assert (answer.status_code, answer.json()["error"]["name"]) == (status, name)


def test_a_filter_without_matches_returns_nothing(call: Callable[..., httpx.Response]) -> None:
    call("createInvoice", json={"asset": "TON", "amount": "1"}).raise_for_status()

    answer = call("getInvoices", json={"asset": ["TON"], "status": {}})

    assert answer.json() == {"ok": True, "result": {"items": []}}


def test_a_wrong_token_is_unauthorized(ctl: httpx.Client, sandbox_url: str) -> None:
    answer = httpx.get(f"{sandbox_url}/cryptopay/api/getMe", headers={"Crypto-Pay-API-Token": "10001:other"})

    assert answer.json() == {"ok": False, "error": {"code": 401, "name": "UNAUTHORIZED"}}


async def test_faults_have_the_providers_error_format(app: aiosend.CryptoPay, ctl: httpx.Client) -> None:
    for fault in ("http:500", "http:429"):
        ctl.post("/faults", json={"target": "cryptopay", "route": "/api/createInvoice", "fault": fault})

    for name in ("INTERNAL_SERVER_ERROR", "TOO_MANY_REQUESTS"):
        with pytest.raises(exceptions.APIError, match=name):
            await app.create_invoice(1, TON)
    assert (await app.create_invoice(1, TON)).status == "active"
