"""The HTTP server: uvicorn on uvloop and httptools, extended so that a connection can be closed without a response."""

from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http import httptools_impl

from sandbox import recording

# Requests that a fault holds open must not delay the shutdown.
SHUTDOWN_S_MAX = 3


class _DroppableProtocol(httptools_impl.HttpToolsProtocol):
    """Adds to each request the ASGI extension that the fault "drop" needs; ASGI itself cannot close a connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {recording.DROP_EXTENSION: {"drop": self.transport.abort}}


def build(app: FastAPI, *, host: str, port: int) -> uvicorn.Server:
    """Build a server for `app`; it is not started."""
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
