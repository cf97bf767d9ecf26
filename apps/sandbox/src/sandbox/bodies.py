"""Request bodies: read completely, within limits of size and time, before a request is handled."""

import asyncio

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 1024 * 1024
BODY_S_MAX = 30.0


class BodyRejected(Exception):  # noqa: N818 - an answer to the client, not a failure
    """The body is larger (413) or slower (408) than allowed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class BodyLimitMiddleware:
    """The ASGI middleware that enforces the body limits before apps that are no provider."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            body = await read(receive)
        except BodyRejected as rejected:
            await Response(status_code=rejected.status)(scope, receive, send)
            return
        await self._app(scope, replay(body, receive), send)


async def read(receive: Receive) -> bytes:
    """Read the whole body; raises BodyRejected."""
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await _read(receive)
    except TimeoutError:
        raise BodyRejected(408) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields an already read body in one message, then the following messages."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        return next(messages, None) or await receive()

    return receive_again


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
        raise BodyRejected(413)
    return b"".join(chunks)
