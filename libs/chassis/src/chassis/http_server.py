"""The HTTP server of a process: uvicorn, with bounds on what a connection may send, hold open and leave unread.

uvicorn parses HTTP and runs the application; the bounds are ours (ADR 0028). A client that is silent, slow or endless
costs a connection for some seconds and nothing else. `/health/live` is answered beyond every bound on connections.
"""

import asyncio
import contextlib
import functools
import itertools
import math
import resource
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http import httptools_impl

from chassis import client_address, http_refusals

LIVE_PATH = "/health/live"
ENDED_PER_TICK_MAX = 200  # uvicorn ticks ten times a second; a wave of closed connections must not hold the loop
FILES_RESERVED = 1_000  # for the database, the broker and what else a process has open


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one server takes from its clients."""

    header_bytes: int = 32 * 1024
    """The request line and the headers."""
    headers: int = 100
    body_wire_bytes: int = 2 * 1024 * 1024
    """A body as it is sent. It is above the limit of bodies, because chunks of one byte take six."""
    pipelined: int = 8
    header_s: float = 5
    body_s: float = 15
    write_s: float = 20
    """How long a client may leave a response unread."""
    keep_alive_s: float = 30
    linger_s: float = 2
    """How long a refused client may go on sending, so that it reads the response and not a reset; and how much."""
    linger_bytes: int = 4 * 1024 * 1024
    connections: int = 8_000
    connections_per_address: int = 500
    surplus: int = 200
    """Connections above these two numbers: only `/health/live` is served on them."""


@dataclass(slots=True)
class Admission:
    """The open connections of one server, in all and by the network of a customer, except those of our proxies."""

    bounds: Bounds
    trusted_proxies: client_address.Networks = ()
    inner_port: int | None = None
    open: int = 0
    by_network: Counter[str] = field(default_factory=Counter)
    surplus: "dict[BoundedProtocol, None]" = field(default_factory=dict)

    def enter(self, connection: "BoundedProtocol", network: str) -> None:
        """Count a connection, as surplus when there are too many; then the oldest surplus one may be closed."""
        bounds = self.bounds
        if self.open < bounds.connections and self.by_network[network] < bounds.connections_per_address:
            self.open += 1
            if network:
                self.by_network[network] += 1
            return
        self.surplus[connection] = None
        if len(self.surplus) > bounds.surplus:
            oldest = next(iter(self.surplus))
            del self.surplus[oldest]
            http_refusals.record("too_many_connections", status=None)
            oldest.transport.abort()

    def leave(self, connection: "BoundedProtocol", network: str, *, was_surplus: bool) -> None:
        """Forget a connection."""
        self.surplus.pop(connection, None)
        if was_surplus:
            return
        self.open -= 1
        if network:
            self.by_network[network] -= 1
            if self.by_network[network] == 0:
                del self.by_network[network]


class BoundedProtocol(httptools_impl.HttpToolsProtocol):
    """One connection. Its deadlines are compared with the clock by the server's tick."""

    def __init__(self, *, admission: Admission, **parts: Any) -> None:
        """Take the server's open connections beside what uvicorn gives."""
        super().__init__(**parts)
        self._admission, self._bounds = admission, admission.bounds
        self._network = ""
        self._is_counted = self._is_surplus = False
        self._reads: Literal["nothing", "headers", "body"] = "nothing"
        self._read_bytes = 0  # of the headers, or of the body, that are being read
        self._completed = 0
        self._read_until = self._write_until = math.inf
        self._refusal: tuple[int, str] | None = None
        self._is_refusing = False
        self._ignored_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Count the connection; it has some seconds to begin a request."""
        super().connection_made(transport)
        self._read_until = self.loop.time() + self._bounds.header_s
        # Probes and metrics of the operator come by a port that is not open to the world.
        if self.server is None or self.server[1] != self._admission.inner_port:
            address = self.client[0] if self.client else ""
            # A proxy's connections carry the requests of many people.
            if not client_address.is_in(address, self._admission.trusted_proxies):
                self._network = client_address.network(address)
            self._is_counted = True
            self._admission.enter(self, self._network)
            self._is_surplus = self in self._admission.surplus

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._is_counted:
            self._admission.leave(self, self._network, was_surplus=self._is_surplus)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, in pieces that can't exceed a bound by more than their own size."""
        if self._is_refusing:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > self._bounds.linger_bytes:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if self._reads == "nothing":
            self._await_headers()  # line breaks before a request begin none, and must not keep a connection
        view = memoryview(data)
        try:
            while view and not self._is_refusing:
                piece, view = view[: self._bounds.header_bytes], view[self._bounds.header_bytes :]
                self._feed(piece)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if it had not asked for another protocol
        except httptools.HttpParserError:
            self._refuse(*(self._refusal or (400, "malformed_request")))

    def _feed(self, piece: memoryview) -> None:
        read, completed = self._reads, self._completed
        self.parser.feed_data(piece)
        if self._completed != completed:
            self._read_bytes = 0
        elif self._reads != "body" or read == "body":
            self._read_bytes += len(piece)
        if self._reads == "body" and self._read_bytes > self._bounds.body_wire_bytes:
            self._refuse(413, "body_too_large")
        elif self._reads != "body" and self._read_bytes >= self._bounds.header_bytes:
            self._refuse(431, "headers_too_large")

    def _await_headers(self) -> None:
        if self._read_until == math.inf:
            self._read_until = self.loop.time() + self._bounds.header_s

    def on_message_begin(self) -> None:
        """Begin with the headers of a request."""
        super().on_message_begin()
        self._reads = "headers"
        self._await_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are ignored: they would join headers that were already relied on."""
        if self._reads == "body":
            return
        if len(self.headers) >= self._bounds.headers:
            self._stop_parsing(431, "too_many_headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request."""
        if len(self.pipeline) >= self._bounds.pipelined:
            self._stop_parsing(400, "too_many_pipelined_requests")
        if self._is_surplus and self.url.partition(b"?")[0] != LIVE_PATH.encode():
            self._stop_parsing(503, "too_many_connections")
        self._reads, self._read_bytes = "body", 0
        self._read_until = self.loop.time() + self._bounds.body_s
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the body; the application may take its time now."""
        self._reads, self._read_until = "nothing", math.inf
        self._completed += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Close a refused connection; let a client that was answered early finish its body, but not for long."""
        super().on_response_complete()
        if self._is_refusing:
            self.transport.close()
        elif self._reads == "body" and not self.pipeline:
            self._read_until = min(self._read_until, self.loop.time() + self._bounds.linger_s)

    def pause_writing(self) -> None:
        """Give the client some seconds to read."""
        super().pause_writing()
        self._write_until = self.loop.time() + self._bounds.write_s

    def resume_writing(self) -> None:
        """Take note that the client reads."""
        super().resume_writing()
        self._write_until = math.inf

    def is_overdue(self, now: float) -> bool:
        """Tell whether the connection has passed a deadline."""
        if self._write_until == math.inf and self.transport.is_closing():
            # What is written but not read keeps a closed connection open.
            self._write_until = now + self._bounds.write_s
        return self._read_until <= now or self._write_until <= now

    def end(self, now: float) -> None:
        """Refuse or close the connection, which is overdue."""
        if self._write_until <= now:
            http_refusals.record("unread_response", status=None)
            self.transport.abort()
        else:
            self._end_late_read(now)

    def _end_late_read(self, now: float) -> None:
        if self._is_refusing:
            self.transport.abort()
        elif self._reads == "nothing" and self._is_busy():
            self._read_until = math.inf  # a line break after the request whose response is being made
        elif self._reads == "nothing":
            http_refusals.record("silent_connection", status=None)
            self.transport.abort()
        elif self.flow.read_paused:
            # The application has not taken what came before, so the client is not the slow one.
            self._read_until = now + self._bounds.body_s
        else:
            self._refuse(408, f"late_{self._reads}")

    def _stop_parsing(self, status: int, reason: str) -> None:
        self._refusal = (status, reason)
        raise httptools.HttpParserCallbackError(reason)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int, reason: str) -> None:
        """Answer with a problem where a response can still be sent, and take nothing more from this connection."""
        self._is_refusing = True
        self._read_until = self.loop.time() + self._bounds.linger_s
        is_busy = self._is_busy()
        if is_busy and (self.pipeline or self._reads != "body"):
            # The earlier request that is being answered gets its response; the connection is closed after it.
            http_refusals.record(reason, status=None)
            self.pipeline.clear()
            self._read_until = math.inf
            return
        if is_busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        is_answered = self.cycle is not None and self._reads == "body" and self.cycle.response_started
        if self.transport.is_closing() or is_answered:
            http_refusals.record(reason, status=None)
            if not is_busy:
                return
            self.transport.abort()
            return
        self.transport.write(
            http_refusals.response(status, reason=reason, default_headers=self.server_state.default_headers)
        )
        self.flow.resume_reading()
        self.transport.write_eof()


