"""The HTTP door of payments: providers' webhooks. 200 means stored; nothing in a body is believed.

A request makes no call to a provider: it is authenticated, stored and answered.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter

from chassis import database, errors
from payments import clients, store

Networks = Sequence[IPv4Network | IPv6Network]

WEBHOOKS = Counter("kopilka_webhook_requests_total", "Webhooks by what became of them.", ["provider", "result"])


class UnknownAccount(errors.Refusal):
    """There is no such account."""

    code = "unknown_account"
    status = 404


class ForeignAddress(errors.Refusal):
    """This provider does not send its notifications from your address."""

    code = "foreign_address"
    status = 403


class MalformedWebhook(errors.Refusal):
    """The body is not a notification of this provider."""

    code = "malformed_webhook"
    status = 400


def routes(
    db: database.Database,
    accounts: clients.Accounts,
    *,
    trusted_proxies: Networks,
    default_account: str,
    wake: Callable[[], None] = lambda: None,
) -> APIRouter:
    """Give the routes; `wake` is called when a webhook was stored."""
    router = APIRouter(tags=["webhooks"])

    async def take_in(provider: str, account: str, request: Request) -> Response:
        served = accounts.named(provider, account)
        if served is None:
            WEBHOOKS.labels("unknown", "unknown_account").inc()
            raise UnknownAccount
        if not served.admits(peer_of(request, trusted_proxies)):
            WEBHOOKS.labels(provider, "forbidden").inc()
            raise ForeignAddress
        body = await request.body()
        try:
            hint = served.read(body)
        except clients.Malformed:
            WEBHOOKS.labels(provider, "malformed").inc()
            raise MalformedWebhook from None
        async with db.statement() as tx:
            is_new = await store.add_webhook(tx, served.account, hint, body)
        wake()
        WEBHOOKS.labels(provider, "stored" if is_new else "duplicate").inc()
        return JSONResponse({"status": "stored"})

    @router.post("/webhooks/{provider}/{account}")
    async def webhook(provider: str, account: str, request: Request) -> Response:
        """Store a provider's notification; the provider repeats it until it is answered with 200."""
        return await take_in(provider, account, request)

    @router.post("/webhook/yookassa")
    async def yookassa_webhook(request: Request) -> Response:
        """Store a notification for the default account."""
        return await take_in("yookassa", default_account, request)

    return router


def peer_of(request: Request, trusted_proxies: Networks) -> str:
    """Give the address that a request really comes from: the nearest hop that is not a proxy of ours.

    An X-Forwarded-For is read from its right end and only as far as our own proxies wrote it.
    """
    peer = request.client.host if request.client else ""
    hops = [hop.strip() for header in request.headers.getlist("x-forwarded-for") for hop in header.split(",")]
    while hops and _is_in(peer, trusted_proxies):
        peer = hops.pop()
    return peer


def _is_in(peer: str, networks: Networks) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
