"""A whole stack for the journeys and the fuzz tests, on the servers of the run, with its own database and vhost."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from chassis import testing
from demo import clients, stack

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 120


@pytest.fixture(scope="session")
def where(servers: testing.Servers, run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    home = tmp_path_factory.mktemp("stack")
    name = f"e2e_{run_id}"
    runner = (sys.executable, str(ROOT / "deploy/local/stack.py"))
    options = ("--root", str(home), "--database", name, "--vhost", name)
    started = subprocess.run(
        [*runner, "up", *options], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert started.returncode == 0, f"the stack did not start:\n{started.stdout}\n{started.stderr}"
    yield stack.read(home / "env", runner, options)
    end = [*runner, "down", *options, "--keep-servers", "--drop"]
    subprocess.run(end, capture_output=True, timeout=START_TIMEOUT_S, check=True)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as client:
        yield client


@pytest.fixture
async def sandbox(where: stack.Stack, http: httpx.AsyncClient) -> AsyncIterator[clients.Sandbox]:
    control = clients.Sandbox(where, http)
    yield control
    await control.plan_webhooks("normal")
    await control.clear_faults()


@pytest.fixture
async def customer(where: stack.Stack, http: httpx.AsyncClient, sandbox: clients.Sandbox) -> clients.Customer:
    person = clients.Customer(where, http, sandbox)
    await person.log_in()
    return person
