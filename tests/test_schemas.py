"""Every service keeps to its own schema: its role can't read or write any other."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import entry_points

import asyncpg
import pytest

from chassis import app, migrate, testing

SERVICES: list[app.Service] = [entry.load() for entry in entry_points(group="kopilka.services")]


@pytest.fixture
async def shared(servers: testing.Servers, run_id: str) -> AsyncIterator[str]:
    """One database with the schemas of all services, as an installation has it."""
    name = f"test_{run_id}_shared"
    await testing.administer(servers, f'CREATE DATABASE "{name}"')
    await asyncio.gather(
        *(
            migrate.to_version(
                admin_url=servers.database(name),
                service_url=servers.service_database(name, service.name),
                schema=service.name,
                migrations=service.migrations,
            )
            for service in SERVICES
        )
    )
    yield name
    await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_a_service_can_not_touch_a_table_of_another_schema(servers: testing.Servers, shared: str) -> None:
    """Goal: no service reads or writes what another one owns. Every role tries every table of every other schema."""
    administrator = await asyncpg.connect(servers.database(shared))
    tables = [
        (row["schemaname"], f"{row['schemaname']}.{row['tablename']}")
        for row in await administrator.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY($1)",
            [service.name for service in SERVICES],
        )
    ]
    await administrator.close()

    allowed = []
    for service in SERVICES:
        connection = await asyncpg.connect(servers.service_database(shared, service.name))
        for schema, table in tables:
            for statement in (f"SELECT FROM {table}", f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}"):
                if schema == service.name:
                    continue
                try:
                    await connection.execute(statement)
                except asyncpg.InsufficientPrivilegeError:
                    continue
                allowed.append((service.name, statement))
        await connection.close()

    assert len({schema for schema, _ in tables}) == len(SERVICES) >= 5
    assert allowed == []
