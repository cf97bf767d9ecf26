"""The HTTP door of payments: providers' webhooks. 200 means stored; nothing in a body is believed.

A request makes no call to a provider: it is authenticated, stored and answered. Only the question of a payer's bank,
which waits no longer than ten seconds, is answered inside the request.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter

from chassis import database, errors, telemetry
from contracts import payments
from payments import clients
from payments.domain import facts, question, vouching
from payments.domain.payment import Payment
from payments.store import payments as store
from payments.store import webhooks

Networks = Sequence[IPv4Network | IPv6Network]

# Within ten seconds the payer's bank must have the answer. The decision gets its time first, the answer what is left.
ANSWER_WITHIN_S = 8.0
DECIDE_WITHIN_S = 4.0

# Those that are not done yet, so that they are not forgotten midway; the pool's connections bound them.
_READINGS: set["asyncio.Task[Payment | None]"] = set()

WEBHOOKS = Counter("kopilka_webhook_requests_total", "Webhooks by what became of them.", ["provider", "result"])


class UnknownAccount(errors.Refusal):
    """There is no such account."""

    code = "unknown_account"
    status = 404


class ForgedWebhook(errors.Refusal):
    """This is not the provider's: a foreign address, or no signature of today."""

    code = "forged_webhook"
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
    relay_secrets: Sequence[str] = (),
    wake: Callable[[], None] = lambda: None,
) -> APIRouter:
    """Give the routes; `wake` is called when a webhook was stored.

    With `relay_secrets` every webhook must have been passed on and signed by a proxy that knows one of them.
    """
    router = APIRouter(tags=["webhooks"])

    async def consume_batches(provider: str, account: str, request: Request) -> Response:
        served = accounts.named(provider, account)
        if served is None:
            WEBHOOKS.labels("unknown", "unknown_account").inc()
            raise UnknownAccount
        webhook, content = await _read(served, request, trusted_proxies, relay_secrets)
        if isinstance(content, facts.Question):
            result = await answer(db, served, content)
            WEBHOOKS.labels(provider, result).inc()
            return JSONResponse({"status": "answered"})
        async with db.statement() as tx:
            is_new = await webhooks.add(tx, served.account, content, webhook.body)
        wake()
        WEBHOOKS.labels(provider, "stored" if is_new else "duplicate").inc()
        return JSONResponse({"status": "stored"})

    @router.post("/webhooks/{provider}/{account}")
    async def webhook(provider: str, account: str, request: Request) -> Response:
        """Store a provider's notification; the provider repeats it until it is answered with 200."""
        return await consume_batches(provider, account, request)

    @router.post("/webhook/yookassa")
    async def yookassa_webhook(request: Request) -> Response:
        """Store a notification for the default account."""
        return await consume_batches("yookassa", default_account, request)

    return router


async def answer(db: database.Database, provider: clients.Provider, asked: facts.Question) -> str:
    """Answer a payer's bank in its time: no, when the payment can't be taken or the database is slow.

    Gives what became of it: accepted, refused, or unanswered when the provider did not take the answer.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            refusal = await _decide(db, provider, asked)
            await provider.answer(asked, refusal)
    except (clients.ProviderError, TimeoutError) as error:
        # Nothing was allowed, so nothing is taken. A repetition would come too late to be of use.
        telemetry.log.warning(
            "payments.question_unanswered", provider=provider.account.provider, error=type(error).__name__
        )
        return "unanswered"
    return "accepted" if refusal is None else "refused"


def peer_of(request: Request, trusted_proxies: Networks, *, is_vouched: bool = False) -> str:
    """Give the address that a request really comes from: the nearest hop that is not a proxy of ours.

    An X-Forwarded-For is read from its right end and only as far as our own proxies wrote it. With `is_vouched` the
    sender has proved to be one of them.
    """
    peer = request.client.host if request.client else ""
    hops = [hop.strip() for header in request.headers.getlist("x-forwarded-for") for hop in header.split(",")]
    if is_vouched and hops:
        peer = hops.pop()
    while hops and _is_in(peer, trusted_proxies):
        peer = hops.pop()
    return peer


async def _read(
    served: clients.Provider, request: Request, trusted_proxies: Networks, relay_secrets: Sequence[str]
) -> tuple[facts.Webhook, facts.Hint | facts.Question]:
    provider, body, received_at = served.account.provider, await request.body(), datetime.now(UTC)
    is_vouched = bool(relay_secrets) and vouching.is_vouched(
        relay_secrets,
        timestamp=request.headers.get("x-webhook-timestamp", ""),
        signature=request.headers.get("x-webhook-signature", ""),
        body=body,
        now=received_at,
    )
    webhook = facts.Webhook(
        body=body,
        headers=dict(request.headers),
        peer=peer_of(request, trusted_proxies, is_vouched=is_vouched),
        received_at=received_at,
    )
    try:
        _require_vouched(is_vouched=is_vouched, relay_secrets=relay_secrets)
        served.authenticate(webhook)
        return webhook, served.read(webhook)
    except clients.Forged:
        WEBHOOKS.labels(provider, "forbidden").inc()
        raise ForgedWebhook from None
    except clients.Malformed:
        WEBHOOKS.labels(provider, "malformed").inc()
        raise MalformedWebhook from None


def _require_vouched(*, is_vouched: bool, relay_secrets: Sequence[str]) -> None:
    if relay_secrets and not is_vouched:
        raise clients.Forged


async def _decide(db: database.Database, provider: clients.Provider, asked: facts.Question) -> str | None:
    reading = asyncio.create_task(_known(db, asked.payment_id))
    _READINGS.add(reading)
    reading.add_done_callback(_READINGS.discard)
    await asyncio.wait({reading}, timeout=DECIDE_WITHIN_S)
    if not reading.done():
        # Over a dead line even giving up takes longer than the payer's bank waits, so nobody waits for that.
        reading.cancel()
    if not reading.done() or (error := reading.exception()):
        # Whatever is wrong with the database, the payer must get a no in time.
        telemetry.log.error("payments.question_undecided", error=type(error).__name__ if reading.done() else "slow")
        return question.SLOW
    return question.refusal(reading.result(), asked, provider.account, datetime.now(UTC))


async def _known(db: database.Database, payment_id: payments.PaymentId | None) -> Payment | None:
    if payment_id is None:
        return None
    async with db.statement() as tx:
        return await store.read(tx, payment_id)


def _is_in(peer: str, networks: Networks) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
