"""Rate limits of the HTTP API: the quotas that a request counts against, and the headers that report them.

A request is refused before anything is read or changed: no Idempotency-Key is used up, and repetitions count too.
"""

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import client_address, web
from gateway.api import deps
from gateway.domain import limits

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")


class Limits:
    """Middleware between the correlation ids and the routes.

    It is no FastAPI dependency, because requests for unknown paths and with malformed JSON never reach one.
    """

    def __init__(self, app: ASGIApp, *, deps: deps.Deps) -> None:
        """Wrap the application."""
        self._app = app
        self._deps = deps
        self._hash_key = deps.settings.session_secret.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits, or refuse it."""
        route_class = limits.class_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        limit = self._deps.settings.rate_limits[route_class] if route_class is not None else 0
        if route_class is None or limit == 0:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        decision = await self._deps.limiter.decide(route_class, await self._quotas(request, route_class, limit))

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-RateLimit-Limit"] = str(decision.limit)
                headers["X-RateLimit-Remaining"] = str(decision.remaining)
                headers["X-RateLimit-Reset"] = str(decision.reset_s)
            await send(message)

        if decision.is_allowed:
            await self._app(scope, receive, send_with_limit)
            return
        wait_s = decision.retry_after_s
        refusal = web.answer(request, 429, "too_many_requests", f"Please ask again in {wait_s} seconds.")
        refusal.headers["Retry-After"] = str(wait_s)
        await refusal(scope, receive, send_with_limit)

    async def _quotas(self, request: Request, route_class: limits.RouteClass, limit: int) -> list[limits.Quota]:
        """Return the quotas of a request: the user's first, so that no user uses up the quota of their address."""
        config = self._deps.settings
        peer = request.client.host if request.client else ""
        address = client_address.resolve(peer, request.headers.getlist("x-forwarded-for"), config.trusted_proxies)
        network = limits.pseudonym(client_address.network(address), secret=self._hash_key)
        prefix = f"kopilka.gateway.limit:{self._deps.tenant}:{route_class}"
        if route_class == "health":
            return [limits.Quota(f"{prefix}:address:{network}", limit)]
        shared = limit * config.rate_limit_address_factor
        user_id = await self._deps.authenticator.known_user(request)
        if user_id is None:
            # Anonymous requests are counted apart, so that they can't use up what the users of an address share.
            return [limits.Quota(f"{prefix}:anonymous:{network}", shared)]
        return [limits.Quota(f"{prefix}:user:{user_id}", limit), limits.Quota(f"{prefix}:address:{network}", shared)]
