"""YooKassa's API v3 and its notifications (https://yookassa.ru/developers/api), over our own small client.

Every answer is checked strictly before anything of it is believed; money is integers here and strings on the wire.
"""

import asyncio
import base64
import re
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts import payments
from contracts.message import Money
from payments import clients, domain

ANSWER_BYTES_MAX = 256 * 1024
CONNECTIONS_MAX = 32
# Each idle connection is examined at every request, so only as many are kept as a steady flow uses.
CONNECTIONS_KEPT = 4
# Providers close idle connections after a minute or so; one that we close first never breaks under a request.
KEEPALIVE_S = 20
RETRY_AFTER_S, RETRY_AFTER_S_MAX = 1.0, 60.0

# Every currency that the provider accepts, with the decimals it writes.
EXPONENTS = dict.fromkeys(("RUB", "EUR", "USD", "KZT", "BYN", "UAH", "UZS", "TRY", "INR", "MDL", "AZN", "AMD"), 2)

_STATES: dict[str, domain.FactState] = {
    "pending": domain.State.PENDING,
    "waiting_for_capture": domain.State.AUTHORIZED,
    "succeeded": domain.State.PAID,
    "canceled": domain.State.CANCELED,
}
# Becomes a part of a path, so nothing else may be in it.
_Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
_VALUE = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,8}))?", re.ASCII)


