"""Request bodies: read whole, within a size and a time, before anybody acts on them."""

import asyncio

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 1024 * 1024
BODY_S_MAX = 30.0


class Unreadable(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The body is longer (413) or slower (408) than allowed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Bounded:
    """The ASGI app before one that belongs to no provider; it only bounds the bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            body = await read(receive)
        except Unreadable as unreadable:
            await Response(status_code=unreadable.status)(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)


async def read(receive: Receive) -> bytes:
    """Read the whole body; raises Unreadable."""
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await _read(receive)
    except TimeoutError:
        raise Unreadable(408) from None


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read, in one piece, and then what else comes."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size <= BODY_BYTES_MAX:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    if size > BODY_BYTES_MAX:
        raise Unreadable(413)
    return b"".join(chunks)
