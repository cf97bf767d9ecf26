"""Bounds on open connections, and what is beyond them: liveness and the inner port."""

from ipaddress import ip_network

import pytest
import raw_http

from chassis import http_server


async def test_connections_of_one_address_are_bounded_and_another_address_and_liveness_are_served() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        for _ in range(raw_http.PATIENT.connections_per_address):
            await (await connect()).send(b"GET /e")
        surplus, live, other = await connect(), await connect(), await connect("127.0.0.2")
        for client, request in ((surplus, raw_http.GET), (live, raw_http.LIVE), (other, raw_http.GET)):
            await client.send(request)

        assert await raw_http.is_problem(surplus, 503, "temporarily_unavailable")
        assert (await live.answer())[0] == 200
        assert (await other.answer())[0] == 200


async def test_connections_of_a_trusted_proxy_are_bounded_by_the_whole_only() -> None:
    async with raw_http.serving(raw_http.PATIENT, trusted_proxies=(ip_network("127.0.0.0/8"),)) as connect:
        for _ in range(raw_http.PATIENT.connections - 1):
            await connect()
        client, surplus, live = await connect(), await connect(), await connect()
        for asking, request in ((client, raw_http.GET), (surplus, raw_http.GET), (live, raw_http.LIVE)):
            await asking.send(request)

        assert (await client.answer())[0] == 200
        assert await raw_http.is_problem(surplus, 503, "temporarily_unavailable")
        assert (await live.answer())[0] == 200


async def test_among_surplus_connections_the_oldest_makes_room() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        opened = [await connect() for _ in range(raw_http.PATIENT.connections_per_address + raw_http.PATIENT.surplus)]
        for _ in range(5):
            live = await connect()
            await live.send(raw_http.LIVE)
            assert (await live.answer())[0] == 200

        assert await opened[raw_http.PATIENT.connections_per_address].is_closed_by_server()
        await opened[0].send(raw_http.GET)
        assert (await opened[0].answer())[0] == 200


async def test_a_connection_that_ends_makes_room_for_another() -> None:
    async with raw_http.serving(raw_http.PATIENT) as connect:
        opened = [await connect() for _ in range(raw_http.PATIENT.connections_per_address)]
        await opened[0].send(raw_http.GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert (await opened[0].answer())[0] == 200
        assert await opened[0].is_closed_by_server()
        client = await connect()
        await client.send(raw_http.GET)

        assert (await client.answer())[0] == 200


async def test_the_inner_port_is_beyond_every_bound_on_connections() -> None:
    async with raw_http.serving(raw_http.PATIENT, has_inner=True) as connect:
        for _ in range(raw_http.PATIENT.connections_per_address + raw_http.PATIENT.surplus):
            await connect()
        for _ in range(raw_http.PATIENT.connections + 1):
            client = await connect(is_inner=True)
        await client.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")

        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("path", "is_public", "is_inner"),
    [
        ("/metrics", False, True),
        ("/health/ready", False, True),
        ("/health", True, True),
        ("/health/live", True, True),
        ("/openapi.json", True, True),
        ("/echo", True, False),
    ],
)
async def test_each_path_is_found_on_its_own_port(path: str, is_public: bool, is_inner: bool) -> None:  # noqa: FBT001
    async with raw_http.serving(raw_http.PATIENT, has_inner=True) as connect:
        for by_inner, is_found in ((False, is_public), (True, is_inner)):
            client = await connect(is_inner=by_inner)
            await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            status, _, body = await client.answer()

            assert status == (200 if is_found else 404)
            assert b"checks" not in body or by_inner


def test_the_file_limit_leaves_room_for_what_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda _kind, values: limits.append(values))
    for soft, hard, connections in (
        (1_024, 1_048_576, 8_000),
        (1_024, 4_096, 3_096),
        (1_024, 1_024, 512),
        (-1, -1, 8_000),
    ):
        monkeypatch.setattr("resource.getrlimit", lambda _kind, values=(soft, hard): values)

        assert http_server.raise_file_limit(8_000) == connections
    assert limits == [(9_000, 1_048_576), (4_096, 4_096), (1_024, 1_024)]
