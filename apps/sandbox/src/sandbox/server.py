"""The HTTP server: uvicorn on uvloop and httptools, with one addition, a way to hang up without an answer."""

from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http import httptools_impl

from sandbox import door

# Requests that a fault holds open must not hold up the stop of the process.
SHUTDOWN_S_MAX = 3


class _DroppableProtocol(httptools_impl.HttpToolsProtocol):
    """Offers each request the ASGI extension that the fault "drop" needs; ASGI itself has no such word."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {door.DROP_EXTENSION: {"drop": self.transport.abort}}


def build(app: FastAPI, *, host: str, port: int) -> uvicorn.Server:
    """Return a server for `app` that is not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http=cast("type", _DroppableProtocol),
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=SHUTDOWN_S_MAX,
        )
    )
