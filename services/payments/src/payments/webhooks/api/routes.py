"""Receives providers' webhooks. 200 means stored; nothing in a body is believed.

A request is authenticated, stored and answered, without a call to a provider. Only a pre-checkout query, whose answer
is awaited within ten seconds, is answered inside the request.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel

from chassis import client_address, database, errors, problem_document, telemetry
from payments import clients, store, webhooks
from payments.domain import accounts, facts
from payments.webhooks.api import pre_checkout
from payments.webhooks.domain import proxy_signature, refusals, unknown_payments

WEBHOOKS = Counter(
    "kopilka_webhook_requests_total",
    "Webhooks by what became of them: stored, a duplicate, ignored, answered, or the reason of their refusal.",
    ["provider", "account", "result"],
)
HEADER_SHOWN_MAX = 200

PROBLEMS = problem_document.responses(
    "400 malformed_webhook",
    "403 forged_webhook",
    "404 unknown_account",
    "408 request_timeout",
    "413 content_too_large",
    "429 too_many_unknown",
    "503 temporarily_unavailable",
)
# Each provider has a shape of its own, so a body is described by its media type alone.
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}


class Received(BaseModel):
    """What became of a webhook."""

    status: Literal["stored", "answered", "ignored"]


class UnknownAccount(errors.Refusal):
    """There is no such account."""

    code = "unknown_account"
    status = 404


class ForgedWebhook(errors.Refusal):
    """The provider did not send this: a foreign address, or no valid signature."""

    code = "forged_webhook"
    status = 403


class TooManyUnknown(errors.Refusal):
    """Too many notifications about payments that are not known here; repeat this one later."""

    code = "too_many_unknown"
    status = 429


class MalformedWebhook(errors.Refusal):
    """The body is not a notification of this provider."""

    code = "malformed_webhook"
    status = 400


def routes(
    db: database.Database,
    providers: clients.Providers,
    *,
    trusted_proxies: client_address.Networks,
    default_account: str,
    proxy_secrets: Sequence[str] = (),
    wake: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> APIRouter:
    """Give the routes; `wake` is called when a webhook was stored, `clock` gives seconds for the trace of refusals.

    With `proxy_secrets` every webhook must have been passed on and signed by a proxy that knows one of them.
    """
    router = APIRouter(tags=["webhooks"])
    refused, unknown = refusals.Refusals(clock), unknown_payments.UnknownPayments(clock)

    async def receive(provider_name: str, account: str, request: Request) -> Response:
        provider = providers.named(provider_name, account)
        webhook = await _request(request, trusted_proxies, proxy_secrets)
        if provider is None:
            WEBHOOKS.labels("unknown", "unknown", "unknown_account").inc()
            _log(refused, "unknown", "unknown", "unknown_account", webhook.peer)
            raise UnknownAccount
        content = await _accepted(db, refused, provider, webhook, proxy_secrets)
        if isinstance(content, facts.PreCheckout):
            result = await pre_checkout.answer(db, provider, content)
            WEBHOOKS.labels(provider_name, account, result).inc()
            return JSONResponse({"status": "answered"})
        if isinstance(content, facts.Ignored):
            WEBHOOKS.labels(provider_name, account, "ignored").inc()
            return JSONResponse({"status": "ignored"})
        if not provider.account.are_webhooks_signed and unknown.is_exhausted((provider_name, account, webhook.peer)):
            await _require_known(db, refused, provider.account, content.provider_ref, webhook.peer)
        async with db.statement() as tx:
            added = await webhooks.store.webhooks.add(tx, provider.account, content, webhook.body)
        wake()
        if added == "unknown":
            unknown.count((provider_name, account, webhook.peer))
        WEBHOOKS.labels(provider_name, account, "duplicate" if added == "duplicate" else "stored").inc()
        return JSONResponse({"status": "stored"})

    # With a slash at the end too, as some dashboards write it: no provider follows a redirect.
    @router.post("/webhooks/{provider}/{account}/", include_in_schema=False)
    @router.post("/webhooks/{provider}/{account}", response_model=Received, responses=PROBLEMS, openapi_extra=BODY)
    async def webhook(provider: str, account: str, request: Request) -> Response:
        """Store a provider's notification; the provider repeats it until it is answered with 200."""
        return await receive(provider, account, request)

    @router.post("/webhook/yookassa/", include_in_schema=False)
    @router.post("/webhook/yookassa", response_model=Received, responses=PROBLEMS, openapi_extra=BODY)
    async def yookassa_webhook(request: Request) -> Response:
        """Store a notification for the default account."""
        return await receive("yookassa", default_account, request)

    return router


