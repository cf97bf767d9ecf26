"""The pytest plugin: real servers, a clean database and a new vhost for each test that uses them.

A test package names its service in a `service` fixture. Schemas are migrated once into a template database per run.
"""

import asyncio
import fcntl
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from httpx._transports import default as http_transports

from chassis import app, database, envelope, inbox, migrate, publisher, reusable_databases, topology

PASSWORD = "test-only"  # noqa: S105 - roles of databases that live for one test
READY_S = 90
RUN = "KOPILKA_TEST_RUN"  # the environment variable with the name of a run
PORTS_FROM = 20_000  # ten workers' ranges end below 32,768, where Linux begins with clients' ports
PORTS_OF_A_WORKER = 1_200


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the real servers are."""

    database_url: str
    amqp_url: str
    redis_url: str
    rabbitmq_api_url: str

    @classmethod
    def of_environment(cls) -> "Servers":
        """Take the servers that the environment names. Raises LookupError naming each variable that is missing."""
        names = ("KOPILKA_DATABASE_URL", "KOPILKA_AMQP_URL", "KOPILKA_REDIS_URL", "KOPILKA_RABBITMQ_API_URL")
        if missing := [name for name in names if not os.environ.get(name)]:
            raise LookupError(", ".join(missing))
        return cls(*(os.environ[name] for name in names))

    def database(self, name: str) -> str:
        """Give the administrator's URL of one database."""
        return urllib.parse.urlunsplit(urllib.parse.urlsplit(self.database_url)._replace(path=f"/{name}"))

    def service_database(self, name: str, schema: str) -> str:
        """Give the URL of one database for a service's own role."""
        parts = urllib.parse.urlsplit(self.database_url)
        netloc = f"test_{schema}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
        return urllib.parse.urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))

    def vhost(self, name: str) -> str:
        """Give the AMQP URL of one vhost."""
        parts = urllib.parse.urlsplit(self.amqp_url)
        return urllib.parse.urlunsplit(parts._replace(path="/" + quote(name, safe="")))


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The servers that `make test` started, or those that the environment names."""
    try:
        return Servers.of_environment()
    except LookupError as error:
        pytest.exit(f"these tests need real servers: run `make test`, or set {error}", returncode=3)


def pytest_configure() -> None:
    """Name this run of the tests once, for all its processes: they share template databases."""
    # Each client of httpx loads all certificate authorities, which takes longer than most tests; these need none.
    http_transports.create_ssl_context = cache(httpx.create_ssl_context)  # type: ignore[attr-defined]
    os.environ.setdefault(RUN, f"{os.getpid():x}{time.time_ns() // 1_000_000 % 0xFFFFFF:x}")


def pytest_collection_finish() -> None:
    """Keep coverage out of the processes that tests start.

    Tracing nearly doubles the CPU time of a process, most of which is its start.
    """
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    os.environ.pop("COVERAGE_PROCESS_START", None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop what the run left on the server, when the last of its processes has ended."""
    if hasattr(session.config, "workerinput"):
        return
    try:
        servers = Servers.of_environment()
    except LookupError:
        return
    asyncio.run(_drop_databases(servers, f"test_{os.environ.pop(RUN)}_"))


@pytest.fixture(scope="session")
def run_id() -> str:
    """A short name that no other process of any test run has."""
    return f"{os.environ[RUN]}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@pytest.fixture(scope="session")
