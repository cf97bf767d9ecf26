"""Fixtures of the ledger's tests."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chassis import app, testing
from ledger import main

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE


@pytest.fixture
async def role(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service's own role."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


@pytest.fixture
async def superuser(servers: testing.Servers, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the administrator, whom only triggers can stop."""
    connection = await asyncpg.connect(servers.database(database_name), server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()
