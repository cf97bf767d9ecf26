"""An HTTP load generator for webhooks: notifications as providers send them, over connections that are kept open.

The generator must not be what is measured: requests are built beforehand, and responses are read only up to their
length.
"""

import asyncio
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

CONNECTIONS = 32
RESPONSE_S_MAX = 30
# An address that YooKassa publishes; it arrives in X-Forwarded-For of a proxy on this machine.
YOOKASSA_PEER = "185.71.76.5"
STRIPE_SECRET = "whsec_bench"
STRIPE_ACCOUNT = "acct_1Bench"
_CORES = sorted(os.sched_getaffinity(0))


class ConnectionPool:
    """Open connections to one process; a request waits for a free one."""

    def __init__(self, connections: Sequence["_Connection"]) -> None:
        """Take the open connections."""
        self._free: asyncio.Queue[_Connection] = asyncio.Queue(len(connections))
        for connection in connections:
            self._free.put_nowait(connection)

    async def send(self, request: bytes) -> None:
        """Send a request and wait for its response. Raises RuntimeError for any status but 200."""
        connection = await self._free.get()
        try:
            async with asyncio.timeout(RESPONSE_S_MAX):
                status = await connection.exchange(request)
        finally:
            self._free.put_nowait(connection)
        if status != 200:
            raise RuntimeError(f"the response has status {status}")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[ConnectionPool]:
    """Connect for the block."""
    address, loop = urlsplit(url), asyncio.get_running_loop()
    connections = [
        await loop.create_connection(_Connection, str(address.hostname), int(address.port or 80))
        for _ in range(CONNECTIONS)
    ]
    try:
        yield ConnectionPool([connection for _, connection in connections])
    finally:
        for transport, _ in connections:
            transport.close()


async def closed_loop(pool: ConnectionPool, requests: Sequence[bytes]) -> float:
    """Send requests, the next on each connection after its response; return the seconds that all took."""
    waiting = iter(requests)

    async def send_in_turn() -> None:
        for request in waiting:
            await pool.send(request)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as senders:
        for _ in range(CONNECTIONS):
            senders.create_task(send_in_turn())
    return time.perf_counter() - started


async def open_loop(count: int, rate: float, act: Callable[[int], Awaitable[None]]) -> list[float]:
    """Act at a steady rate, however long each call takes; return the seconds from each one's due time to its end."""
    started = time.perf_counter()
    took_s: list[float] = []

    async def act_due(number: int) -> None:
        await act(number)
        took_s.append(time.perf_counter() - started - number / rate)

    async with asyncio.TaskGroup() as actors:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            actors.create_task(act_due(number))
    return took_s


def yookassa(ref: str) -> bytes:
    """Return the request that YooKassa sends for a paid payment."""
    amount = {"value": "1500.00", "currency": "RUB"}
    body = {
        "type": "notification",
        "event": "payment.succeeded",
        "object": {
            "id": ref,
            "status": "succeeded",
            "amount": amount,
            "income_amount": {"value": "1447.50", "currency": "RUB"},
            "description": "Top-up of a wallet",
            "recipient": {"account_id": "demo-shop", "gateway_id": "2000001"},
            "payment_method": {
                "type": "bank_card",
                "id": ref,
                "saved": False,
                "title": "Bank card *4477",
                "card": {
                    "first6": "555555",
                    "last4": "4477",
                    "expiry_year": "2030",
                    "expiry_month": "01",
                    "card_type": "MasterCard",
                    "issuer_country": "RU",
                },
            },
            "captured_at": "2026-11-02T12:00:41.003Z",
            "created_at": "2026-11-02T12:00:07.911Z",
            "test": True,
            "refunded_amount": {"value": "0.00", "currency": "RUB"},
            "paid": True,
            "refundable": True,
            "metadata": {"payment_id": ref, "tenant": "demo"},
            "authorization_details": {"rrn": "10000000000", "auth_code": "000000", "three_d_secure": {"applied": True}},
        },
    }
    return _request("/webhooks/yookassa/demo", body, {"X-Forwarded-For": YOOKASSA_PEER})


def stripe(ref: str, *, secret: str = STRIPE_SECRET, payment_id: str = "") -> bytes:
    """Return the request that Stripe sends for a paid session, signed now; it is valid for five minutes."""
    now = int(time.time())
    body = {
        "id": f"evt_{ref}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": now,
        "data": {
            "object": {
                "id": ref,
                "object": "checkout.session",
                "amount_subtotal": 150_000,
                "amount_total": 150_000,
                "client_reference_id": payment_id,
                "created": now,
                "currency": "usd",
                "customer_details": {"address": {"country": "DE"}, "email": "payer@example.com", "name": "A Payer"},
                "expires_at": now + 86_400,
                "livemode": False,
                "metadata": {"payment_id": payment_id, "tenant": "demo"},
                "mode": "payment",
                "payment_intent": f"pi_{ref}",
                "payment_method_types": ["card"],
                "payment_status": "paid",
                "status": "complete",
                "success_url": "https://shop.example/thanks",
                "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
            }
        },
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "checkout.session.completed",
    }
    signed = f"{now}.".encode() + json.dumps(body).encode()
    signature = hmac.new(secret.encode(), signed, "sha256").hexdigest()
    return _request("/webhooks/stripe/demo", body, {"Stripe-Signature": f"t={now},v1={signature}"})


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(pid: int) -> None:
    """Pin a process with all its threads to one core, and this one to the others; does nothing on a single core."""
    if len(_CORES) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), _CORES[-1:])
        os.sched_setaffinity(0, _CORES[:-1])


class _Connection(asyncio.Protocol):
    """One open connection with at most one request in flight."""

    def __init__(self) -> None:
        self._read = b""
        self._transport: asyncio.Transport | None = None
        self._status: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one in all but its class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, separator, body = self._read.partition(b"\r\n\r\n")
        if not separator or self._status is None or len(body) < _length(head):
            return
        status, self._read = self._status, b""
        if not status.done():
            status.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._status is not None and not self._status.done():
            self._status.set_exception(error or ConnectionError("the connection was closed"))

    async def exchange(self, request: bytes) -> int:
        assert self._transport is not None  # made by a loop that waits for the connection
        if self._transport.is_closing():
            raise ConnectionError("the connection was closed")
        self._status = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._status


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("the response has no length")


def _request(path: str, body: object, headers: dict[str, str]) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content