class Server(uvicorn.Server):
    """The server inside the event loop of a process, which handles the signals itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        bounds: Bounds | None = None,
        trusted_proxies: client_address.Networks = (),
        inner_port: int | None = None,
    ) -> None:
        """Build a server for `app`; `serve` runs it on sockets."""
        bounds = bounds or Bounds()
        self.admission = Admission(bounds, trusted_proxies, inner_port)
        protocol = functools.partial(BoundedProtocol, admission=self.admission)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type", protocol),
                ws="none",
                access_log=False,
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=10,
                timeout_keep_alive=cast("int", bounds.keep_alive_s),
                # Requests in flight are limited by `chassis.web`; connections here.
                limit_concurrency=None,
                # Which proxies are trusted is a setting of each service; uvicorn would trust any local peer.
                proxy_headers=False,
                server_header=False,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the signals to the process."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """End some of what is overdue."""
        now = asyncio.get_running_loop().time()
        overdue = (one for one in list(self.server_state.connections) if cast("BoundedProtocol", one).is_overdue(now))
        for connection in itertools.islice(overdue, ENDED_PER_TICK_MAX):
            cast("BoundedProtocol", connection).end(now)
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2_048)


def raise_file_limit(connections: int) -> int:
    """Raise this process's soft limit of open files for that many connections; give how many of them then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_RESERVED
    if 0 <= soft < wanted:  # unlimited is negative
        soft = min(wanted, hard) if hard >= 0 else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft < 0 else max(1, min(connections, soft - min(FILES_RESERVED, soft // 2)))
