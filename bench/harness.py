"""Shared by all benchmarks: a fresh database and vhost, medians, the description of the machine, and the report.

A figure is only worth its conditions, so each report names them; it never names a host or a path.
"""

import json
import os
import platform
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis import app, migrate, testing

RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Median:
    """The median of several runs, with the lowest and the highest beside it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Give the figure as a report prints it."""
        return f"{_number(self.value)} ({_number(self.low)} to {_number(self.high)})"


@asynccontextmanager
async def empty_database() -> AsyncIterator[str]:
    """Make a database that lives for the block; gives the administrator's URL of it."""
    servers, name = _servers(), f"bench_{secrets.token_hex(6)}"
    await testing.administer(servers, f'CREATE DATABASE "{name}"')
    try:
        yield servers.database(name)
    finally:
        await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


@asynccontextmanager
async def fresh_database(service: app.Service) -> AsyncIterator[str]:
    """Make a migrated database that lives for the block; gives the URL of the service's own role."""
    async with empty_database() as admin_url:
        url = _servers().service_database(admin_url.rpartition("/")[2], service.name)
        await migrate.to_version(
            admin_url=admin_url, service_url=url, schema=service.name, migrations=service.migrations
        )
        yield url


@contextmanager
def fresh_vhost() -> Iterator[str]:
    """Make a vhost that lives for the block; gives its AMQP URL."""
    servers, name = _servers(), f"bench_{secrets.token_hex(6)}"
    testing.manage(servers, "PUT", f"vhosts/{name}")
    try:
        yield servers.vhost(name)
    finally:
        testing.manage(servers, "DELETE", f"vhosts/{name}")


async def median_of(runs: int, measure: Callable[[], Awaitable[float]]) -> Median:
    """Measure several times, one after the other; each call gives one figure."""
    return median([await measure() for _ in range(runs)])


def median(figures: Sequence[float]) -> Median:
    """Give the median of measured figures."""
    return Median(statistics.median(figures), min(figures), max(figures))


async def machine() -> str:
    """Describe the machine and the servers in one line."""
    servers = _servers()
    connection = await asyncpg.connect(servers.database_url)
    try:
        postgres = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
            " current_setting('synchronous_commit') AS commits, current_setting('shared_buffers') AS buffers"
        )
    finally:
        await connection.close()
    assert postgres is not None  # a SELECT without FROM always gives a row
    rabbitmq = json.loads(testing.manage(servers, "GET", "overview"))["rabbitmq_version"]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release().split('-')[0]};"
        f" Python {platform.python_version()}, PostgreSQL {postgres['version'].split()[0]}"
        f" (fsync {postgres['fsync']}, synchronous_commit {postgres['commits']}, shared_buffers"
        f" {postgres['buffers']}), RabbitMQ {rabbitmq};"
        " servers and client on this machine"
    )


async def report(title: str, rows: Sequence[Mapping[str, object]], notes: Sequence[str] = ()) -> None:
    """Print a Markdown section; with `--write` on the command line also put it into RESULTS.md.

    The section belongs to the script that was started and replaces its previous one.
    """
    names = list(rows[0])
    lines = [f"## {title}", "", await machine(), ""]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    section = "\n".join(lines)
    print(section)
    if "--write" in sys.argv:
        _write(Path(sys.argv[0]).stem, section)


def _servers() -> testing.Servers:
    try:
        return testing.Servers.of_environment()
    except LookupError as error:
        raise SystemExit(f"a benchmark needs real servers: run `make bench`, or set {error}") from None


def _write(name: str, section: str) -> None:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    RESULTS.write_text(f"{before.rstrip()}\n\n{begin}\n{section}\n{end}{after}")


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()
