"""YooKassa's API v3 and its notifications (https://yookassa.ru/developers/api), over our own small client.

A notification is not signed, so it only tells where to look; the truth is what is fetched.
"""

import base64
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, TypeVar

import httpx
from pydantic import ValidationError

from contracts.message import Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.yookassa import objects
from payments.domain import facts
from payments.domain.facts import Capability

CAPABILITIES = frozenset(
    {
        Capability.CAPTURE,
        Capability.PARTIAL_CAPTURE,
        Capability.CANCEL,
        Capability.REFUND,
        Capability.PARTIAL_REFUND,
        Capability.FETCH,
        Capability.LIST,
        Capability.RECEIPT,
    }
)
KEY_LIFETIME = timedelta(hours=24)
RETRY_AFTER_S = 1.0
PAGE_ITEMS, REFUND_PAGES_MAX = 100, 10

# The three reports that `list_movements` goes through: a payment may be taken days after it was created.
_LEGS: Final = (("payments", "created_at"), ("payments", "captured_at"), ("refunds", "created_at"))
_Read = TypeVar("_Read", bound=provider_json.ProviderJson)


class YooKassa(unsupported.UnsupportedCalls):
    """One shop at YooKassa."""

    capabilities = CAPABILITIES
    key_lifetime: timedelta | None = KEY_LIFETIME

    def __init__(
        self,
        account: facts.Account,
        *,
        base_url: str,
        timeout_s: float,
        secret_key: str,
        networks: Sequence[IPv4Network | IPv6Network],
        tax_system_code: int | None = None,
    ) -> None:
        """Prepare the client; the first call connects.

        `networks` are where its webhooks come from; without any, none is believed. `tax_system_code` goes into the
        receipts of a shop that has several tax systems.
        """
        self.account = account
        self._networks = tuple(networks)
        self._tax_system_code = tax_system_code
        credentials = base64.b64encode(f"{account.shop_id}:{secret_key}".encode()).decode()
        self._http = http.Http(
            account, base_url=base_url, timeout_s=timeout_s, headers={"Authorization": f"Basic {credentials}"}
        )

    def authenticate(self, webhook: facts.Webhook) -> None:
        """Raise Forged unless it came from an address that the provider publishes; it carries no signature.

        That is weak, so nothing of the body is believed but where to look.
        """
        try:
            address = ip_address(webhook.peer)
        except ValueError:
            raise clients.Forged("no address") from None
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not any(mapped in network for network in self._networks):
            raise clients.Forged("a foreign address")

    def read(self, webhook: facts.Webhook) -> facts.Hint:
        """Read a notification: its event and the payment that it is about. Raises Malformed."""
        try:
            notification = objects.Notification.model_validate_json(webhook.body)
        except ValidationError as error:
            raise clients.Malformed(clients.Malformed.__doc__) from error
        kind, subject = notification.event.partition(".")[0], notification.object
        ref = {"payment": subject.id, "refund": subject.payment_id}.get(kind)
        # A notification has no id of its own.
        return facts.Hint(event=notification.event, dedupe_key=f"{notification.event}:{subject.id}", provider_ref=ref)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        """Create a payment that is captured at once, or held where the order says so.

        The same key gives the same payment for 24 hours. Raises Rejected, OutcomeUnknown, RateLimited or AuthFailed.
        """
        if order.amount.currency not in objects.EXPONENTS:
            raise clients.Rejected("currency_not_supported")
        metadata = {"payment_id": str(order.payment_id), "tenant": order.tenant}
        if order.is_held:
            # What was asked for is forgotten by the provider once a part of it is captured.
            metadata["held_minor"] = str(order.amount.amount_minor)
        body = {
            "amount": objects.written(order.amount),
            # The default would only hold the money, and let it go after some days.
            "capture": not order.is_held,
            "confirmation": {"type": "redirect", "return_url": order.return_url},
            "description": order.description[: objects.DESCRIPTION_CHARACTERS_MAX],
            "metadata": metadata,
        } | self._receipt(order.receipt)
        try:
            return objects.fact_of(await self._call("create", "POST", "/payments", objects.Payment, key=key, json=body))
        except clients.NotFound:
            raise clients.Rejected("not_found") from None

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Ask for the truth about a payment.

        Raises NotFound, OutcomeUnknown, RateLimited, AuthFailed or Rejected.
        """
        return objects.fact_of(await self._call("fetch", "GET", f"/payments/{_checked(provider_ref)}", objects.Payment))

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: facts.Receipt | None = None
    ) -> facts.Fact:
        """Take what is held, or a part of it; then the receipt of a fiscal payment names what is left."""
        path = f"/payments/{_checked(provider_ref)}/capture"
        body = {"amount": objects.written(amount)} | self._receipt(receipt)
        return objects.fact_of(await self._call("capture", "POST", path, objects.Payment, key=key, json=body))

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Let go of what is held. A payment that nobody has paid can't be canceled here; it expires."""
        path = f"/payments/{_checked(provider_ref)}/cancel"
        return objects.fact_of(await self._call("cancel", "POST", path, objects.Payment, key=key, json={}))

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Give money back, all or a part; a part of a fiscal payment needs the receipt of what comes back."""
        body = {
            "payment_id": order.provider_ref,
            "amount": objects.written(order.amount),
            "metadata": {"refund_id": str(order.refund_id)},
        } | self._receipt(order.receipt)
        if order.reason:
            body["description"] = order.reason[: objects.REASON_CHARACTERS_MAX]
        return objects.refund_of(await self._call("refund", "POST", "/refunds", objects.Refund, key=key, json=body))

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Ask for all refunds of a payment, the newest first; nobody is told of one that was canceled."""
        asked = {"payment_id": _checked(provider_ref), "limit": str(PAGE_ITEMS)}
        found: list[facts.RefundFact] = []
        for _ in range(REFUND_PAGES_MAX):
            page = await self._call("fetch_refunds", "GET", "/refunds", objects.Refunds, params=asked)
            found += map(objects.refund_of, page.items)
            if page.next_cursor is None:
                return found
            asked["cursor"] = page.next_cursor
        raise clients.OutcomeUnknown("there are more refunds than a payment can have")

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give one page of payments created or captured, and of refunds created, from `since` until before `until`.

        A payment that was both is given once. What has no metadata of ours was made in the cabinet.
        """
        leg, _, after = (cursor or "0:").partition(":")
        noun, time = _LEGS[int(leg)]
        asked = {f"{time}.gte": objects.moment(since), f"{time}.lt": objects.moment(until), "limit": str(PAGE_ITEMS)}
        if after:
            asked["cursor"] = after
        movements: tuple[facts.Movement, ...]
        if noun == "refunds":
            refunds = await self._call("list", "GET", "/refunds", objects.Refunds, params=asked)
            movements, after = tuple(map(objects.refund_of, refunds.items)), refunds.next_cursor or ""
        else:
            made = await self._call("list", "GET", "/payments", objects.Payments, params=asked)
            is_known = time == "captured_at"
            fresh = (item for item in made.items if not (is_known and since <= item.created_at < until))
            movements, after = tuple(map(objects.fact_of, fresh)), made.next_cursor or ""
        return facts.Page(movements=movements, cursor=_cursor(int(leg), after))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _call(
        self, op: str, method: str, path: str, shape: type[_Read], *, key: str | None = None, **request: Any
    ) -> _Read:
        headers = {} if key is None else {"Idempotence-Key": key}
        body = await self._http.call(op, method, path, refusal=_refusal, headers=headers, **request)
        try:
            return shape.model_validate_json(body)
        except ValidationError as error:
            raise clients.OutcomeUnknown("the answer has another shape") from error

    def _receipt(self, receipt: facts.Receipt | None) -> dict[str, Any]:
        if receipt is None:
            return {}
        reached = {"email": receipt.email, "phone": receipt.phone}
        written: dict[str, Any] = {
            "customer": {name: value for name, value in reached.items() if value is not None},
            "items": [objects.line(item) for item in receipt.items],
        }
        if self._tax_system_code is not None:
            written["tax_system_code"] = self._tax_system_code
        return {"receipt": written}


def _checked(provider_ref: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9-]{1,64}", provider_ref) is None:
        raise clients.NotFound("the provider has no such names")
    return provider_ref


def _cursor(leg: int, after: str) -> str | None:
    if after:
        return f"{leg}:{after}"
    return f"{leg + 1}:" if leg + 1 < len(_LEGS) else None


def _refusal(answer: http.Answer) -> clients.ProviderError:
    try:
        error = objects.Error.model_validate_json(answer.body)
    except ValidationError:
        error = None
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        asked_ms = error.retry_after if error else None
        return http.rate_limited(RETRY_AFTER_S if asked_ms is None else asked_ms / 1000)
    if error is None or not httpx.codes.is_client_error(answer.status):
        # Only the provider's own words are a verdict: a proxy before it may have said anything else.
        return clients.OutcomeUnknown(f"status {answer.status}")
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed(f"status {answer.status}")
    if answer.status == httpx.codes.NOT_FOUND:
        return clients.NotFound("the provider knows no such object")
    if error.parameter == "Idempotence-Key":
        # The key has made something else, so this says nothing about what we ask for now.
        return clients.OutcomeUnknown("the idempotence key was used for another request")
    return clients.Rejected(error.code)
