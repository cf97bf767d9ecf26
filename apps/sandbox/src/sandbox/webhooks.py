"""Sends the webhooks of all providers: delivery plans, bounded concurrency, retries on the virtual clock.

A delivery is attempted until the receiver acknowledges it or its lifetime, in virtual time, has passed.
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

from sandbox import clock, errors

CONNECTIONS_MAX = 50
# Open deliveries (queued, in progress or between retries); more are dropped and counted as lost.
DELIVERIES_MAX = 100_000
# How many deliveries are kept for inspection, and how many statuses of each.
SENT_MAX, STATUSES_MAX = 10_000, 20
ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 65_536
# Below the 5 s after which uvicorn closes an idle connection, so that no webhook uses a half-closed one.
KEEPALIVE_S = 4.0
LIFETIME_S = 24 * 3600.0
RETRY_DELAY_S_FIRST, RETRY_DELAY_S_MAX = 1.0, 3600.0
# How long the plan "reorder" holds a delivery back while it waits for the next one.
REORDER_S_MAX = 60.0

_PLAN = re.compile(r"(?P<kind>normal|drop|reorder)|duplicate:(?P<copies>[0-9]{1,4})|delay:(?P<delay_ms>[0-9]{1,8})")
_log = logging.getLogger(__name__)


class UnknownPlan(errors.ControlError):
    """A webhook plan is one of normal, drop, duplicate:N (1-1000), delay:MS (up to a day), reorder."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How new webhooks are delivered; it does not change earlier ones."""

    text: str = "normal"
    copies: int = 1
    delay_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "DeliveryPlan":
        """Parse the text form of a plan; raises UnknownPlan."""
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
    """A webhook to deliver: `sign` returns the headers of one attempt, `on_response` receives body and content type of
    the response that acknowledges it.
    """

    url: str
    body: bytes
    is_acknowledged: Callable[[int], bool]
    payment_ref: str = ""
    sign: Callable[[], Mapping[str, str]] = dict
    lifetime_s: float = LIFETIME_S
    on_response: Callable[[bytes, str], None] = lambda _body, _content_type: None


