import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from chassis import app, database
from chassis.testing import Servers, free_port
from notifier import main

READY_S = 20


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real sandbox process that runs for the whole session."""
    port, log = free_port(), tmp_path_factory.mktemp("sandbox") / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "sandbox")],
            env={
                **os.environ,
                "SANDBOX_PORT": str(port),
                "SANDBOX_YOOKASSA_WEBHOOK_URL": f"http://127.0.0.1:{port}/nobody",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + READY_S
    while True:
        try:
            httpx.get(f"{url}/health/ready").raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(timeout=READY_S)


@pytest.fixture
def ctl(sandbox_url: str) -> Iterator[httpx.Client]:
    """A client of the control API of a sandbox without any state."""
    with httpx.Client(base_url=f"{sandbox_url}/__ctl", timeout=10) as client:
        client.post("/reset").raise_for_status()
        yield client


@pytest.fixture
async def admin(servers: Servers, database_name: str, db: database.Database) -> AsyncIterator[asyncpg.Connection]:
    """The administrator's connection to this test's database, to make statements of the service fail."""
    connection = await asyncpg.connect(servers.database(database_name), server_settings={"search_path": "notifier"})
    yield connection
    await connection.close()