class _Shape(BaseModel):
    """Untrusted JSON: known members must have their documented type; unknown ones are not looked at."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Amount(_Shape):
    value: Annotated[str, Field(max_length=32)]
    currency: Annotated[str, Field(max_length=3)]


class _Recipient(_Shape):
    account_id: Annotated[str, Field(max_length=64)]


class _Confirmation(_Shape):
    confirmation_url: Annotated[str, Field(max_length=2048, pattern=r"^https?://")] | None = None


class _Cancellation(_Shape):
    reason: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")]


class _Payment(_Shape):
    id: _Id
    status: Literal["pending", "waiting_for_capture", "succeeded", "canceled"]
    amount: _Amount
    created_at: AwareDatetime
    recipient: _Recipient
    test: bool
    metadata: dict[str, Any] | None = None
    confirmation: _Confirmation | None = None
    captured_at: AwareDatetime | None = None
    cancellation_details: _Cancellation | None = None


class _Error(_Shape):
    code: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9_]+$")]
    retry_after: Annotated[int, Field(ge=0)] | None = None


class _Subject(_Shape):
    id: _Id
    payment_id: _Id | None = None


class _Notification(_Shape):
    type: Literal["notification"]
    event: Annotated[str, Field(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$")]
    object: _Subject


class YooKassa:
    """One shop at YooKassa."""

    def __init__(
        self,
        account: domain.Account,
        *,
        base_url: str,
        secret_key: str,
        networks: Sequence[IPv4Network | IPv6Network],
        timeout_s: float,
    ) -> None:
        """Prepare the client; the first call connects. A call takes `timeout_s` in all, at most."""
        self.account = account
        self._networks = tuple(networks)
        self._timeout_s = timeout_s
        self._quiet_until = 0.0
        credentials = base64.b64encode(f"{account.shop_id}:{secret_key}".encode()).decode()
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Basic {credentials}", "Accept-Encoding": "identity"},
            timeout=timeout_s,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_KEPT,
                keepalive_expiry=KEEPALIVE_S,
            ),
            trust_env=False,
        )

    def admits(self, peer: str) -> bool:
        """Tell whether the address is one that the provider publishes; its webhooks carry no signature."""
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)

    def read(self, body: bytes) -> domain.Hint:
        """Read a notification: its event and the payment that it is about. Raises Malformed."""
        try:
            notification = _Notification.model_validate_json(body)
        except ValidationError as error:
            raise clients.Malformed(clients.Malformed.__doc__) from error
        kind, subject = notification.event.partition(".")[0], notification.object
        ref = {"payment": subject.id, "refund": subject.payment_id}.get(kind)
        # A notification has no id of its own.
        return domain.Hint(notification.event, f"{notification.event}:{subject.id}", ref)

    async def create(self, payment: domain.Payment, *, key: str) -> domain.Fact:
        """Create a payment that is captured at once. The same key gives the same payment for 24 hours.

        Raises Rejected, OutcomeUnknown, RateLimited or AuthFailed.
        """
        if payment.amount.currency not in EXPONENTS:
            raise clients.Rejected("currency_not_supported")
        body = {
            "amount": {"value": decimal_of(payment.amount), "currency": payment.amount.currency},
            # The default would only hold the money, and let it go after some days.
            "capture": True,
            "confirmation": {"type": "redirect", "return_url": payment.return_url},
            "description": f"Payment {payment.payment_id}",
            "metadata": {"payment_id": str(payment.payment_id), "tenant": payment.tenant},
        }
        try:
            return await self._call("create", "POST", "/payments", json=body, headers={"Idempotence-Key": key})
        except clients.NotFound:
            raise clients.Rejected("not_found") from None

    async def fetch(self, provider_ref: str) -> domain.Fact:
        """Ask for the truth about a payment.

        Raises NotFound, OutcomeUnknown, RateLimited, AuthFailed or Rejected.
        """
        return await self._call("fetch", "GET", f"/payments/{provider_ref}")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, op: str, method: str, path: str, **request: Any) -> domain.Fact:
        started, result = time.perf_counter(), "ok"
        try:
            return await self._answer(method, path, **request)
        except clients.ProviderError as error:
            result = error.result
            raise
        finally:
            clients.CALLS.labels(self.account.provider, op, result).observe(time.perf_counter() - started)

    async def _answer(self, method: str, path: str, **request: Any) -> domain.Fact:
        quiet_s = self._quiet_until - time.monotonic()
        if quiet_s > 0:
            raise clients.RateLimited(quiet_s)
        try:
            # httpx bounds each read; only this bounds an answer that comes in drops.
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(method, path, **request) as response,
            ):
                body = await _bounded(response)
        except (httpx.HTTPError, TimeoutError) as error:
            raise clients.OutcomeUnknown(type(error).__name__) from error
        if response.status_code == httpx.codes.OK:
            return _fact(body)
        raise self._refusal(response.status_code, body)

    def _refusal(self, status: int, body: bytes) -> clients.ProviderError:
        try:
            error = _Error.model_validate_json(body)
        except ValidationError:
            error = None
        if status == httpx.codes.TOO_MANY_REQUESTS:
            asked_s = error.retry_after / 1000 if error and error.retry_after is not None else RETRY_AFTER_S
            retry_after_s = min(asked_s, RETRY_AFTER_S_MAX)
            # The limit is the shop's, not the request's: nobody calls until it is over.
            self._quiet_until = time.monotonic() + retry_after_s
            return clients.RateLimited(retry_after_s)
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return clients.AuthFailed(f"status {status}")
        if status == httpx.codes.NOT_FOUND:
            return clients.NotFound()
        if httpx.codes.is_client_error(status):
            return clients.Rejected(error.code if error else f"http_{status}")
        return clients.OutcomeUnknown(f"status {status}")


def decimal_of(amount: Money) -> str:
    """Write an amount as the provider does: 150000 RUB is "1500.00"."""
    exponent = EXPONENTS[amount.currency]
    units, rest = divmod(amount.amount_minor, 10**exponent)
    return f"{units}.{rest:0{exponent}d}"


def money_of(value: str, currency: str) -> Money:
    """Read an amount exactly. Raises ValueError for an unknown currency, a sign, an exponent or a broken minor unit."""
    match = _VALUE.fullmatch(value)
    if match is None or currency not in EXPONENTS:
        raise ValueError(f"no amount of a known currency: {value!r} {currency!r}")
    exponent = EXPONENTS[currency]
    decimals = (match[2] or "").ljust(exponent, "0")
    if decimals[exponent:].strip("0"):
        raise ValueError("more decimals than the currency has")
    return Money(amount_minor=int(match[1] + decimals[:exponent]), currency=currency)


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise clients.OutcomeUnknown("the answer is too long")
    return bytes(body)


def _fact(body: bytes) -> domain.Fact:
    try:
        answer = _Payment.model_validate_json(body)
        amount = money_of(answer.amount.value, answer.amount.currency)
    except ValueError as error:
        raise clients.OutcomeUnknown("the answer is not a payment") from error
    return domain.Fact(
        provider_ref=answer.id,
        state=_STATES[answer.status],
        amount=amount,
        shop_id=answer.recipient.account_id,
        is_test=answer.test,
        payment_id=_payment_id((answer.metadata or {}).get("payment_id")),
        created_at=answer.created_at,
        confirmation_url=answer.confirmation.confirmation_url if answer.confirmation else None,
        paid_at=answer.captured_at,
        reason=answer.cancellation_details.reason if answer.cancellation_details else None,
    )


def _payment_id(value: object) -> payments.PaymentId | None:
    try:
        return payments.PaymentId(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
