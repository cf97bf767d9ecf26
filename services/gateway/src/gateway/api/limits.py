"""Rate limits at the door: whose budgets a request counts in, and the headers that tell what is left.

A refusal comes before anything is read or changed: it takes no Idempotency-Key, and repetitions count like the first.
"""

from collections import OrderedDict

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import client_address, envelope, web
from gateway.api import access, deps
from gateway.domain import initdata, limits, sessions
from gateway.store import users

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")
KNOWN_MAX = 10_000


class Limits:
    """Stands inside the correlation of requests and before every route. It is no dependency, which an address that does
    not exist or a body that is no JSON would never reach.
    """

    def __init__(self, app: ASGIApp, *, deps: deps.Deps) -> None:
        """Wrap the application."""
        self._app = app
        self._deps = deps
        self._pseudonyms = deps.settings.session_secret.get_secret_value().encode()
        self._known: OrderedDict[int, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits, or refuse it."""
        route_class = limits.class_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        limit = self._deps.settings.rate_limits[route_class] if route_class is not None else 0
        if route_class is None or limit == 0:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        verdict = await self._deps.limiter.decide(route_class, await self._budgets(request, route_class, limit))

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-RateLimit-Limit"] = str(verdict.limit)
                headers["X-RateLimit-Remaining"] = str(verdict.remaining)
                headers["X-RateLimit-Reset"] = str(verdict.reset_s)
            await send(message)

        if verdict.is_allowed:
            await self._app(scope, receive, send_with_limit)
            return
        wait_s = verdict.retry_after_s
        refusal = web.answer(request, 429, "too_many_requests", f"Please ask again in {wait_s} seconds.")
        refusal.headers["Retry-After"] = str(wait_s)
        await refusal(scope, receive, send_with_limit)

    async def _budgets(self, request: Request, route_class: limits.RouteClass, limit: int) -> list[limits.Budget]:
        """Give what a request counts in: the user's budget first, so that nobody uses up that of their neighbours."""
        config = self._deps.settings
        peer = request.client.host if request.client else ""
        address = client_address.resolve(peer, request.headers.getlist("x-forwarded-for"), config.trusted_proxies)
        place = limits.pseudonym(limits.household_of(address), secret=self._pseudonyms)
        prefix = f"kopilka.gateway.limit:{self._deps.tenant}:{route_class}"
        if route_class == "health":
            return [limits.Budget(f"{prefix}:address:{place}", limit)]
        shared = limit * config.rate_limit_address_factor
        user_id = await self._user_of(request)
        if user_id is None:
            # Apart from those who are logged in, so that nobody locks them out without having been let in.
            return [limits.Budget(f"{prefix}:stranger:{place}", shared)]
        return [limits.Budget(f"{prefix}:user:{user_id}", limit), limits.Budget(f"{prefix}:address:{place}", shared)]

    async def _user_of(self, request: Request) -> str | None:
        """Give the user whom a request speaks for; None when it proves nobody, or somebody who has never logged in."""
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "tma":
            return await self._user_of_init_data(credentials.strip())
        try:
            return str((await access.session_of(request, self._deps)).user_id)
        except sessions.Unauthenticated:
            return None

    async def _user_of_init_data(self, init_data: str) -> str | None:
        deps = self._deps
        try:
            person = initdata.check(
                init_data, secret=deps.init_data_secret, now=envelope.now(), ttl_s=deps.settings.init_data_ttl_s
            )
        except sessions.Unauthenticated:
            return None
        if person.id in self._known:
            self._known.move_to_end(person.id)
            return self._known[person.id]
        async with deps.db.statement() as tx:
            user = await users.find(tx, deps.tenant, person.id)
        if user is None:
            return None
        self._known[person.id] = str(user.id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return self._known[person.id]
