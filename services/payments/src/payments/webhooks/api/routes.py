"""Receives providers' webhooks. 200 means stored; nothing in a body is believed.

A request is authenticated, stored and answered, without a call to a provider. Only a pre-checkout query, whose answer
is awaited within ten seconds, is answered inside the request.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter

from chassis import client_address, database, errors
from payments import clients, webhooks
from payments.domain import facts
from payments.webhooks.api import pre_checkout
from payments.webhooks.domain import proxy_signature

WEBHOOKS = Counter("kopilka_webhook_requests_total", "Webhooks by what became of them.", ["provider", "result"])


class UnknownAccount(errors.Refusal):
    """There is no such account."""

    code = "unknown_account"
    status = 404


class ForgedWebhook(errors.Refusal):
    """The provider did not send this: a foreign address, or no valid signature."""

    code = "forged_webhook"
    status = 403


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
) -> APIRouter:
    """Give the routes; `wake` is called when a webhook was stored.

    With `proxy_secrets` every webhook must have been passed on and signed by a proxy that knows one of them.
    """
    router = APIRouter(tags=["webhooks"])

    async def receive(provider_name: str, account: str, request: Request) -> Response:
        provider = providers.named(provider_name, account)
        if provider is None:
            WEBHOOKS.labels("unknown", "unknown_account").inc()
            raise UnknownAccount
        content, body = await _read(provider, request, trusted_proxies, proxy_secrets)
        if isinstance(content, facts.PreCheckout):
            result = await pre_checkout.answer(db, provider, content)
            WEBHOOKS.labels(provider_name, result).inc()
            return JSONResponse({"status": "answered"})
        async with db.statement() as tx:
            is_new = await webhooks.store.add(tx, provider.account, content, body)
        wake()
        WEBHOOKS.labels(provider_name, "stored" if is_new else "duplicate").inc()
        return JSONResponse({"status": "stored"})

    # With a slash at the end too, as some dashboards write it: no provider follows a redirect.
    @router.post("/webhooks/{provider}/{account}/", include_in_schema=False)
    @router.post("/webhooks/{provider}/{account}")
    async def webhook(provider: str, account: str, request: Request) -> Response:
        """Store a provider's notification; the provider repeats it until it is answered with 200."""
        return await receive(provider, account, request)

    @router.post("/webhook/yookassa/", include_in_schema=False)
    @router.post("/webhook/yookassa")
    async def yookassa_webhook(request: Request) -> Response:
        """Store a notification for the default account."""
        return await receive("yookassa", default_account, request)

    return router


async def _read(
    provider: clients.Provider, request: Request, trusted_proxies: client_address.Networks, proxy_secrets: Sequence[str]
) -> tuple[facts.WebhookContent | facts.PreCheckout, bytes]:
    name, body, received_at = provider.account.provider, await request.body(), datetime.now(UTC)
    is_signed_by_proxy = bool(proxy_secrets) and proxy_signature.is_signed_by_proxy(
        proxy_secrets,
        timestamp=request.headers.get("x-webhook-timestamp", ""),
        signature=request.headers.get("x-webhook-signature", ""),
        body=body,
        now=received_at,
    )
    webhook = facts.WebhookRequest(
        body=body,
        headers=dict(request.headers),
        peer=client_address.resolve(
            request.client.host if request.client else "",
            request.headers.getlist("x-forwarded-for"),
            trusted_proxies,
            is_peer_trusted=is_signed_by_proxy,
        ),
        received_at=received_at,
    )
    try:
        _require_proxy_signature(is_signed_by_proxy=is_signed_by_proxy, proxy_secrets=proxy_secrets)
        provider.authenticate(webhook)
        return provider.read(webhook), body
    except clients.Forged:
        WEBHOOKS.labels(name, "forbidden").inc()
        raise ForgedWebhook from None
    except clients.Malformed:
        WEBHOOKS.labels(name, "malformed").inc()
        raise MalformedWebhook from None


def _require_proxy_signature(*, is_signed_by_proxy: bool, proxy_secrets: Sequence[str]) -> None:
    if proxy_secrets and not is_signed_by_proxy:
        raise clients.Forged
