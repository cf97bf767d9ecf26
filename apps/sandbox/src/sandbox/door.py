"""The door before every imitated provider: bounds bodies, writes the transcript, carries out planned faults.

Nothing passes to a provider that is not on the transcript, and no secret gets onto it.
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

# A request that is never answered is kept this long; YooKassa, too, gives up after 30 s with a 500.
HOLD_S_MAX = 30.0
TRANSCRIPT_MAX = 10_000

# The key of the ASGI extension that closes the connection without an answer, see `server.py`.
DROP_EXTENSION = "sandbox.drop_connection"


@dataclasses.dataclass(slots=True)
class Entry:
    """One received request; `status` is None while, or when, it has no answer."""

    received_at: datetime
    target: str
    method: str
    path: str
    idempotence_key: str | None
    fault: str | None = None
    status: int | None = None


class Transcript:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=TRANSCRIPT_MAX)

    def add(self, entry: Entry) -> None:
        """Append a request; the oldest falls out when it is full."""
        self._entries.append(entry)

    def latest(self, *, target: str | None, limit: int) -> list[dict[str, Any]]:
        """List the last `limit` requests, of one target where it is given, oldest first."""
        found = [entry for entry in self._entries if target in {None, entry.target}]
        return [dataclasses.asdict(entry) for entry in found[-limit:]]

    def forget(self) -> None:
        """Forget all requests."""
        self._entries.clear()


class Door:
    """The ASGI app in front of one provider."""

    def __init__(
        self,
        provider: providers.Provider,
        *,
        planned: faults.Faults,
        transcript: Transcript,
        virtual_clock: clock.VirtualClock,
    ) -> None:
        self._provider = provider
        self._planned = planned
        self._transcript = transcript
        self._clock = virtual_clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http", "providers speak HTTP only"
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        entry = self._entry(scope, path)
        self._transcript.add(entry)

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        try:
            body = await bodies.read(receive)
        except bodies.Unreadable as unreadable:
            await self._provider.refuse(unreadable.status)(scope, receive, noted_send)
            return
        fault = self._planned.take(self._provider.name, scope["method"], self._provider.route(path))
        if fault is None:
            await self._provider.app(scope, bodies.replayed(body, receive), noted_send)
            return
        entry.fault = fault.kind
        await self._fail(fault, body, scope, receive, noted_send)

    def _entry(self, scope: Scope, path: str) -> Entry:
        headers = dict(scope["headers"])
        key = headers.get(b"idempotence-key") or headers.get(b"idempotency-key")
        return Entry(
            received_at=self._clock.now(),
            target=self._provider.name,
            method=scope["method"],
            path=self._provider.base_path + self._provider.shown_path(path),
            idempotence_key=key.decode("latin-1")[:255] if key else None,
        )

    async def _fail(self, fault: faults.Fault, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        async def execute(send_answer: Send) -> None:
            await self._provider.app(dict(scope), bodies.replayed(body, receive), send_answer)

        match fault.kind:
            case "slow":
                await asyncio.sleep(fault.slow_s)
                await execute(send)
            case "http":
                await self._answer_failure(fault, body, scope, receive, send)
            case "http_after_commit":
                await execute(_discard)
                await self._answer_failure(fault, body, scope, receive, send)
            case "drop":
                scope["extensions"][DROP_EXTENSION]["drop"]()
                await _disconnection(receive)
            case "timeout_before":
                await self._hold(scope, receive, send)
            case "timeout_after_commit":
                await execute(_discard)
                await self._hold(scope, receive, send)

    async def _answer_failure(
        self, fault: faults.Fault, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = self._provider.refuse(fault.status, fault.retry_after_s)
        await self._provider.note_failure(Request(scope, bodies.replayed(body, receive)), answer)
        await answer(scope, receive, send)

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S_MAX):
                await _disconnection(receive)
                return
        await self._provider.refuse(500)(scope, receive, send)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _discard(_message: Message) -> None:
    """Swallow an answer that its client shall never see."""
