import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import notes
import pytest

from chassis import migrate, outbox, testing

BEFORE_MIGRATIONS = Path(__file__).parent / "before_migrations.sql"


@pytest.fixture
async def empty(servers: testing.Servers, run_id: str) -> AsyncIterator[str]:
    name = f"test_{run_id}_empty"
    await testing.administer(servers, f'CREATE DATABASE "{name}"')
    yield name
    await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def several(servers: testing.Servers, run_id: str) -> AsyncIterator[list[str]]:
    names = [f"test_{run_id}_several_{number}" for number in range(4)]
    for name in names:
        await testing.administer(servers, f'CREATE DATABASE "{name}"')
    yield names
    for name in names:
        await testing.administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')
    for attempt in range(3):
        await testing.administer(servers, f'DROP ROLE IF EXISTS "test_{run_id}_{attempt}"')


@pytest.fixture
async def old(servers: testing.Servers, empty: str) -> str:
    """A database as it was before the messaging tables had migrations of their own, with rows in each table."""
    await make_old(servers, empty)
    return empty


async def make_old(servers: testing.Servers, name: str) -> None:
    connection = await asyncpg.connect(servers.database(name))
    try:
        await connection.execute(BEFORE_MIGRATIONS.read_text())
    finally:
        await connection.close()


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
    return {
        row[0]
        for row in await query(
            servers,
            name,
            "SELECT relname FROM pg_class WHERE relnamespace = 'notes'::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'notes'::regnamespace",
        )
    }


async def definitions(servers: testing.Servers, name: str) -> set[tuple[str, ...]]:
    """Give every column with its type and default, every index, constraint, trigger and function of the schema."""
    rows = await query(
        servers,
        name,
        """
        SELECT 'column', table_name, column_name, data_type, is_nullable, is_identity, coalesce(column_default, '')
          FROM information_schema.columns WHERE table_schema = 'notes'
        UNION ALL SELECT 'index', tablename, indexdef, '', '', '', '' FROM pg_indexes WHERE schemaname = 'notes'
        UNION ALL SELECT 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid), '', '', '', ''
          FROM pg_constraint WHERE connamespace = 'notes'::regnamespace
        UNION ALL SELECT 'function', proname, pg_get_functiondef(oid), '', '', '', ''
          FROM pg_proc WHERE pronamespace = 'notes'::regnamespace
        UNION ALL SELECT 'trigger', tgrelid::regclass::text, pg_get_triggerdef(pg_trigger.oid), '', '', '', ''
          FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
          WHERE relnamespace = 'notes'::regnamespace AND NOT tgisinternal
        """,
    )
    return {tuple(row) for row in rows}


async def query(servers: testing.Servers, name: str, sql: str) -> list[asyncpg.Record]:
    """Read rows as the administrator."""
    connection = await asyncpg.connect(servers.database(name), server_settings={"search_path": "notes"})
    try:
        return list(await connection.fetch(sql))
    finally:
        await connection.close()


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


@pytest.mark.rule("OP11")
async def test_a_database_from_before_the_messaging_migrations_comes_along_with_its_rows(
    servers: testing.Servers, run_id: str, old: str
) -> None:
    """Goal: the schema of an old database is then the one of a new database, and no row is lost.

    Method: the script beside this test has the statements of that time.
    """
    new = f"test_{run_id}_new"
    await testing.administer(servers, f'CREATE DATABASE "{new}"')
    try:
        await bring(servers, new)

        await bring(servers, old)

        assert await definitions(servers, old) == await definitions(servers, new)
    finally:
        await testing.administer(servers, f'DROP DATABASE "{new}" WITH (FORCE)')
    rows = await query(servers, old, "SELECT event_id::text, partition_key FROM outbox")
    letters = await query(servers, old, "SELECT event_id::text, reason FROM dead_letter WHERE consumer <> 'outbox'")
    outgoing = await query(
        servers,
        old,
        "SELECT event_id::text, reason, error, attempts, exchange, outbox_id, failed_at::text, headers->>'ce-id' AS id"
        " FROM dead_letter WHERE consumer = 'outbox' ORDER BY outbox_id",
    )
    claims = await query(servers, old, "SELECT event_id::text, consumer FROM inbox")
    assert [tuple(row) for row in rows] == [("018f0000-0000-7000-8000-000000000003", "good")]
    assert [tuple(row) for row in letters] == [("018f0000-0000-7000-8000-000000000005", "unprocessable")]
    first, second = "018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002"
    kept = ("unpublishable", "PublishError: returned", 10, "kopilka.events")
    assert [tuple(row) for row in outgoing] == [
        (first, *kept, 1, "2026-01-31 12:30:00+00", first),
        (second, *kept, 2, "2026-01-31 12:30:00+00", second),
    ]
    assert await query(servers, old, "SELECT FROM outbox_dead") == []
    assert [tuple(row) for row in claims] == [("018f0000-0000-7000-8000-000000000004", "notes.commands")]


@pytest.mark.rule("OP11")
async def test_a_database_from_before_the_messaging_migrations_goes_down_to_base(
    servers: testing.Servers, old: str
) -> None:
    await bring(servers, old, "base")

    assert await objects(servers, old) == {"schema_version", "schema_version_pkc"}


@pytest.mark.rule("OP11")
@pytest.mark.parametrize("is_old", [False, True])
async def test_migrations_that_run_at_once_wait_for_each_other(
    servers: testing.Servers, empty: str, *, is_old: bool
) -> None:
    if is_old:
        await make_old(servers, empty)

    await asyncio.gather(*(bring(servers, empty) for _ in range(3)))

    versions = await query(servers, empty, "SELECT version_num FROM schema_version")
    assert [row[0] for row in versions] == ["0001"]
    assert len(await query(servers, empty, "SELECT version_num FROM chassis_version")) == 1


async def test_there_is_a_row_for_each_slot_of_the_outbox(servers: testing.Servers, empty: str) -> None:
    await bring(servers, empty)

    slots = await query(servers, empty, "SELECT slot FROM outbox_slot ORDER BY slot")

    assert [row["slot"] for row in slots] == list(range(outbox.SLOTS))


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


@pytest.mark.parametrize("attempt", range(3))
async def test_databases_of_one_server_are_migrated_at_once(
    servers: testing.Servers, several: list[str], run_id: str, attempt: int
) -> None:
    """Goal: whichever of them makes the role that they share, all are migrated."""
    role = f"test_{run_id}_{attempt}"

    await asyncio.gather(
        *(
            migrate.to_version(
                admin_url=servers.database(name),
                service_url=servers.service_database(name, "notes").replace("test_notes", role),
                schema="notes",
                migrations=notes.SERVICE.migrations,
            )
            for name in several
        )
    )

    assert [len(await objects(servers, name)) for name in several] == [len(await objects(servers, several[0]))] * 4
