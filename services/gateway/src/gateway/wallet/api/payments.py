"""Payments into the wallet: creating one through a provider, and reading it."""

import ipaddress
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, model_validator

from chassis import database, errors, outbox, strict_json
from contracts import message, payments
from gateway.api import authentication, deps, document, ids, writes
from gateway.domain import commands, sessions
from gateway.wallet import domain, store

URL_MAX_CHARS = 2_048
_URL = TypeAdapter(HttpUrl)

router = APIRouter(prefix="/payments", tags=["payments"], route_class=strict_json.Route)


class PaymentNotFound(errors.Refusal):
    """You have no such payment."""

    code = "payment_not_found"
    status = 404


def _return_url(text: str) -> str:
    """Return a URL in its normal form. Raises ValueError unless the payer can safely be sent there."""
    url = _URL.validate_python(text)
    # Plain HTTP is for a developer's own machine; a user name in a URL can make a phishing site look familiar.
    if url.scheme != "https" and not _is_loopback(url.host or ""):
        raise ValueError("must be an https address")
    if url.username is not None or url.password is not None:
        raise ValueError("must not carry a user name or password")
    if len(str(url)) > URL_MAX_CHARS:
        raise ValueError("is too long")
    return str(url)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Amount(BaseModel):
    """An amount as a client sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount_minor: Annotated[message.PositiveMinor, Field(examples=[150_000])]
    currency: Annotated[message.Currency, Field(examples=["RUB"])]


class ReceiptContact(BaseModel):
    """Where the fiscal receipt is sent: an email address, or a phone number with its country code."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: Annotated[
        str | None, Field(max_length=254, pattern=r"^[^\s@\x00]+@[^\s@\x00]+$", examples=["payer@example.org"])
    ] = None
    phone: Annotated[
        str | None, Field(max_length=32, pattern=r"^\+?[0-9][0-9 ()-]{4,}$", examples=["+7 900 123-45-67"])
    ] = None

    @model_validator(mode="after")
    def _is_one(self) -> "ReceiptContact":
        if (self.email is None) == (self.phone is None):
            raise ValueError("give either an email or a phone")
        if not 5 <= len(self.digits or "00000") <= 15:
            raise ValueError("a phone has 5 to 15 digits")
        return self

    @property
    def digits(self) -> str | None:
        """The phone in digits."""
        return None if self.phone is None else re.sub(r"[^0-9]", "", self.phone)


class TopUp(BaseModel):
    """A payment into the user's own wallet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    purpose: Literal["top_up"]
    amount: Amount
    provider: payments.Provider
    return_url: Annotated[
        str,
        Field(min_length=1, max_length=URL_MAX_CHARS, examples=["https://t.me/kopilka_bot/app"]),
        AfterValidator(_return_url),
    ]
    description: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
            description="What the payer and their bank read; the shop's own title without it.",
            examples=["Tokens for pictures"],
        ),
    ] = None
    receipt_contact: ReceiptContact | None = None


@router.post(
    "",
    status_code=201,
    response_model=domain.payments.Payment,
    responses={
        202: {
            "model": domain.payments.Payment,
            "description": "Accepted; read `Location` after `Retry-After` seconds.",
        },
        **document.responses(
            *document.PERSON,
            *document.KEY,
            *document.BODY,
            "409 payment_refused",
            "422 currency_not_supported",
            "422 amount_out_of_range",
        ),
    },
    openapi_extra=document.WRITE,
)
async def top_up(
    body: TopUp, request: Request, deps: deps.FromRequest, session: authentication.Session
) -> JSONResponse:
    """Create a payment through a provider; answered with the page where the payer continues."""
    amount = message.Money(amount_minor=body.amount.amount_minor, currency=body.amount.currency)
    domain.topups.require_permitted(body.provider, amount, deps.settings.top_ups or domain.topups.LIMITS)
    command = writes.command_of(request, session, body, operation="POST /payments")
    async with deps.db.transaction() as tx:
        accepted = await writes.claim(tx, command)
        if not accepted.is_replay:
            create_payment = payments.CreatePayment(
                tenant=accepted.tenant,
                payment_id=payments.PaymentId(accepted.id),
                user_id=accepted.user_id,
                purpose=body.purpose,
                amount=amount,
                provider=body.provider,
                return_url=body.return_url,
                description=body.description,
                receipt_contact=_contact(body.receipt_contact),
                payer=await _payer(tx, session, body.provider),
            )
            await store.payments.accept(tx, create_payment)
            await outbox.put(tx, [create_payment])
    return await writes.respond(deps, request, accepted, _read)


@router.get(
    "/{payment_id}",
    responses=document.responses(*document.PERSON, "404 payment_not_found"),
    openapi_extra=document.PERSONAL,
)
async def payment(payment_id: str, deps: deps.FromRequest, session: authentication.Session) -> domain.payments.Payment:
    """Return a payment of the user."""
    async with deps.db.statement() as tx:
        payment = await store.payments.get(
            tx, session.tenant, ids.parse(payment_id, PaymentNotFound), owner=session.user_id
        )
    if payment is None:
        raise PaymentNotFound
    return payment


async def _read(tx: database.Tx, command: commands.Command) -> tuple[domain.payments.Payment, commands.Answer | None]:
    payment = await store.payments.get(tx, command.tenant, command.id, owner=command.user_id)
    assert payment is not None  # it was stored with the command
    return payment, _answer(payment)


def _contact(contact: ReceiptContact | None) -> payments.ReceiptContact | None:
    return None if contact is None else payments.ReceiptContact(email=contact.email, phone=contact.digits)


async def _payer(tx: database.Tx, session: sessions.Session, provider: payments.Provider) -> str | None:
    """Return the only account that may pay an invoice in Stars, because it can be forwarded; None for others."""
    if provider != "stars":
        return None
    telegram_id = await store.payments.telegram_id_of(tx, session.tenant, session.user_id)
    if telegram_id is None:
        raise sessions.TokenInvalid
    return str(telegram_id)


def _answer(payment: domain.payments.Payment) -> commands.Answer | None:
    if payment.status == "created":
        return None
    if payment.status == "failed":
        body = {
            "code": "payment_refused",
            "detail": "The provider refused the payment; no money was taken.",
            "payment_id": str(payment.id),
            "failure_code": payment.failure_code,
            "failure_reason": payment.failure_reason,
        }
        return commands.Answer(409, body)
    return commands.Answer(201, payment.model_dump(mode="json"))
