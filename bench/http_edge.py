"""Hostile HTTP clients beside honest ones: latencies of both kinds of request that matter, and memory of the server.

Target: under 2,000 silent connections, endless headers and slow bodies the p99 of honest requests at most doubles,
liveness answers, and memory stays flat. Run it on a quiet machine: other work moves the p99 more than that.

Server, hostile and honest clients are processes of their own.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness
import uvloop

from chassis import health, http_server, testing, web

SECONDS = 12
CONNECTIONS, PAUSE_S = 20, 0.05  # honest: 400 requests a second
SILENT, SLOW, ENDLESS = 2_000, 500, 4
ADDRESSES = 8  # of the hostile clients; each stays below the bound of one address
BUSY = "nobody, one core busy"
REQUEST = b"GET /answer HTTP/1.1\r\nhost: x\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
BODY = b"POST /answer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf"


async def serve(port: int) -> None:
    """Serve two routes as a process of a service does."""
    app = web.create("bench", health.Health())

    @app.get("/answer")
    async def answer() -> dict[str, str]:
        return {"status": "done"}

    @app.post("/answer")
    async def take(body: dict[str, str]) -> dict[str, str]:
        return body

    bounds = http_server.Bounds(connections=http_server.raise_file_limit(http_server.Bounds().connections))
    await http_server.Server(app, bounds=bounds).serve([http_server.listen("127.0.0.1", port)])


async def attack(kind: str, port: int) -> None:
    """Hold connections of one kind open, and open another for each that is closed, until terminated."""
    if kind == BUSY:
        while True:  # until the process is terminated
            pass
    http_server.raise_file_limit(SILENT + SLOW)
    counts = {"silent": SILENT, "slow bodies": SLOW, "endless headers": ENDLESS}
    async with asyncio.TaskGroup() as clients:
        for each in counts if kind == "all at once" else [kind]:
            for number in range(counts[each]):
                clients.create_task(_hostile(each, port, f"127.0.0.{2 + number % ADDRESSES}"))


async def _hostile(kind: str, port: int, source: str) -> None:
    while True:  # until the process is terminated
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            if kind == "slow bodies":
                writer.write(BODY)
            if kind == "endless headers":
                writer.write(b"GET / HTTP/1.1\r\nx-endless: ")
                while not reader.at_eof() and not writer.transport.is_closing():
                    writer.write(b"v" * 65_536)
                    await writer.drain()
                    await asyncio.sleep(0)
            while await reader.read(65_536):
                pass
            writer.close()
        await asyncio.sleep(0.1)


async def honest(port: int, latencies_ms: list[float]) -> None:
    """Ask on one kept connection, a request after each pause."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:  # until it is cancelled
        begun = time.perf_counter()
        writer.write(REQUEST)
        await reader.readuntil(b'"done"}')
        latencies_ms.append((time.perf_counter() - begun) * 1_000)
        await asyncio.sleep(PAUSE_S)


async def probe(port: int, latencies_ms: list[float]) -> None:
    """Ask for liveness on a new connection each time."""
    while True:  # until it is cancelled
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVE)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        latencies_ms.append((time.perf_counter() - begun) * 1_000)
        writer.close()
        await asyncio.sleep(0.1)


async def measure(kind: str, server: "subprocess.Popen[bytes]", port: int) -> dict[str, object]:
    """Measure one kind of hostile clients, or none, for some seconds."""
    served: list[float] = []
    live: list[float] = []
    with _process("attack", kind, str(port)) if kind != "nobody" else contextlib.nullcontext():
        await asyncio.sleep(3)
        clients = [asyncio.create_task(honest(port, served)) for _ in range(CONNECTIONS)]
        clients.append(asyncio.create_task(probe(port, live)))
        done, _ = await asyncio.wait(clients, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        for client in clients:
            client.cancel()
        for failed in done:
            failed.result()
        resident = _resident_mb(server.pid)
        await asyncio.wait(clients)
    return {
        "hostile clients": kind,
        "requests/s": len(served) / SECONDS,
        "p50, ms": statistics.median(served),
        "p99, ms": statistics.quantiles(served, n=100)[98],
        "liveness at worst, ms": max(live),
        "resident, MB": resident,
    }


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1_024
    raise LookupError("VmRSS")


@contextlib.contextmanager
def _process(*arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def main() -> None:
    """Measure each kind in turn, on one server."""
    port = testing.free_port()
    with _process("serve", str(port)) as server:
        await _until_answered(port)
        kinds = ("nobody", BUSY, "silent", "slow bodies", "endless headers", "all at once", "nobody")
        rows: Sequence[dict[str, object]] = [await measure(kind, server, port) for kind in kinds]
    await harness.report(
        "HTTP edge",
        rows,
        [
            f"Honest: {CONNECTIONS} kept connections, {CONNECTIONS / PAUSE_S:,.0f} requests/s if each took no time.",
            f"Hostile: {SILENT:,} silent connections, {SLOW} bodies that stop, {ENDLESS} headers without end.",
            f"Each is opened again when it is closed, from {ADDRESSES} addresses in turn.",
            f"{SECONDS} s each, on the same cores. Hostile clients take up to one of the two, hence the second row.",
        ],
    )


async def _until_answered(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            uvloop.run(serve(int(port)))
        case ["attack", kind, port]:
            uvloop.run(attack(kind, int(port)))
        case _:
            uvloop.run(main())
