"""The HTTP server against clients that are silent, slow or endless: over real sockets, with small bounds."""

import asyncio
import json
from dataclasses import replace

import pytest
import raw_http

from chassis import web


# Kludex/uvicorn#157, xorbitsai/inference#5213
@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n" * 100])
async def test_a_connection_that_begins_no_request_is_closed(sent: bytes) -> None:
    before = raw_http.refused("silent_connection")
    async with raw_http.serving() as connect:
        client = await connect()
        await client.send(sent)

        assert await client.reader.read() == b""
    assert raw_http.refused("silent_connection") == before + 1


@pytest.mark.parametrize("half", [b"G", b"GET /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\nhost: x\r\nx-half: v"])
@pytest.mark.parametrize("before", [b"", raw_http.GET])
async def test_headers_that_stop_are_answered_408(half: bytes, before: bytes) -> None:
    async with raw_http.serving() as connect:
        client = await connect()
        await client.send(before + half)
        if before:
            assert (await client.answer())[0] == 200

        assert await raw_http.is_problem(client, 408, "request_timeout")
        assert await client.is_closed_by_server()


async def test_headers_that_come_byte_by_byte_are_answered_408() -> None:
    async with raw_http.serving() as connect:
        client = await connect()
        await client.send(b"GET /")
        answered = asyncio.create_task(raw_http.is_problem(client, 408, "request_timeout"))
        while not answered.done():
            await client.send(b"a")
            await asyncio.wait([answered], timeout=0.02)

        assert await answered


@pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
async def test_a_body_that_stops_is_answered_408(length: str) -> None:
    before = raw_http.refused("late_body")
    async with raw_http.serving() as connect:
        client = await connect()
        await client.send(f"POST /echo HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode())

        assert await raw_http.is_problem(client, 408, "request_timeout")
        assert await client.is_closed_by_server()
    assert raw_http.refused("late_body") == before + 1
    assert raw_http.requests("POST", "/echo", web.CLIENT_CLOSED_REQUEST) > 0


@pytest.mark.parametrize(
    "piece", [b"x-endless: " + b"v" * 200_000, b"x: y\r\n" * 30, b"x-a: " + b"v" * 5_000 + b"\r\n\r\n"]
)
async def test_headers_that_are_too_large_or_too_many_are_answered_431(piece: bytes) -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(b"GET /echo HTTP/1.1\r\nhost: x\r\n" + piece)

        assert await raw_http.is_problem(client, 431, "request_header_fields_too_large")


async def test_a_request_line_without_end_is_answered_431() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(b"GET /" + b"a" * 100_000)

        assert await raw_http.is_problem(client, 431, "request_header_fields_too_large")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"NOT HTTP\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_request_is_answered_400(nonsense: bytes) -> None:
    before = raw_http.refused("malformed_request")
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(nonsense)

        assert await raw_http.is_problem(client, 400, "bad_request")
    assert raw_http.refused("malformed_request") == before + 1


@pytest.mark.parametrize("tail", [b"x-trailer: " + b"v" * 200_000, b"x: y\r\n" * 20_000])
async def test_trailers_without_end_are_cut(tail: bytes) -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + tail)

        assert await raw_http.is_problem(client, 413, "content_too_large")


async def test_trailers_do_not_join_the_headers() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(
            b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n0\r\nx-forwarded-for: 10.0.0.1\r\n\r\n"
        )
        status, _, body = await client.answer()

    assert (status, json.loads(body)["bytes"]) == (200, 2)
    assert "x-forwarded-for" not in json.loads(body)["names"]


async def test_many_pipelined_requests_are_cut_after_those_that_are_answered() -> None:
    before = raw_http.refused("too_many_pipelined_requests")
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(raw_http.GET * 2_000)
        received = await client.reader.read(-1)

        assert 1 <= received.count(b"HTTP/1.1 200") <= raw_http.BOUNDS.pipelined + 1
    assert raw_http.refused("too_many_pipelined_requests") == before + 1


async def test_some_pipelined_requests_are_answered_in_order() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(
            raw_http.GET + b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc" + raw_http.GET
        )

        answers = [await client.answer() for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert json.loads(answers[1][2])["bytes"] == 3


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_a_client_that_does_not_read_its_response_is_cut(connection: bytes) -> None:
    before = raw_http.refused("unread_response")
    async with raw_http.serving() as connect:
        client = await connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: " + connection + b"\r\n\r\n")
        while raw_http.refused("unread_response") == before:  # noqa: ASYNC110 - the server's counter is no event
            await asyncio.sleep(0.05)

        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await client.is_closed_by_server()


async def test_a_refused_client_that_goes_on_sending_is_cut() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        chunk = b"v" * 65_536
        with pytest.raises(ConnectionError):  # noqa: PT012 - it is raised by one of many
            for _ in range(10_000):
                await client.send(chunk)


async def test_a_body_above_the_limit_is_answered_before_it_ends_and_not_read_for_ever() -> None:
    async with raw_http.serving() as connect:
        client = await connect()
        await client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n" + b"x" * 400_000)

        assert (await client.answer())[0] == 413
        assert await client.is_closed_by_server()


async def test_a_response_to_head_has_the_headers_of_get_and_no_body() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        client = await connect()
        await client.send(b"HEAD /echo HTTP/1.1\r\nhost: x\r\n\r\n" + raw_http.GET)
        head = await client.reader.readuntil(b"\r\n\r\n")
        status, headers, body = await client.answer()

    assert head.startswith(b"HTTP/1.1 200")
    assert f"content-length: {len(body)}".encode() in head
    assert (status, headers["content-length"]) == (200, str(len(body)))


async def test_a_request_for_another_protocol_is_answered_in_this_one() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        for protocol in (b"h2c", b"websocket"):
            client = await connect()
            await client.send(
                b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n"
            )
            assert (await client.answer())[0] == 200


async def test_a_kept_connection_outlives_the_time_for_headers() -> None:
    async with raw_http.serving(replace(raw_http.PATIENT, header_s=0.3)) as connect:
        silent, kept = await connect(), await connect()
        await kept.send(raw_http.GET)
        assert (await kept.answer())[0] == 200
        assert await silent.is_closed_by_server()
        await kept.send(raw_http.GET)

        assert (await kept.answer())[0] == 200


async def test_a_kept_connection_is_closed_when_it_stays_idle() -> None:
    async with raw_http.serving(replace(raw_http.PATIENT, keep_alive_s=0.2)) as connect:
        client = await connect()
        await client.send(raw_http.GET)
        assert (await client.answer())[0] == 200

        assert await client.is_closed_by_server()


async def test_a_line_break_after_a_request_does_not_end_it() -> None:
    application = raw_http.app()
    is_due = asyncio.Event()

    @application.get("/slow")
    async def slow() -> str:
        await is_due.wait()
        return "done"

    async with raw_http.serving(replace(raw_http.PATIENT, header_s=0.2), application=application) as connect:
        client, silent = await connect(), await connect()
        await client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n\r\n")
        await silent.is_closed_by_server()
        assert await (await connect()).is_closed_by_server()
        is_due.set()

        assert (await client.answer())[0] == 200
