"""Crypto Pay, the API of @CryptoBot (https://help.send.tg, "Crypto Pay API"): invoices in crypto assets.

Amounts are decimals on the wire and integers here, by exact arithmetic only. Crypto Pay can't refund.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Annotated, Any, Literal, TypeVar

import httpx
from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError

from contracts.message import AMOUNT_MINOR_MAX, Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.domain import accounts, facts

# The assets that the ledger has, with the decimals of their minor unit.
EXPONENTS = {"USDT": 6, "TON": 9, "BTC": 8, "USDC": 6}
# The hosts of the main and the test network. For any other host, an imitation, the account's `is_test` counts.
TEST_HOSTS = {"pay.crypt.bot": False, "testnet-pay.crypt.bot": True}
DESCRIPTION_MAX = 1024
# The longest lifetime that an invoice may have.
INVOICE_LIFE_MAX = timedelta(days=31)
# An invoice may be older than today's setting of the lifetime.
LIFE_SLACK = timedelta(days=1)
PAGE = 100  # invoices in one answer: their JSON stays far below what we read
OFFSET_MAX = 10_000_000
# Its rate limit names no time to wait.
RETRY_AFTER_S = 5.0

_TOKEN = re.compile(r"([0-9]{1,20}):[A-Za-z0-9_-]{1,128}")
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,24})(?:\.[0-9]{1,30})?", re.ASCII)
_REF = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_EXACT = Context(prec=80)  # more digits than the pattern above lets in
_STATES: Mapping[str, facts.FactState] = {"active": "pending", "paid": "paid", "expired": "canceled"}
_Id = Annotated[int, Field(gt=0, lt=2**63)]


_S = TypeVar("_S", bound=provider_json.ProviderJson)


def _plain(value: object) -> Decimal:
    """Read a JSON number or a string. An exponent could make an integer of a billion digits out of ten characters."""
    text = f"{value:f}" if isinstance(value, Decimal) and -30 <= value.adjusted() <= 24 else str(value)
    if isinstance(value, bool) or _DECIMAL.fullmatch(text) is None:
        raise ValueError("not a plain decimal")
    return Decimal(text)


_Amount = Annotated[Decimal, BeforeValidator(_plain)]


class _Invoice(provider_json.ProviderJson):
    invoice_id: _Id
    status: Literal["active", "paid", "expired"]
    currency_type: Literal["crypto", "fiat"]
    amount: _Amount
    created_at: Annotated[AwareDatetime, Field(strict=False)]
    asset: Annotated[str, Field(max_length=12)] | None = None
    payload: Annotated[str, Field(max_length=4096)] | None = None
    bot_invoice_url: Annotated[
        Annotated[str, Field(max_length=2048, pattern=r"^https?://")] | None, provider_json.LENIENT
    ] = None
    expiration_date: provider_json.OptionalTime = None
    paid_at: provider_json.OptionalTime = None
    fee_asset: Annotated[Annotated[str, Field(max_length=12)] | None, provider_json.LENIENT] = None
    fee_amount: Annotated[_Amount | None, provider_json.LENIENT] = None


class _Made(provider_json.ProviderJson):
    ok: Literal[True]
    result: _Invoice


class _Invoices(provider_json.ProviderJson):
    items: Annotated[list[_Invoice], Field(max_length=PAGE)]


class _Listed(provider_json.ProviderJson):
    ok: Literal[True]
    result: _Invoices


class _Subject(provider_json.ProviderJson):
    invoice_id: _Id


class _Update(provider_json.ProviderJson):
    update_type: Annotated[str, Field(min_length=1, max_length=256)]
    payload: Any = None


class _Error(provider_json.ProviderJson):
    name: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_]+$")]


class _Refused(provider_json.ProviderJson):
    error: _Error


class CryptoPay(unsupported.UnsupportedCalls):
    """One app at Crypto Pay."""

    capabilities = frozenset({accounts.Capability.FETCH, accounts.Capability.LIST})
    # There are no keys, but an invoice whose response was lost can't be paid: nobody has its address, and it expires.
    key_lifetime: timedelta | None = None

    def __init__(self, account: accounts.Account, *, base_url: str, timeout_s: float, token: str) -> None:
        """Prepare the client; the first call connects. The app's id is the first part of its token."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError("the app's token is not of the form 12345:ABC")
        self.account = replace(account, capabilities=self.capabilities)
        self._app_id = match[1]
        self._is_test = TEST_HOSTS.get(httpx.URL(base_url).host, account.is_test)
        self._signature = hmac.new(hashlib.sha256(token.encode()).digest(), digestmod=hashlib.sha256)
        self._http = http.Http(account, base_url=base_url, timeout_s=timeout_s, headers={"Crypto-Pay-API-Token": token})

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        """Raise Forged unless the app's token signed these bytes, whenever: a webhook only makes us fetch the invoice.

        Crypto Pay repeats a webhook for three days and then switches it off, so a refused old one costs the shop all.
        """
        signature = self._signature.copy()
        signature.update(webhook.body)
        given = webhook.headers.get("crypto-pay-api-signature", "")
        if not hmac.compare_digest(given.encode(), signature.hexdigest().encode()):
            raise clients.Forged("bad_signature")

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored:
        """Read an update: which invoice to fetch. Raises Malformed.

        The invoice is the key: the id of an update is not unique, and its date is that of the request.
        """
        update = _read(webhook.body, _Update)
        if update.update_type != "invoice_paid":
            return facts.Ignored(update.update_type)
        ref = str(_valid(update.payload, _Subject).invoice_id)
        return facts.WebhookContent(event="invoice_paid", dedupe_key=f"invoice_paid:{ref}", provider_ref=ref)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:  # noqa: ARG002 - Crypto Pay knows no keys
        """Create an invoice with the lifetime of the account's payments."""
        asset = order.amount.currency
        if asset not in EXPONENTS:
            raise clients.Rejected("currency_not_supported")
        life_s = min(self.account.payment_ttl, INVOICE_LIFE_MAX).total_seconds()
        made = await self._call(
            "create",
            "createInvoice",
            _Made,
            currency_type="crypto",
            asset=asset,
            amount=written(order.amount),
            payload=str(order.payment_id),
            expires_in=int(life_s),
            allow_comments=False,
            **({"description": order.description[:DESCRIPTION_MAX]} if order.description else {}),
            **_way_back(order.return_url),
        )
        return self._fact(made.result)

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Fetch an invoice."""
        if _REF.fullmatch(provider_ref) is None:
            raise clients.NotFound
        listed = await self._call("fetch", "getInvoices", _Listed, invoice_ids=provider_ref, count=1)
        for invoice in listed.result.items:
            if str(invoice.invoice_id) == provider_ref:
                return self._fact(invoice)
        raise clients.NotFound

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give a page of invoices that were made or paid in a period.

        Crypto Pay lists them newest first by their creation, so it goes back as far as one of ours can live. New ones
        move others to the next page meanwhile: they come twice, and none is missed.
        """
        offset = int(cursor or 0)
        listed = await self._call("list", "getInvoices", _Listed, offset=offset, count=PAGE)
        items = listed.result.items
        earliest = since - min(self.account.payment_ttl, INVOICE_LIFE_MAX) - LIFE_SLACK
        is_last = len(items) < PAGE or items[-1].created_at < earliest or offset + PAGE > OFFSET_MAX
        # Invoices in fiat, or in assets that the ledger does not have, are not ours.
        ours = (one for one in items if _minor(one.amount, one.asset) is not None)
        within = (one for one in ours if any(since <= at < until for at in (one.created_at, one.paid_at) if at))
        return facts.Page(
            movements=tuple(self._fact(one) for one in within), cursor=None if is_last else str(offset + PAGE)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _call(self, op: str, method: str, shape: type[_S], **parameters: Any) -> _S:
        body = await self._http.call(op, "POST", f"/api/{method}", refusal=_refusal, json=parameters)
        try:
            return _read(body, shape)
        except clients.Malformed:
            raise clients.Unreadable("the answer is unreadable") from None

    def _fact(self, invoice: _Invoice) -> facts.Fact:
        amount = _minor(invoice.amount, invoice.asset)
        if amount is None or invoice.asset is None:
            if provider_json.payment_id(invoice.payload) is not None:
                raise clients.Unreadable("an invoice of ours with an amount that can't be read")
            raise clients.Foreign("an invoice that we can't have made")
        is_paid = invoice.status == "paid"
        return facts.Fact(
            provider_ref=str(invoice.invoice_id),
            state=_STATES[invoice.status],
            amount=Money(amount_minor=amount, currency=invoice.asset),
            captured_minor=amount if is_paid else 0,
            shop_id=self._app_id,
            is_test=self._is_test,
            payment_id=provider_json.payment_id(invoice.payload),
            created_at=invoice.created_at,
            fee_minor=_fee_minor(invoice) if is_paid else None,
            confirmation_url=invoice.bot_invoice_url,
            paid_at=invoice.paid_at,
            expires_at=invoice.expiration_date,
            reason="expired" if invoice.status == "expired" else None,
            failure_reason="expired" if invoice.status == "expired" else None,
        )


def written(amount: Money) -> str:
    """Write an amount as the decimal of its asset, without needless zeros."""
    whole, rest = divmod(amount.amount_minor, 10 ** EXPONENTS[amount.currency])
    return f"{whole}.{rest:0{EXPONENTS[amount.currency]}d}".rstrip("0").rstrip(".")


def _way_back(url: str) -> dict[str, str]:
    # Crypto Pay accepts only web addresses for the button.
    return {"paid_btn_name": "callback", "paid_btn_url": url} if url.startswith(("https://", "http://")) else {}


def _minor(value: Decimal, asset: str | None) -> int | None:
    """Give the exact minor units; None where there is no such integer or the asset is not the ledger's."""
    if asset not in EXPONENTS:
        return None
    scaled = _EXACT.scaleb(value, EXPONENTS[asset])
    return int(scaled) if scaled == int(scaled) and 0 < scaled <= AMOUNT_MINOR_MAX else None


def _fee_minor(invoice: _Invoice) -> int | None:
    if invoice.fee_amount is None or invoice.asset is None or invoice.fee_asset != invoice.asset:
        return None
    # A fee may be finer than our minor unit, and Crypto Pay writes it as a binary float: it is rounded to the nearest.
    return round(_EXACT.scaleb(invoice.fee_amount, EXPONENTS[invoice.asset]))


def _refusal(answer: http.Answer) -> clients.ProviderError:
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed()
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return http.rate_limited(RETRY_AFTER_S)
    if answer.status < 400 or answer.status >= 500:
        return clients.OutcomeUnknown(f"status {answer.status}")
    try:
        return clients.Rejected(_read(answer.body, _Refused).error.name.lower())
    except clients.Malformed:
        return clients.OutcomeUnknown(f"status {answer.status}")


def _read(body: bytes, shape: type[_S]) -> _S:
    try:
        # pydantic's own parser would make a binary float of a number before a Decimal.
        decoded = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError, ArithmeticError):
        raise clients.Malformed(clients.Malformed.__doc__) from None
    return _valid(decoded, shape)


def _valid(decoded: object, shape: type[_S]) -> _S:
    try:
        return shape.model_validate(decoded)
    except ValidationError:
        # Without its cause: a validation error repeats its input, which may be personal.
        raise clients.Malformed(clients.Malformed.__doc__) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
