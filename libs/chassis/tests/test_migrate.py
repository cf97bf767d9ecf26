from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import notes
import pytest

from chassis import migrate, testing


@pytest.fixture
async def empty(servers: testing.Servers, run_id: str) -> AsyncIterator[str]:
    name = f"test_{run_id}_empty"
    await testing.administer(servers, f'CREATE DATABASE "{name}"')
    yield name
    await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


async def bring(servers: testing.Servers, name: str, revision: str = "head", migrations: Path | None = None) -> None:
    await migrate.to_version(
        admin_url=servers.database(name),
        service_url=servers.service_database(name, "notes"),
        schema="notes",
        migrations=migrations or notes.SERVICE.migrations,
        revision=revision,
    )


async def objects(servers: testing.Servers, name: str) -> set[str]:
    """Give every table, sequence, index and function of the schema."""
    connection = await asyncpg.connect(servers.database(name))
    try:
        rows = await connection.fetch(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'notes'::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'notes'::regnamespace"
        )
    finally:
        await connection.close()
    return {row["name"] for row in rows}


@pytest.mark.rule("OP11")
async def test_migrating_twice_changes_nothing(servers: testing.Servers, empty: str) -> None:
    await bring(servers, empty)
    first = await objects(servers, empty)

    await bring(servers, empty)

    assert await objects(servers, empty) == first
    assert {"note", "outbox", "inbox", "dead_letter"} <= first


@pytest.mark.rule("OP11")
async def test_down_to_base_leaves_nothing_and_up_again_works(servers: testing.Servers, empty: str) -> None:
    await bring(servers, empty)
    before = await objects(servers, empty)

    await bring(servers, empty, "base")
    between = await objects(servers, empty)
    await bring(servers, empty)

    assert between == {"schema_version", "schema_version_pkc"}
    assert await objects(servers, empty) == before


@pytest.mark.rule("OP11")
async def test_a_migration_that_fails_changes_nothing(servers: testing.Servers, empty: str, tmp_path: Path) -> None:
    await bring(servers, empty)
    before = await objects(servers, empty)
    (tmp_path / "0001_first.py").write_text((notes.SERVICE.migrations / "0001_first.py").read_text())
    (tmp_path / "0002_second.py").write_text(
        'from chassis import migrate\nrevision = "0002"\ndown_revision = "0001"\n'
        "def upgrade():\n    migrate.execute('CREATE TABLE half (id int); SELECT 1 / 0;')\n"
    )

    with pytest.raises(asyncpg.DivisionByZeroError):
        await bring(servers, empty, migrations=tmp_path)

    assert await objects(servers, empty) == before


@pytest.mark.rule("OP11")
async def test_a_migration_does_not_wait_for_a_lock_for_long(
    servers: testing.Servers, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_S", 1)
    await bring(servers, empty)
    (tmp_path / "0001_first.py").write_text((notes.SERVICE.migrations / "0001_first.py").read_text())
    (tmp_path / "0002_second.py").write_text(
        'from chassis import migrate\nrevision = "0002"\ndown_revision = "0001"\n'
        "def upgrade():\n    migrate.execute('ALTER TABLE note ADD extra int;')\n"
    )
    user = await asyncpg.connect(servers.database(empty))
    try:
        async with user.transaction():
            await user.execute("SELECT * FROM notes.note")

            with pytest.raises(asyncpg.LockNotAvailableError):
                await bring(servers, empty, migrations=tmp_path)
    finally:
        await user.close()


async def test_the_service_may_write_rows_and_change_no_table(servers: testing.Servers, empty: str) -> None:
    await bring(servers, empty)
    connection = await asyncpg.connect(servers.service_database(empty, "notes"))
    try:
        await connection.execute("INSERT INTO note VALUES (gen_random_uuid(), 'x', 'y')")
        await connection.execute("UPDATE note SET body = 'z'")
        await connection.execute("DELETE FROM note")

        for forbidden in (
            "DROP TABLE note",
            "TRUNCATE note",
            "CREATE TABLE mine (id int)",
            "ALTER TABLE note ADD x int",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
    finally:
        await connection.close()
