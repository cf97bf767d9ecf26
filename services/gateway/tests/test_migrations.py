"""The migrations run down and up again, and twice without a change."""

import unicodedata

from chassis import app, database, migrate, testing


async def test_the_schema_is_migrated_down_and_up_again(
    servers: testing.Servers, service: app.Service, database_name: str, db: database.Database
) -> None:
    before = await _tables(db)

    for revision, expected in (("base", set()), ("head", before), ("head", before)):
        await _migrate(servers, service, database_name, revision)

        assert {name for name in await _tables(db) if name != "schema_version"} == expected - {"schema_version"}


async def test_titles_of_older_versions_are_composed(
    servers: testing.Servers, service: app.Service, database_name: str, db: database.Database
) -> None:
    for revision in ("base", "0001"):
        await _migrate(servers, service, database_name, revision)
    title = "\u0427\u0430\u0439"
    async with db.transaction() as tx:
        await tx.execute(
            "INSERT INTO categories (tenant, id, version, title) VALUES ('demo', 'tea', 1, $1)",
            unicodedata.normalize("NFD", title),
        )

    await _migrate(servers, service, database_name, "head")

    async with db.transaction() as tx:
        assert await tx.fetchval("SELECT title FROM categories") == title


async def _migrate(servers: testing.Servers, service: app.Service, database_name: str, revision: str) -> None:
    await migrate.to_version(
        admin_url=servers.database(database_name),
        service_url=servers.service_database(database_name, service.name),
        schema=service.name,
        migrations=service.migrations,
        revision=revision,
    )


async def _tables(db: database.Database) -> set[str]:
    async with db.transaction() as tx:
        rows = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'gateway'::regnamespace AND relkind IN ('r', 'p')"
        )
    return {row["relname"] for row in rows}
