"""YooKassa's API v3 and its notifications (https://yookassa.ru/developers/api), over our own HTTP client.

A notification is not signed, so it only tells what to fetch.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final, TypeVar

import httpx
from pydantic import ValidationError

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.yookassa import objects
from payments.domain import accounts, facts
from payments.domain.accounts import Capability

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

# The three lists that `list_movements` goes through: a payment may be captured days after it was created.
_LEGS: Final = (("payments", "created_at"), ("payments", "captured_at"), ("refunds", "created_at"))
_Read = TypeVar("_Read", bound=provider_json.ProviderJson)


class YooKassa(unsupported.UnsupportedCalls):
    """One shop at YooKassa."""

    capabilities = CAPABILITIES
    key_lifetime: timedelta | None = KEY_LIFETIME

    def __init__(
        self,
        account: accounts.Account,
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
        self.account = replace(account, capabilities=self.capabilities, are_webhooks_signed=False)
        self._networks = tuple(networks)
        self._tax_system_code = tax_system_code
        credentials = base64.b64encode(f"{account.shop_id}:{secret_key}".encode()).decode()
        self._http = http.Http(
            account, base_url=base_url, timeout_s=timeout_s, headers={"Authorization": f"Basic {credentials}"}
        )

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        """Raise Forged unless it came from an address that the provider publishes; it carries no signature.

        An address is weak proof, so nothing of the body is used but the id to fetch.
        """
        try:
            address = ip_address(webhook.peer)
        except ValueError:
            raise clients.Forged("unreadable_address") from None
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not any(mapped in network for network in self._networks):
            raise clients.Forged("foreign_address")

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored:
        """Read a notification: its event and the payment that it is about. Raises Malformed."""
        try:
            head = objects.NotificationHead.model_validate_json(webhook.body)
            if not head.event.startswith(objects.EVENTS):
                return facts.Ignored(head.event)
            notification = objects.Notification.model_validate_json(webhook.body)
        except ValidationError as error:
            raise clients.Malformed(clients.Malformed.__doc__) from error
        kind, subject = notification.event.partition(".")[0], notification.object
        ref = subject.id if kind == "payment" else subject.payment_id
        if ref is None:
            return facts.Ignored(notification.event)
        # A notification has no id of its own.
        return facts.WebhookContent(
            event=notification.event, dedupe_key=f"{notification.event}:{subject.id}", provider_ref=ref
        )

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        """Create a payment that is captured at once, or only authorized where the order says so.

        The same key gives the same payment for 24 hours. Raises Rejected, OutcomeUnknown, RateLimited or AuthFailed.
        """
        if order.amount.currency not in objects.EXPONENTS:
            raise clients.Rejected("currency_not_supported")
        metadata = {"payment_id": str(order.payment_id), "tenant": order.tenant}
        if order.is_held:
            # After a partial capture the provider does not show the requested amount any more.
            metadata["held_minor"] = str(order.amount.amount_minor)
        body = {
            "amount": objects.written(order.amount),
            # The default would only authorize, and cancel after some days.
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
        """Fetch a payment.

        Raises NotFound, OutcomeUnknown, RateLimited, AuthFailed or Rejected.
        """
        return objects.fact_of(await self._call("fetch", "GET", f"/payments/{_checked(provider_ref)}", objects.Payment))

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: contracts.payments.Receipt | None = None
    ) -> facts.Fact:
        """Capture an authorized payment, or a part of it; then a fiscal payment needs the receipt of that part."""
        path = f"/payments/{_checked(provider_ref)}/capture"
        body = {"amount": objects.written(amount)} | self._receipt(receipt)
        return objects.fact_of(await self._call("capture", "POST", path, objects.Payment, key=key, json=body))

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Cancel an authorization. A pending payment can't be canceled; it expires."""
        path = f"/payments/{_checked(provider_ref)}/cancel"
        return objects.fact_of(await self._call("cancel", "POST", path, objects.Payment, key=key, json={}))

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Refund a payment, all or a part; a part of a fiscal payment needs the receipt of that part."""
        body = {
            "payment_id": order.provider_ref,
            "amount": objects.written(order.amount),
            "metadata": {"refund_id": str(order.refund_id)},
        } | self._receipt(order.receipt)
        if order.reason:
            body["description"] = order.reason[: objects.REASON_CHARACTERS_MAX]
        return objects.refund_of(await self._call("refund", "POST", "/refunds", objects.Refund, key=key, json=body))

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Fetch all refunds of a payment, the newest first. No webhook tells of a canceled refund."""
        parameters = {"payment_id": _checked(provider_ref), "limit": str(PAGE_ITEMS)}
        found: list[facts.RefundFact] = []
        for _ in range(REFUND_PAGES_MAX):
            page = await self._call("fetch_refunds", "GET", "/refunds", objects.Refunds, params=parameters)
            found += map(objects.refund_of, page.items)
            if page.next_cursor is None:
                return found
            parameters["cursor"] = page.next_cursor
        raise clients.OutcomeUnknown("there are more refunds than a payment can have")

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give one page of payments created or captured, and of refunds created, from `since` until before `until`.

        A payment that was both is given once. What has no metadata of ours was made in the dashboard.
        """
        leg, _, after = (cursor or "0:").partition(":")
        noun, time = _LEGS[int(leg)]
        parameters = {
            f"{time}.gte": objects.moment(since),
            f"{time}.lt": objects.moment(until),
            "limit": str(PAGE_ITEMS),
        }
        if after:
            parameters["cursor"] = after
        movements: tuple[facts.Movement, ...]
        if noun == "refunds":
            refunds = await self._call("list", "GET", "/refunds", objects.Refunds, params=parameters)
            known_refunds = (item for item in refunds.items if item.amount.currency in objects.EXPONENTS)
            movements, after = tuple(map(objects.refund_of, known_refunds)), refunds.next_cursor or ""
        else:
            made = await self._call("list", "GET", "/payments", objects.Payments, params=parameters)
            is_listed = time == "captured_at"
            fresh = (
                item
                for item in made.items
                if item.amount.currency in objects.EXPONENTS and not (is_listed and since <= item.created_at < until)
            )
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
            raise clients.Unreadable("the response is unreadable") from error

    def _receipt(self, receipt: contracts.payments.Receipt | None) -> dict[str, Any]:
        if receipt is None:
            return {}
        customer = {"email": receipt.email, "phone": receipt.phone}
        written: dict[str, Any] = {
            "customer": {name: value for name, value in customer.items() if value is not None},
            "items": [objects.line(item) for item in receipt.items],
        }
        if self._tax_system_code is not None:
            written["tax_system_code"] = self._tax_system_code
        return {"receipt": written}


def _checked(provider_ref: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9-]{1,64}", provider_ref) is None:
        raise clients.NotFound("no id of this provider")
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
        retry_after_ms = error.retry_after if error else None
        return http.rate_limited(RETRY_AFTER_S if retry_after_ms is None else retry_after_ms / 1000)
    # Whoever refuses the credentials has done nothing.
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed(f"status {answer.status}")
    if error is None or not httpx.codes.is_client_error(answer.status):
        # Only the provider's own error is definite: anything else may come from a proxy before it.
        return clients.OutcomeUnknown(f"status {answer.status}")
    if answer.status == httpx.codes.NOT_FOUND:
        return clients.NotFound("the provider knows no such object")
    if error.parameter == "Idempotence-Key":
        # The key was used for something else, so the outcome of this request is unknown.
        return clients.OutcomeUnknown("the idempotence key was used for another request")
    is_about_contact = (error.parameter or "").startswith("receipt.customer")
    return clients.Rejected(
        "receipt_contact" if is_about_contact else error.code,
        parameter=error.parameter,
        description=error.description,
        error_id=error.id,
    )
