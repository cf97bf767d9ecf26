"""An HTTP server with small bounds, and clients that write to it what they like."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from starlette.responses import Response

from chassis import health, http_server, web

BOUNDS = http_server.Bounds(
    header_bytes=4_096,
    headers=20,
    body_wire_bytes=64 * 1024,
    pipelined=3,
    header_s=0.3,
    body_s=0.3,
    write_s=0.3,
    keep_alive_s=60,
    linger_s=0.3,
    linger_bytes=1024 * 1024,
    connections=20,
    connections_per_address=10,
    surplus=3,
)
PATIENT = replace(BOUNDS, header_s=60, body_s=60, write_s=60, keep_alive_s=60, linger_s=60)
GET = b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def app(**parts: Any) -> FastAPI:
    built = web.create("test", health.Health(), **parts)

    @built.get("/echo")
    async def get(request: Request) -> dict[str, list[str]]:
        return {"names": list(request.headers)}

    @built.post("/echo")
    async def post(request: Request) -> dict[str, Any]:
        return {"bytes": len(await request.body()), "names": list(request.headers)}

    @built.get("/large")
    async def large() -> Response:
        return Response(b"x" * 8_000_000)

    return built


class Client:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def is_closed_by_server(self) -> bool:
        """Wait until the server has closed the connection, with whatever it still sends."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass
        return True


Connect = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def serving(
    bounds: http_server.Bounds = BOUNDS, *, application: FastAPI | None = None, has_inner: bool = False, **parts: Any
) -> AsyncIterator[Connect]:
    """Run a server; gives what connects to it, from an address of loopback."""
    listening = http_server.listen("127.0.0.1", 0)
    inner = http_server.listen("127.0.0.1", 0) if has_inner else None
    inner_port = inner.getsockname()[1] if inner else None
    built = application or app(inner_port=inner_port)
    server = http_server.Server(built, bounds=bounds, inner_port=inner_port, **parts)
    port = listening.getsockname()[1]
    running = asyncio.create_task(server.serve([listening, *([inner] if inner else [])]))
    clients: list[Client] = []

    async def connect(source: str = "127.0.0.1", *, is_inner: bool = False) -> Client:
        to = inner_port if is_inner else port
        client = Client(*await asyncio.open_connection("127.0.0.1", to, local_addr=(source, 0)))
        clients.append(client)
        return client

    try:
        async with asyncio.timeout(30):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0)
            yield connect
    finally:
        for client in clients:
            client.writer.close()
        server.should_exit = server.force_exit = True
        await running


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("kopilka_http_refused_total", {"reason": reason}) or 0


def requests(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("kopilka_http_request_seconds_count", labels) or 0


async def is_problem(client: Client, status: int, code: str) -> bool:
    given, headers, body = await client.answer()
    problem = json.loads(body)
    return (
        (given, headers["content-type"], headers["connection"]) == (status, "application/problem+json", "close")
        and (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:kopilka:problem:{code}")
        and problem["correlation_id"] == headers["x-correlation-id"]
        and headers["x-content-type-options"] == "nosniff"
        and bool(problem["title"] and problem["detail"])
    )