async def _request(
    request: Request, trusted_proxies: client_address.Networks, proxy_secrets: Sequence[str]
) -> facts.WebhookRequest:
    body, received_at = await request.body(), datetime.now(UTC)
    is_signed_by_proxy = bool(proxy_secrets) and proxy_signature.is_signed_by_proxy(
        proxy_secrets,
        timestamp=request.headers.get("x-webhook-timestamp", ""),
        signature=request.headers.get("x-webhook-signature", ""),
        body=body,
        now=received_at,
    )
    return facts.WebhookRequest(
        body=body,
        headers=dict(request.headers),
        peer=client_address.resolve(
            request.client.host if request.client else "",
            request.headers.getlist("x-forwarded-for"),
            trusted_proxies,
            is_peer_trusted=is_signed_by_proxy,
        ),
        received_at=received_at,
        is_signed_by_proxy=is_signed_by_proxy,
    )


async def _accepted(
    db: database.Database,
    refused: refusals.Refusals,
    provider: clients.Provider,
    webhook: facts.WebhookRequest,
    proxy_secrets: Sequence[str],
) -> facts.WebhookContent | facts.Ignored | facts.PreCheckout:
    """Give what a webhook says. Raises ForgedWebhook or MalformedWebhook, and leaves a trace of it."""
    try:
        content = _believed(provider, webhook, proxy_secrets)
    except clients.Forged as forged:
        await _refuse(db, refused, provider.account, forged.reason, webhook)
        raise ForgedWebhook from None
    except clients.Malformed:
        await _refuse(db, refused, provider.account, "malformed", webhook)
        raise MalformedWebhook from None
    refused.accept(provider.account.provider, provider.account.name)
    return content


def _believed(
    provider: clients.Provider, webhook: facts.WebhookRequest, proxy_secrets: Sequence[str]
) -> facts.WebhookContent | facts.Ignored | facts.PreCheckout:
    """Authenticate and read a webhook. Raises Forged or Malformed."""
    if proxy_secrets and not webhook.is_signed_by_proxy:
        raise clients.Forged("no_proxy_signature")
    provider.authenticate(webhook)
    return provider.read(webhook)


async def _refuse(
    db: database.Database,
    refused: refusals.Refusals,
    account: accounts.Account,
    reason: str,
    webhook: facts.WebhookRequest,
) -> None:
    """Leave a trace of a refused webhook: a count, a line, and a finding when the account gets nothing but refusals."""
    WEBHOOKS.labels(account.provider, account.name, reason).inc()
    _log(refused, account.provider, account.name, reason, webhook.peer)
    if refused.is_alarming(account.provider, account.name):
        forwarded = webhook.headers.get("x-forwarded-for", "")[:HEADER_SHOWN_MAX]
        async with db.transaction() as tx:
            await store.findings.open_finding(
                tx,
                tenant=account.tenant,
                kind="webhooks_refused",
                details={"reason": reason, "peer": webhook.peer, "x_forwarded_for": forwarded},
                about=f"{account.provider}:{account.name}",
                provider=account.provider,
                account=account.name,
            )


async def _require_known(
    db: database.Database, refused: refusals.Refusals, account: accounts.Account, provider_ref: str, peer: str
) -> None:
    """Raise TooManyUnknown unless the webhook is about a payment of ours; the provider repeats it later."""
    async with db.statement() as tx:
        if await webhooks.store.webhooks.is_known(tx, account, provider_ref):
            return
    WEBHOOKS.labels(account.provider, account.name, "too_many_unknown").inc()
    _log(refused, account.provider, account.name, "too_many_unknown", peer)
    raise TooManyUnknown


def _log(refused: refusals.Refusals, provider: str, account: str, reason: str, peer: str) -> None:
    count = refused.count_to_log(provider, account, reason, peer)
    if count is not None:
        telemetry.log.warning(
            "payments.webhook_refused", provider=provider, account=account, reason=reason, peer=peer, count=count
        )