def server_administrator(servers: Servers) -> Iterator[reusable_databases.Administrator]:
    """Runs statements as the administrator."""
    opened = reusable_databases.Administrator(lambda name: servers.database(name) if name else servers.database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def template(servers: Servers, server_administrator: reusable_databases.Administrator) -> Callable[[app.Service], str]:
    """Gives the name of a migrated template database for a service; the first process that needs it makes it."""

    def template_of(service: app.Service) -> str:
        name = f"test_{os.environ[RUN]}_{service.name}"
        # One at a time: roles are shared by the whole server, and a template can't be copied while it is made.
        with (Path(tempfile.gettempdir()) / f"kopilka-test-{os.environ[RUN]}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not server_administrator.fetchval(f"SELECT true FROM pg_database WHERE datname = '{name}'"):
                server_administrator.execute(f'CREATE DATABASE "{name}"')
                asyncio.run(
                    migrate.to_version(
                        admin_url=servers.database(name),
                        service_url=servers.service_database(name, service.name),
                        schema=service.name,
                        migrations=service.migrations,
                    )
                )
                reusable_databases.install(server_administrator, name, schema=service.name)
        return name

    return template_of


@pytest.fixture(scope="session")
def reusable(
    server_administrator: reusable_databases.Administrator, template: Callable[[app.Service], str], run_id: str
) -> Callable[[app.Service], reusable_databases.ReusableDatabase]:
    """Gives this process's database for a service."""
    copies: dict[str, reusable_databases.ReusableDatabase] = {}

    def reusable_of(service: app.Service) -> reusable_databases.ReusableDatabase:
        if service.name not in copies:
            copies[service.name] = reusable_databases.ReusableDatabase(
                server_administrator, template=template(service), name=f"test_{run_id}_{service.name}"
            )
        return copies[service.name]

    return reusable_of


@pytest.fixture
def database_name(reusable: Callable[[app.Service], reusable_databases.ReusableDatabase], service: app.Service) -> str:
    """A database with the service's schema and the rows of its migrations, for this test alone."""
    return reusable(service).clean()


@pytest.fixture
def database_url(servers: Servers, service: app.Service, database_name: str) -> str:
    """The URL of this test's database for the service's own role."""
    return servers.service_database(database_name, service.name)


@pytest.fixture
async def db(service: app.Service, database_url: str) -> AsyncIterator[database.Database]:
    """The service's connection pool to this test's database."""
    opened = database.Database(database_url, schema=service.name, pool_size=8)
    yield opened
    await opened.close()


@pytest.fixture
def vhost(servers: Servers, run_id: str) -> Iterator[str]:
    """A vhost of this test alone."""
    name = f"test_{run_id}_{time.monotonic_ns():x}"
    manage(servers, "PUT", f"vhosts/{name}")
    yield name
    manage(servers, "DELETE", f"vhosts/{name}")


@pytest.fixture
def amqp_url(servers: Servers, vhost: str) -> str:
    """The AMQP URL of this test's vhost."""
    return servers.vhost(vhost)


@pytest.fixture
async def declared(service: app.Service, amqp_url: str) -> str:
    """The AMQP URL of this test's vhost, with the service's topology declared."""
    await topology.apply(amqp_url, service.bindings)
    return amqp_url


@pytest.fixture
async def sender(amqp_url: str) -> AsyncIterator[publisher.Publisher]:
    """A confirming channel on this test's vhost."""
    opened = publisher.Publisher(amqp_url)
    yield opened
    await opened.close()


class LazyModule:
    """A module that is imported when it is first used: for large ones that a few tests need."""

    def __init__(self, name: str) -> None:
        """Take the name of the module."""
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        """Import the module and give its attribute."""
        return getattr(importlib.import_module(self._name), attribute)


class Processes:
    """Real processes of the product, ended with the test that started them."""

    def __init__(self, environment: dict[str, str], logs: Path, *, scripts: Path = Path(sys.executable).parent) -> None:
        """Take the settings that every process gets, where their output goes and where the console scripts are."""
        self._scripts = scripts
        self._environment = environment
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []

    def spawn(self, service: str, role: str, **settings: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start `<service> <role>` with its own port; gives the process and its base URL."""
        port = free_port()
        output = (self._logs / f"{service}-{role}-{len(self._running)}.log").open("wb")
        process = subprocess.Popen(  # noqa: S603 - our own console scripts
            [str(self._scripts / service), role],
            env={**os.environ, **self._environment, "KOPILKA_HTTP_PORT": str(port), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        self._running.append(process)
        return process, f"http://127.0.0.1:{port}"

    def ready(self, service: str, role: str, **settings: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start a process and wait until it is ready. Raises AssertionError with its log when it ends."""
        process, url = self.spawn(service, role, **settings)
        give_up_at = time.monotonic() + READY_S
        while time.monotonic() < give_up_at and process.poll() is None:
            if _answers(f"{url}/health/ready"):
                return process, url
            time.sleep(0.05)
        raise AssertionError(f"{service} {role} did not get ready:\n{self.output()}")

    def output(self) -> str:
        """Give everything that the processes of this test have printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._logs.glob("*.log")))

    def stop(self) -> None:
        """End every process: politely, then not."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(timeout=READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def processes(database_url: str, declared: str, service: app.Service, tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes of the test's service on the test's own database and vhost."""
    started = Processes({f"{service.name.upper()}_DATABASE_URL": database_url, "KOPILKA_AMQP_URL": declared}, tmp_path)
    yield started
    started.stop()


def delivery_of(message: object, queue: str, *, event_id: object | None = None) -> inbox.Delivery:
    """Wrap a contract message as it would come from a queue, for tests that call a handler directly."""
    wrapper = envelope.Envelope(
        id=event_id or envelope.uuid7(),  # type: ignore[arg-type]
        type=message.TYPE,  # type: ignore[attr-defined]
        source="/kopilka/test",
        time=envelope.now(),
        subject=message.subject,  # type: ignore[attr-defined]
        tenant=message.tenant,  # type: ignore[attr-defined]
        partition_key=message.partition_key,  # type: ignore[attr-defined]
        sequence=message.sequence,  # type: ignore[attr-defined]
        correlation_id="test",
    )
    return inbox.Delivery(queue, wrapper)


async def outbox_messages(db: database.Database) -> list[tuple[str, dict[str, object]]]:
    """Give the messages that wait in the outbox, in order: type and body of each."""
    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT event_type, payload FROM outbox ORDER BY id")
    return [(row["event_type"], json.loads(row["payload"])) for row in rows]


def free_port() -> int:
    """Give a port of loopback that is free now, below those that the kernel gives to clients.

    One of the kernel's own could become some client's before the process that it is meant for listens.
    """
    for port in _ports():
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@cache
def _ports() -> Iterator[int]:
    """Give the ports of this process: each worker of a run has a range of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    first = PORTS_FROM + worker * PORTS_OF_A_WORKER
    offset = os.getpid() % PORTS_OF_A_WORKER  # two runs at once begin at different places
    return cycle(first + (offset + number) % PORTS_OF_A_WORKER for number in range(PORTS_OF_A_WORKER))


async def administer(servers: Servers, statement: str) -> None:
    """Run one statement as the administrator, outside of any transaction."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def manage(servers: Servers, method: str, path: str) -> bytes:
    """Ask the broker's management API; gives the body of its answer. Raises HTTPError when it refuses."""
    parts = urllib.parse.urlsplit(servers.rabbitmq_api_url)
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    base = f"{parts.scheme}://{parts.hostname}:{parts.port}"
    passwords.add_password(None, base, str(parts.username), str(parts.password), is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    request = urllib.request.Request(f"{base}/api/{path}", method=method)  # noqa: S310 - the address that tests are given
    with opener.open(request, timeout=10) as answer:
        body: bytes = answer.read()
    return body


async def _drop_databases(servers: Servers, prefix: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        for row in await connection.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix):
            await connection.execute(f'DROP DATABASE "{row[0]}" WITH (FORCE)')
    finally:
        await connection.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - a loopback address of this test
            return bool(response.status == 200)
    except OSError:
        return False
