"""Stripe's API v1 with Checkout Sessions (https://docs.stripe.com/api), over our own HTTP client.

A payment has the id of its session; its payment intent names it too, because events about money have no session.
A webhook is signed, and still only tells what to fetch: events come in any order and objects change after them.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import httpx
from pydantic import ValidationError

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.stripe import objects, signature
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
        Capability.DISPUTE,
    }
)
# Responses keep the form that this module reads, whatever the account's own version is.
API_VERSION = "2026-10-28.endive"
KEY_LIFETIME = timedelta(hours=24)
# A session expires after this time, so a payment that is paid at once was created within it.
SESSION_LIFETIME = timedelta(hours=24)
RETRY_AFTER_S = 1.0
PAGE_ITEMS, PAGES_MAX = 100, 10
NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX = 250, 500

_IN_FULL: Final = "payment_intent.latest_charge.balance_transaction"
_SESSIONS, _INTENTS, _REFUNDS = "/v1/checkout/sessions", "/v1/payment_intents", "/v1/refunds"
_Read = TypeVar("_Read", bound=provider_json.ProviderJson)


class Stripe(unsupported.UnsupportedCalls):
    """One account at Stripe."""

    capabilities = CAPABILITIES
    key_lifetime: timedelta | None = KEY_LIFETIME

    def __init__(
        self,
        account: accounts.Account,
        *,
        base_url: str,
        timeout_s: float,
        secret_key: str,
        webhook_secrets: Sequence[str],
    ) -> None:
        """Prepare the client; the first call connects, and checks that the key belongs to `account.shop_id`.

        `webhook_secrets` are all that may sign a webhook: two while one replaces the other; without any, none may.
        Raises ValueError without the account's id: payments into another account would not be noticed.
        """
        if not account.shop_id.startswith("acct_"):
            raise ValueError("Stripe needs the id of the account, acct_...")
        self.account = replace(account, capabilities=self.capabilities)
        self._webhook_secrets = signature.HiddenSecrets(webhook_secrets)
        self._is_verified = False
        credentials = base64.b64encode(f"{secret_key}:".encode()).decode()
        self._http = http.Http(
            account,
            base_url=base_url,
            timeout_s=timeout_s,
            headers={"Authorization": f"Basic {credentials}", "Stripe-Version": API_VERSION},
        )

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        """Raise Forged unless a secret of ours has signed these bytes within five minutes of their arrival."""
        header = webhook.headers.get("stripe-signature", "")
        signature.check(header, webhook.body, secrets=self._webhook_secrets, at=webhook.received_at)

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored:
        """Read an event: its type and the session or intent that it is about. Raises Malformed."""
        try:
            head = objects.EventHead.model_validate_json(webhook.body)
            if not head.type.startswith(objects.EVENTS) or head.account not in {None, self.account.shop_id}:
                return facts.Ignored(head.type)
            event = objects.Event.model_validate_json(webhook.body)
        except ValidationError as error:
            raise clients.Malformed(clients.Malformed.__doc__) from error
        ref = event.data.object.ref
        if ref is None:  # such as a charge that was made without a payment intent
            return facts.Ignored(event.type)
        return facts.WebhookContent(event=event.type, dedupe_key=event.id, provider_ref=ref)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        """Create a checkout page; the money is captured at once, or only authorized where the order says so.

        The same key gives the same page, or the same failure, for 24 hours: after a failure only `list_movements` shows
        whether there is a page. Raises Rejected, OutcomeUnknown, RateLimited or AuthFailed.
        """
        _require_supported(order.amount.currency)
        await self._verify()
        metadata = {"payment_id": str(order.payment_id), "tenant": str(order.tenant)}
        form = {
            "mode": "payment",
            "client_reference_id": str(order.payment_id),
            "success_url": order.return_url,
            "cancel_url": order.return_url,
            "line_items[0][quantity]": "1",
            "line_items[0][price_data][currency]": order.amount.currency.lower(),
            "line_items[0][price_data][unit_amount]": str(order.amount.amount_minor),
            "line_items[0][price_data][product_data][name]": order.description[:NAME_CHARACTERS_MAX],
            # The usual "automatic_async" is paid before the fee is known.
            "payment_intent_data[capture_method]": "manual" if order.is_held else "automatic",
            # Else a payer from abroad might be shown, and might pay in, another currency.
            "adaptive_pricing[enabled]": "false",
            **_nested("metadata", metadata),
            **_nested("payment_intent_data[metadata]", metadata),
        }
        try:
            session = await self._call("create", "POST", _SESSIONS, objects.Session, key=key, data=form)
        except clients.NotFound:
            raise clients.Rejected("not_found") from None
        return await self._fact(session, session.intent)

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Fetch a payment by its session or by its payment intent; the fact has the session's id.

        Raises NotFound, Foreign, OutcomeUnknown, RateLimited, AuthFailed or Rejected.
        """
        session = await self._session(provider_ref)
        if session.mode != "payment":
            raise clients.Foreign(f"a session of the mode {session.mode}")
        return await self._fact(session, session.intent)

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: contracts.payments.Receipt | None = None
    ) -> facts.Fact:
        """Capture an authorized payment, or a part of it; the rest returns to the payer."""
        del receipt  # none is given without RECEIPT
        form = {"amount_to_capture": str(amount.amount_minor)}
        return await self._act("capture", provider_ref, form, key=key, currency=amount.currency)

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Cancel an authorization."""
        return await self._act("cancel", provider_ref, {}, key=key)

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Refund a payment, all or a part; Stripe refuses a disputed one."""
        session = await self._session(order.provider_ref)
        metadata = {"refund_id": str(order.refund_id), "session": session.id}
        if order.reason:
            metadata["reason"] = order.reason[:REASON_CHARACTERS_MAX]
        form = {
            "payment_intent": _paid(session, order.amount.currency).id,
            "amount": str(order.amount.amount_minor),
            **_nested("metadata", metadata),
        }
        made = await self._call("refund", "POST", _REFUNDS, objects.Refund, key=key, data=form)
        return objects.refund_of(made, session.id)

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Fetch all refunds of a payment, the newest first."""
        session = await self._session(provider_ref)
        if session.intent is None:
            return []
        return [objects.refund_of(one, session.id) for one in await self._refunds(session.intent.id)]

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        """Fetch the disputes of a payment that have withdrawn money."""
        session = await self._session(provider_ref)
        if session.intent is None:
            return []
        parameters = {"payment_intent": session.intent.id, "limit": str(PAGE_ITEMS)}
        page = await self._call("fetch_disputes", "GET", "/v1/disputes", objects.Disputes, params=parameters)
        return objects.disputes_of(page.data, lambda _: session.id)

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give one page of payments created or captured, refunds and disputes, from `since` until before `until`.

        A payment is given once. Those of the same account that were not made by a session are not ours and left out.
        """
        await self._verify()
        leg, _, after = (cursor or "sessions:").partition(":")
        window = {"created[gte]": str(math.floor(since.timestamp())), "created[lt]": str(math.ceil(until.timestamp()))}
        parameters = {**window, "limit": str(PAGE_ITEMS)} | ({"starting_after": after} if after else {})
        movements: Sequence[facts.Movement]
        if leg == "sessions":
            movements, last = await self._list_sessions(parameters, since, until)
        elif leg == "taken":
            movements, last = await self._list_late_captures(parameters, since)
        elif leg == "refunds":
            movements, last = await self._list_refunds(parameters)
        else:
            movements, last = await self._list_disputes(parameters)
        following = {"sessions": "taken:", "taken": "refunds:", "refunds": "disputes:"}.get(leg)
        return facts.Page(movements=tuple(movements), cursor=f"{leg}:{last}" if last else following)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    # --- the lists of the report ----------------------------------------------------------------------

    async def _list_sessions(
        self, parameters: dict[str, str], since: datetime, until: datetime
    ) -> tuple[list[facts.Fact], str | None]:
        # A session of the day before may have been paid within the period.
        earliest = math.floor((since - SESSION_LIFETIME).timestamp())
        page = await self._call(
            "list", "GET", _SESSIONS, objects.Sessions,
            params={**parameters, "created[gte]": str(earliest), "expand[]": f"data.{_IN_FULL}"},
        )  # fmt: skip
        found = [await self._fact(one, one.intent) for one in page.data if one.is_readable]
        return [fact for fact in found if _is_within(fact, since, until)], _last(page)

    async def _list_late_captures(
        self, parameters: dict[str, str], since: datetime
    ) -> tuple[list[facts.Fact], str | None]:
        page = await self._call(
            "list",
            "GET",
            "/v1/balance_transactions",
            objects.Movements,
            params={**parameters, "expand[]": "data.source"},
        )
        found: list[facts.Fact] = []
        for line in page.data:
            charge = _charge(line)
            if charge is None or charge.payment_intent is None or objects.moment(charge.created) >= since:
                continue
            session = await self._find(charge.payment_intent)
            # A younger one was found among the sessions.
            if session and session.is_readable and objects.moment(session.created) < since - SESSION_LIFETIME:
                found.append(await self._fact(session, session.intent))
        return found, _last(page)

    async def _list_refunds(self, parameters: dict[str, str]) -> tuple[list[facts.RefundFact], str | None]:
        page = await self._call("list", "GET", _REFUNDS, objects.Refunds, params=parameters)
        found: list[facts.RefundFact] = []
        for refund in page.data:
            ref = objects.session_in(refund.metadata) or await self._ref(refund.payment_intent)
            if refund.is_of_money and ref is not None:
                found.append(objects.refund_of(refund, ref))
        return found, _last(page)

    async def _list_disputes(self, parameters: dict[str, str]) -> tuple[list[facts.DisputeFact], str | None]:
        page = await self._call("list", "GET", "/v1/disputes", objects.Disputes, params=parameters)
        refs = {one.id: await self._ref(one.payment_intent) for one in page.data}
        return objects.disputes_of(page.data, lambda one: refs[one.id]), _last(page)

    # --- what they share ------------------------------------------------------------------------------

    async def _act(
        self, action: str, provider_ref: str, form: dict[str, str], *, key: str, currency: str | None = None
    ) -> facts.Fact:
        session = await self._session(provider_ref)
        path = f"{_INTENTS}/{_paid(session, currency).id}/{action}"
        parameters = {**form, "expand[]": "latest_charge.balance_transaction"}
        intent = await self._call(action, "POST", path, objects.Intent, key=key, data=parameters)
        return await self._fact(session, intent)

    async def _session(self, provider_ref: str) -> objects.Session:
        if re.fullmatch(r"[A-Za-z0-9_]{1,255}", provider_ref, re.ASCII) is None:
            raise clients.NotFound("the provider has no such names")
        await self._verify()
        if provider_ref.startswith("pi_"):
            found = await self._find(provider_ref)
            if found is None:
                raise clients.Foreign("no session belongs to this payment intent")
            return found
        path = f"{_SESSIONS}/{provider_ref}"
        return await self._call("fetch", "GET", path, objects.Session, params={"expand[]": _IN_FULL})

    async def _find(self, intent_id: str) -> objects.Session | None:
        parameters = {"payment_intent": intent_id, "limit": "1", "expand[]": f"data.{_IN_FULL}"}
        page = await self._call("find", "GET", _SESSIONS, objects.Sessions, params=parameters)
        return page.data[0] if page.data else None

    async def _ref(self, intent_id: str | None) -> str | None:
        session = await self._find(intent_id) if intent_id else None
        return session.id if session else None

    async def _fact(self, session: objects.Session, intent: objects.Intent | None) -> facts.Fact:
        charge = intent.latest_charge if intent else None
        refunded_minor = 0
        if isinstance(charge, objects.Charge) and charge.amount_refunded and intent and intent.status == "succeeded":
            # The charge also counts pending refunds, and what was authorized and never captured.
            made = await self._refunds(intent.id)
            refunded_minor = sum(one.amount for one in made if one.status == "succeeded")
        return objects.fact_of(session, intent, shop_id=self.account.shop_id, refunded_minor=refunded_minor)

    async def _refunds(self, intent_id: str) -> list[objects.Refund]:
        parameters = {"payment_intent": intent_id, "limit": str(PAGE_ITEMS)}
        found: list[objects.Refund] = []
        for _ in range(PAGES_MAX):
            page = await self._call("fetch_refunds", "GET", _REFUNDS, objects.Refunds, params=parameters)
            found += (one for one in page.data if one.is_of_money)
            last = _last(page)
            if last is None:
                return found
            parameters["starting_after"] = last
        raise clients.OutcomeUnknown("there are more refunds than a payment can have")

    async def _verify(self) -> None:
        # No other response names the account, so a key of another account would not be noticed.
        if self._is_verified:
            return
        try:
            found = await self._call("verify", "GET", "/v1/account", objects.Account)
        except (clients.NotFound, clients.Rejected):
            raise clients.AuthFailed("the key may not read its account") from None
        if found.id != self.account.shop_id:
            raise clients.AuthFailed("the key belongs to another account")
        self._is_verified = True

    async def _call(
        self, op: str, method: str, path: str, shape: type[_Read], *, key: str | None = None, **request: Any
    ) -> _Read:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = await self._http.call(op, method, path, refusal=_refusal, headers=headers, **request)
        try:
            return shape.model_validate_json(body)
        except ValidationError as error:
            raise clients.Unreadable("the response is unreadable") from error