@dataclasses.dataclass(eq=False, slots=True)
class Delivery:
    """One delivery of a webhook; status 0 stands for an attempt without a response."""

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
    successor: "Delivery | None" = None

    def to_json(self) -> dict[str, Any]:
        """Return what was sent to which URL and the statuses of the responses; no headers, which may hold secrets."""
        return {
            "about": self.webhook.payment_ref,
            "url": self.webhook.url,
            "created_at": self.created_at.isoformat(),
            "attempts": self.attempts,
            "statuses": list(self.statuses),
            "is_delivered": self.is_delivered,
            "body": self.webhook.body.decode(),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes = b""
    content_type: str = ""


class WebhookSender:
    """Delivers webhooks to their receivers by the current plan."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._plan = DeliveryPlan()
        self._ready: asyncio.Queue[Delivery] = asyncio.Queue(DELIVERIES_MAX)
        self._open: set[Delivery] = set()
        self._due: set[Delivery] = set()
        self._held: Delivery | None = None
        self._sent: deque[Delivery] = deque(maxlen=SENT_MAX)
        self._acknowledged = self._failed_attempts = self._lost = 0

    def reset(self) -> None:
        """Drop all open deliveries, the counters and the plan; responses still in progress are ignored."""
        self._plan, self._held = DeliveryPlan(), None
        self._open.clear()
        self._due.clear()
        self._sent.clear()
        while not self._ready.empty():
            self._ready.get_nowait()
        self._acknowledged = self._failed_attempts = self._lost = 0

    def set_plan(self, plan: DeliveryPlan) -> None:
        """Use `plan` for new webhooks; a delivery held back by the old plan is sent."""
        self._plan = plan
        if self._held is not None:
            self._release(self._held)

    def send(self, webhook: Webhook) -> list[Delivery]:
        """Send a webhook by the current plan; return its deliveries, which are none if the plan drops it."""
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

    def deliveries_of(self, payment_ref: str, limit: int) -> list[Delivery]:
        """Return the last `limit` deliveries about one payment, oldest first."""
        return [delivery for delivery in self._sent if delivery.webhook.payment_ref == payment_ref][-limit:]

    def due(self) -> list[Delivery]:
        """Return the deliveries that are queued or being attempted."""
        return list(self._due)

    def statistics(self) -> dict[str, object]:
        """Return the plan and the counters since the last reset."""
        return {
            "plan": self._plan.text,
            "acknowledged": self._acknowledged,
            "failed_attempts": self._failed_attempts,
            "lost": self._lost,
            "open": len(self._open),
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the context is open; at its end undelivered webhooks are dropped."""
        ssl_context = httpx.create_ssl_context(trust_env=False)
        workers = [asyncio.create_task(self._run_worker(ssl_context)) for _ in range(CONNECTIONS_MAX)]
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
            self._clock.call_later(REORDER_S_MAX, lambda: self._release(delivery))
        elif self._plan.text == "reorder":
            delivery.successor, self._held = self._held, None
            self._enqueue(delivery)
        elif self._plan.delay_s:
            delivery.is_deferred = True
            self._clock.call_later(self._plan.delay_s, lambda: self._enqueue(delivery))
        else:
            self._enqueue(delivery)

    def _release(self, delivery: Delivery) -> None:
        if self._held is delivery:
            self._held = None
            self._enqueue(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        if delivery not in self._open:  # dropped by a reset while it waited
            return
        delivery.is_deferred = False
        delivery.attempted.clear()
        self._due.add(delivery)
        self._ready.put_nowait(delivery)

    async def _run_worker(self, ssl_context: ssl.SSLContext) -> None:
        # One client per worker: a shared pool of 50 connections costs three times the CPU, for searching the pool.
        limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S)
        async with httpx.AsyncClient(
            verify=ssl_context, trust_env=False, timeout=ANSWER_TIMEOUT_S, limits=limits
        ) as client:
            while True:  # supervised: a worker runs as long as the sandbox
                delivery = await self._ready.get()
                response = await _attempt(client, delivery.webhook)
                self._record_attempt(delivery, response)

    def _record_attempt(self, delivery: Delivery, response: _Response) -> None:
        delivery.attempts += 1
        delivery.statuses.append(response.status)
        is_acknowledged = delivery.webhook.is_acknowledged(response.status)
        if is_acknowledged and delivery in self._open:
            _pass_response(delivery.webhook, response)
        delivery.attempted.set()
        if delivery not in self._open:
            return
        self._due.discard(delivery)
        if delivery.successor is not None:
            self._enqueue(delivery.successor)
            delivery.successor = None
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
            self._clock.call_later(delay_s, lambda: self._enqueue(delivery))

    def _close(self, delivery: Delivery) -> None:
        delivery.is_open = False
        self._open.discard(delivery)


async def wait_for_attempts(deliveries: Iterable[Delivery], *, timeout_s: float) -> None:
    """Wait up to `timeout_s` until each delivery that the plan does not defer was attempted.

    The list may grow meanwhile: webhooks caused by the response to a webhook are waited for, too.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for delivery in deliveries:
                if not delivery.is_deferred:
                    await delivery.attempted.wait()


def _pass_response(webhook: Webhook, response: _Response) -> None:
    try:
        webhook.on_response(response.body, response.content_type)
    except Exception:  # noqa: BLE001 - a loop edge: one invalid response must not end a worker
        _log.exception("sandbox.webhooks.response_failed")


async def _attempt(client: httpx.AsyncClient, webhook: Webhook) -> _Response:
    try:
        return await _send(client, webhook)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _log.info("sandbox.webhooks.unreachable error=%s", type(error).__name__)
    except Exception:  # noqa: BLE001 - a loop edge: one failing delivery must not end a worker
        _log.exception("sandbox.webhooks.failed")
    return _Response(0)


async def _send(client: httpx.AsyncClient, webhook: Webhook) -> _Response:
    headers = {"content-type": "application/json", **webhook.sign()}
    async with client.stream("POST", webhook.url, content=webhook.body, headers=headers) as response:
        # A short body is read, so that the connection can be reused; a long one ends with its connection.
        if int(response.headers.get("content-length", ANSWER_BYTES_MAX + 1)) <= ANSWER_BYTES_MAX:
            content_type = response.headers.get("content-type", "")
            return _Response(response.status_code, await response.aread(), content_type)
        return _Response(response.status_code)
