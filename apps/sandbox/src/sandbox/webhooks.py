"""Outgoing webhooks of every imitated provider: the delivery plan, bounded concurrency, retries on the virtual clock.

A delivery is tried until the receiver acknowledges it or its lifetime, in virtual time, has passed.
"""

import asyncio
import contextlib
import dataclasses
import logging
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import httpx

from sandbox import clock

CONNECTIONS_MAX = 50
# Open deliveries (waiting, under way or between retries); beyond it new ones are lost, and counted as lost.
DELIVERIES_MAX = 100_000
# Deliveries that can still be looked at, and the statuses of one that are kept.
SENT_MAX, STATUSES_MAX = 10_000, 20
ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 65_536
# Below the 5 s after which uvicorn closes an idle connection: a webhook must not meet a half-closed one.
KEEPALIVE_S = 4.0
LIFETIME_S = 24 * 3600.0
RETRY_DELAY_S_FIRST, RETRY_DELAY_S_MAX = 1.0, 3600.0
# How long an odd notification waits for the one it shall come after.
REORDER_S_MAX = 60.0

_PLAN = re.compile(r"(?P<kind>normal|drop|reorder)|duplicate:(?P<copies>[0-9]{1,4})|delay:(?P<delay_ms>[0-9]{1,8})")
_log = logging.getLogger(__name__)


