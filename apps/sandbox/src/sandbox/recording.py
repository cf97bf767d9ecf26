"""The middleware before every imitated provider: limits bodies, records requests, applies planned faults.

Every request is recorded before the provider sees it. Secrets are never recorded.
"""

import asyncio
import contextlib
import dataclasses
from collections import deque
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from sandbox import bodies, clock, faults, providers

# A request without an answer is held open this long; YooKassa answers 500 after 30 s, too.
HOLD_S_MAX = 30.0
TRANSCRIPT_MAX = 10_000

# The key of the ASGI extension that closes the connection without a response, see `server.py`.
DROP_EXTENSION = "sandbox.drop_connection"


@dataclasses.dataclass(slots=True)
class RequestRecord:
    """One received request; `status` is None as long as it has no response."""

    received_at: datetime
    target: str
    method: str
    path: str
    idempotence_key: str | None
    fault: str | None = None
    status: int | None = None


class RequestLog:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=TRANSCRIPT_MAX)

    def add(self, record: RequestRecord) -> None:
        """Append a request; the oldest is dropped when the log is full."""
        self._records.append(record)

    def latest(self, *, target: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the last `limit` requests, to one target if it is given, oldest first."""
        found = [record for record in self._records if target in {None, record.target}]
        return [dataclasses.asdict(record) for record in found[-limit:]]

    def reset(self) -> None:
        """Remove all requests."""
        self._records.clear()


class RecordingMiddleware:
    """The ASGI middleware in front of one provider."""

    def __init__(
        self,
        provider: providers.ProviderApi,
        *,
        planned_faults: faults.Faults,
        request_log: RequestLog,
        virtual_clock: clock.VirtualClock,
    ) -> None:
        self._provider = provider
        self._faults = planned_faults
        self._request_log = request_log
        self._clock = virtual_clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http", "providers speak HTTP only"
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        record = self._record_of(scope, path)
        self._request_log.add(record)

        async def recording_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        try:
            body = await bodies.read(receive)
        except bodies.BodyRejected as rejected:
            await self._provider.error_response(rejected.status)(scope, receive, recording_send)
            return
        fault = self._faults.take(self._provider.name, scope["method"], self._provider.fault_route(path))
        if fault is None:
            await self._provider.app(scope, bodies.replay(body, receive), recording_send)
            return
        record.fault = fault.kind
        await self._apply(fault, body, scope, receive, recording_send)

    def _record_of(self, scope: Scope, path: str) -> RequestRecord:
        headers = dict(scope["headers"])
        key = headers.get(b"idempotence-key") or headers.get(b"idempotency-key")
        return RequestRecord(
            received_at=self._clock.now(),
            target=self._provider.name,
            method=scope["method"],
            path=self._provider.base_path + self._provider.path_without_secrets(path),
            idempotence_key=key.decode("latin-1")[:255] if key else None,
        )

    async def _apply(self, fault: faults.Fault, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        async def execute(send_response: Send) -> None:
            await self._provider.app(dict(scope), bodies.replay(body, receive), send_response)

        match fault.kind:
            case "slow":
                await asyncio.sleep(fault.slow_s)
                await execute(send)
            case "http":
                await self._send_error(fault, body, scope, receive, send)
            case "http_after_commit":
                await execute(_discard)
                await self._send_error(fault, body, scope, receive, send)
            case "drop":
                scope["extensions"][DROP_EXTENSION]["drop"]()
                await _wait_for_disconnect(receive)
            case "timeout_before":
                await self._hold(scope, receive, send)
            case "timeout_after_commit":
                await execute(_discard)
                await self._hold(scope, receive, send)

    async def _send_error(self, fault: faults.Fault, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._provider.error_response(fault.status, fault.retry_after_s)
        await self._provider.record_failure(Request(scope, bodies.replay(body, receive)), response)
        await response(scope, receive, send)

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S_MAX):
                await _wait_for_disconnect(receive)
                return
        await self._provider.error_response(500)(scope, receive, send)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _discard(_message: Message) -> None:
    """Drop a response that the client must not receive."""
