"""The schema of every service goes away whole and comes back, as an operator's `migrate --to base` promises."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis import discovery, migrate, testing


@pytest.fixture
async def empty(servers: testing.Servers, run_id: str) -> AsyncIterator[str]:
    name = f"test_{run_id}_undone"
    await testing.administer(servers, f'CREATE DATABASE "{name}"')
    yield name
    await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.rule("OP11")
@pytest.mark.parametrize("name", discovery.names())
async def test_every_services_schema_goes_down_to_base_and_up_again(
    servers: testing.Servers, empty: str, name: str
) -> None:
    service = discovery.load(name)
    found = []

    for revision in ("head", "base", "head"):
        await migrate.to_version(
            admin_url=servers.database(empty),
            service_url=servers.service_database(empty, name),
            schema=name,
            migrations=service.migrations,
            revision=revision,
        )
        found.append(await objects(servers.database(empty), name))

    assert found[1] == {"schema_version", "schema_version_pkc"}
    assert found[0] == found[2] > found[1]


async def objects(url: str, schema: str) -> set[str]:
    """Give every table, sequence, index, view and function of a schema."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = $1::text::regnamespace",
            schema,
        )
    finally:
        await connection.close()
    return {row[0] for row in rows}