class UnknownPlan(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """A webhook plan is one of normal, drop, duplicate:N (1-1000), delay:MS (up to a day), reorder."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How new webhooks go out; what is already on its way keeps its fate."""

    text: str = "normal"
    copies: int = 1
    delay_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Read the plan's text form; raises UnknownPlan."""
        match = _PLAN.fullmatch(text)
        if match is None:
            raise UnknownPlan(UnknownPlan.__doc__)
        copies = 0 if text == "drop" else int(match["copies"] or 1)
        delay_s = int(match["delay_ms"] or 0) / 1000
        if copies > 1000 or (match["copies"] and copies < 1) or delay_s > LIFETIME_S:
            raise UnknownPlan(UnknownPlan.__doc__)
        return cls(text, copies, delay_s)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What a provider wants delivered: `about` is the payment, `sign` gives the headers anew for every attempt,
    `on_answer` is told body and content type of an acknowledging answer.
    """

    url: str
    body: bytes
    is_acknowledged: Callable[[int], bool]
    about: str = ""
    sign: Callable[[], Mapping[str, str]] = dict
    lifetime_s: float = LIFETIME_S
    on_answer: Callable[[bytes, str], None] = lambda _body, _content_type: None


@dataclasses.dataclass(eq=False, slots=True)
class Delivery:
    """One copy of one webhook on its way to its receiver; a status of 0 is an attempt without an answer."""

    webhook: Webhook
    created_at: datetime
    expires_at_s: float
    is_deferred: bool = False
    is_open: bool = True
    is_delivered: bool = False
    attempts: int = 0
    statuses: deque[int] = dataclasses.field(default_factory=lambda: deque(maxlen=STATUSES_MAX))
    attempted: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    # The delivery that the plan "reorder" sends after this one.
    follower: "Delivery | None" = None

    def shown(self) -> dict[str, Any]:
        """Show what was sent where and how it was answered; never the headers, they may hold a secret."""
        return {
            "about": self.webhook.about,
            "url": self.webhook.url,
            "created_at": self.created_at.isoformat(),
            "attempts": self.attempts,
            "statuses": list(self.statuses),
            "is_delivered": self.is_delivered,
            "body": self.webhook.body.decode(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    content_type: str = ""


class Courier:
    """Carries webhooks to their receivers by the current plan."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._plan = Plan()
        self._ready: asyncio.Queue[Delivery] = asyncio.Queue(DELIVERIES_MAX)
        self._open: set[Delivery] = set()
        self._due: set[Delivery] = set()
        self._held: Delivery | None = None
        self._sent: deque[Delivery] = deque(maxlen=SENT_MAX)
        self._acknowledged = self._failed_attempts = self._lost = 0

    def forget(self) -> None:
        """Drop every open delivery, the counters and the plan; answers still under way change nothing."""
        self._plan, self._held = Plan(), None
        self._open.clear()
        self._due.clear()
        self._sent.clear()
        while not self._ready.empty():
            self._ready.get_nowait()
        self._acknowledged = self._failed_attempts = self._lost = 0

    def follow_plan(self, plan: Plan) -> None:
        """Use `plan` for webhooks from now on; one that waited for its successor goes out."""
        self._plan = plan
        if self._held is not None:
            self._release(self._held)

    def post(self, webhook: Webhook) -> list[Delivery]:
        """Send a webhook by the current plan; returns its deliveries, none where the plan drops it."""
        copies = min(self._plan.copies, DELIVERIES_MAX - len(self._open))
        if copies < self._plan.copies:
            self._lost += self._plan.copies - copies
            _log.error("sandbox.webhooks.lost open=%d", len(self._open))
        expires_at_s = self._clock.time_s() + webhook.lifetime_s
        deliveries = [Delivery(webhook, self._clock.now(), expires_at_s) for _ in range(copies)]
        for delivery in deliveries:
            self._open.add(delivery)
            self._sent.append(delivery)
            self._start(delivery)
        return deliveries

    def sent(self, about: str | None, limit: int) -> list[Delivery]:
        """List the last `limit` deliveries, those about one payment where it is given, oldest first."""
        return [delivery for delivery in self._sent if about in {None, delivery.webhook.about}][-limit:]

    def due(self) -> list[Delivery]:
        """List the deliveries that wait for a free connection or are being attempted right now."""
        return list(self._due)

    def report(self) -> dict[str, object]:
        """Tell the plan and the counts since the last reset."""
        return {
            "plan": self._plan.text,
            "acknowledged": self._acknowledged,
            "failed_attempts": self._failed_attempts,
            "lost": self._lost,
            "open": len(self._open),
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the context is open; what is not delivered at its end is dropped."""
        trust = httpx.create_ssl_context(trust_env=False)
        workers = [asyncio.create_task(self._carry(trust)) for _ in range(CONNECTIONS_MAX)]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _start(self, delivery: Delivery) -> None:
        if self._plan.text == "reorder" and self._held is None:
            delivery.is_deferred = True
            self._held = delivery
            self._clock.after(REORDER_S_MAX, lambda: self._release(delivery))
        elif self._plan.text == "reorder":
            delivery.follower, self._held = self._held, None
            self._enqueue(delivery)
        elif self._plan.delay_s:
            delivery.is_deferred = True
            self._clock.after(self._plan.delay_s, lambda: self._enqueue(delivery))
        else:
            self._enqueue(delivery)

    def _release(self, delivery: Delivery) -> None:
        if self._held is delivery:
            self._held = None
            self._enqueue(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        if delivery not in self._open:  # forgotten by a reset while it waited
            return
        delivery.is_deferred = False
        delivery.attempted.clear()
        self._due.add(delivery)
        self._ready.put_nowait(delivery)

    async def _carry(self, trust: ssl.SSLContext) -> None:
        # A client each: one pool of 50 connections costs three times the CPU, spent on searching the pool.
        limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S)
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=ANSWER_TIMEOUT_S, limits=limits) as client:
            while True:  # supervised: a worker lives as long as the sandbox
                delivery = await self._ready.get()
                answer = await _attempt(client, delivery.webhook)
                self._settle(delivery, answer)

    def _settle(self, delivery: Delivery, answer: _Answer) -> None:
        delivery.attempts += 1
        delivery.statuses.append(answer.status)
        is_acknowledged = delivery.webhook.is_acknowledged(answer.status)
        if is_acknowledged and delivery in self._open:
            _read_answer(delivery.webhook, answer)
        delivery.attempted.set()
        if delivery not in self._open:
            return
        self._due.discard(delivery)
        if delivery.follower is not None:
            self._enqueue(delivery.follower)
            delivery.follower = None
        if is_acknowledged:
            self._acknowledged += 1
            delivery.is_delivered = True
            self._close(delivery)
            return
        self._failed_attempts += 1
        delay_s = min(RETRY_DELAY_S_FIRST * 2 ** (delivery.attempts - 1), RETRY_DELAY_S_MAX)
        if self._clock.time_s() + delay_s > delivery.expires_at_s:
            self._lost += 1
            self._close(delivery)
        else:
            self._clock.after(delay_s, lambda: self._enqueue(delivery))

    def _close(self, delivery: Delivery) -> None:
        delivery.is_open = False
        self._open.discard(delivery)


async def attempted(deliveries: Iterable[Delivery], *, timeout_s: float) -> None:
    """Wait until each delivery that is not deferred by the plan was attempted, at most `timeout_s`.

    A list may grow meanwhile: what an answer to one webhook set off is waited for too.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for delivery in deliveries:
                if not delivery.is_deferred:
                    await delivery.attempted.wait()


def _read_answer(webhook: Webhook, answer: _Answer) -> None:
    try:
        webhook.on_answer(answer.body, answer.content_type)
    except Exception:  # noqa: BLE001 - a loop edge: one strange answer must not cost a worker
        _log.exception("sandbox.webhooks.answer_failed")


async def _attempt(client: httpx.AsyncClient, webhook: Webhook) -> _Answer:
    try:
        return await _send(client, webhook)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _log.info("sandbox.webhooks.unreachable error=%s", type(error).__name__)
    except Exception:  # noqa: BLE001 - a loop edge: one broken delivery must not cost a worker
        _log.exception("sandbox.webhooks.failed")
    return _Answer(0)


async def _send(client: httpx.AsyncClient, webhook: Webhook) -> _Answer:
    headers = {"content-type": "application/json", **webhook.sign()}
    async with client.stream("POST", webhook.url, content=webhook.body, headers=headers) as answer:
        # Reading a short body lets the connection be used again; a long one is cut off with it.
        if int(answer.headers.get("content-length", ANSWER_BYTES_MAX + 1)) <= ANSWER_BYTES_MAX:
            content_type = answer.headers.get("content-type", "")
            return _Answer(answer.status_code, await answer.aread(), content_type)
        return _Answer(answer.status_code)