def _refusal(answer: http.Answer) -> clients.ProviderError:
    try:
        error = objects.Error.model_validate_json(answer.body)
    except ValidationError:
        error = None
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        retry_after = answer.headers.get("retry-after", "")
        return http.rate_limited(float(retry_after) if re.fullmatch(r"[0-9]{1,6}", retry_after) else RETRY_AFTER_S)
    # Whoever refuses the credentials has done nothing.
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed(f"status {answer.status}")
    if error is None or not httpx.codes.is_client_error(answer.status):
        return _unknown(answer)
    if answer.status == httpx.codes.NOT_FOUND:
        return clients.NotFound("the provider knows no such object")
    if answer.status == httpx.codes.CONFLICT or error.error.type == "idempotency_error":
        # The same key is in use right now, or was used for something else: neither tells the outcome of this request.
        return clients.OutcomeUnknown("the idempotency key is in use for another request")
    words, request_id = error.error, answer.headers.get("request-id")
    return clients.Rejected(error.stable_code, parameter=words.param, description=words.message, error_id=request_id)


def _unknown(answer: http.Answer) -> clients.OutcomeUnknown:
    if answer.headers.get("idempotent-replayed") == "true":
        # A repetition gives the same failure for as long as the key is remembered.
        return clients.OutcomeUnknown("the failure of the first attempt was replayed")
    # Only the provider's own error is definite: anything else may come from a proxy before it.
    return clients.OutcomeUnknown(f"status {answer.status}")


def _paid(session: objects.Session, currency: str | None) -> objects.Intent:
    if session.intent is None:
        raise clients.Rejected("nothing_was_paid")
    if currency is not None and session.currency != currency.lower():
        # Captures and refunds name no currency, so Stripe would read our number in its own unit.
        raise clients.Rejected("currency_differs")
    return session.intent


def _require_supported(currency: str) -> None:
    if not objects.is_supported(currency):
        raise clients.Rejected("currency_not_supported")


def _charge(line: objects.Movement) -> objects.Charge | None:
    if line.type not in {"charge", "payment"}:
        return None
    try:
        return objects.Charge.model_validate(line.source)
    except ValidationError as error:
        raise clients.Unreadable("the response is unreadable") from error


def _is_within(fact: facts.Fact, since: datetime, until: datetime) -> bool:
    return since <= fact.created_at < until or (fact.paid_at is not None and since <= fact.paid_at < until)


def _last(page: objects.Sessions | objects.Refunds | objects.Disputes | objects.Movements) -> str | None:
    return page.data[-1].id if page.has_more and page.data else None


def _nested(name: str, values: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}[{key}]": value for key, value in values.items()}
