import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from chassis import http_client, testing

SECRET = "bot42:secret"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Run a server that answers one request of each connection; gives its address."""
    connections: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{SECRET}"
        await asyncio.gather(*filter(None, connections))


def sending(body: bytes, status: str = "200 OK", headers: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


@contextlib.asynccontextmanager
async def connected(url: str, *, timeout_s: float = 10, **bounds: Any) -> AsyncIterator[http_client.HttpClient]:
    client = http_client.HttpClient(url, timeout_s=timeout_s, **bounds)
    yield client
    await client.close()


async def test_a_response_is_given_whatever_its_status() -> None:
    answer = sending(b"{}", "429 Too Many Requests", "Retry-After: 3\r\n")

    async with serving(answer) as url, connected(url) as client:
        response = await client.request("GET", "/getMe")

    assert (response.status, response.body, response.headers["retry-after"]) == (429, b"{}", "3")


async def test_a_redirect_is_not_followed() -> None:
    answer = sending(b"", "302 Found", "Location: /elsewhere\r\n")

    async with serving(answer) as url, connected(url) as client:
        response = await client.request("POST", "/sendMessage", json={})

    assert response.status == 302


async def test_a_request_that_finds_no_connection_was_not_sent() -> None:
    async with connected(f"http://127.0.0.1:{testing.free_port()}") as client:
        with pytest.raises(http_client.NotSentError, match="ConnectError"):
            await client.request("GET", "/")


async def test_a_body_that_comes_in_drops_ends_at_the_total_time() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1_000):
            writer.write(b"x")
            await writer.drain()  # ends when the client has gone
            await asyncio.sleep(0.05)  # each drop is in time; all of them are not

    async with serving(drip) as url, connected(url, timeout_s=0.3) as client:
        with pytest.raises(http_client.NoResponseError, match="TimeoutError"):
            await client.request("GET", "/")


async def test_a_connection_that_breaks_in_the_middle_is_no_response() -> None:
    async def stop(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
        await writer.drain()

    async with serving(stop) as url, connected(url) as client:
        with pytest.raises(http_client.NoResponseError, match="RemoteProtocolError"):
            await client.request("GET", "/")


async def test_a_response_is_read_up_to_its_bound_and_no_further() -> None:
    async with serving(sending(b"x" * 1_000)) as url, connected(url, response_bytes_max=1_000) as client:
        whole = await client.request("GET", "/")
    async with serving(sending(b"x" * 1_001)) as url, connected(url, response_bytes_max=1_000) as client:
        with pytest.raises(http_client.ResponseTooLargeError):
            await client.request("GET", "/")

    assert len(whole.body) == 1_000


async def test_more_requests_than_connections_wait_for_one() -> None:
    open_now, most, pair = 0, 0, asyncio.Barrier(2)

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await pair.wait()
        open_now -= 1
        await sending(b"")(writer)

    async with serving(answer) as url, connected(url, connections_max=2) as client:
        await asyncio.gather(*(client.request("GET", "/") for _ in range(6)))

    assert most == 2


async def test_no_log_line_names_an_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")

    async with serving(sending(b"")) as url, connected(url) as client:
        await client.request("GET", "/getMe")

    assert SECRET not in caplog.text
