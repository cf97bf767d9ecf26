"""Migrations that change rows, on rows as older versions have left them."""

from chassis import app, database, migrate, testing


async def test_findings_of_refunds_of_the_dashboard_are_renamed(
    servers: testing.Servers, service: app.Service, database_name: str, db: database.Database
) -> None:
    for revision in ("base", "0003"):
        await _migrate(servers, service, database_name, revision)
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO finding (tenant, kind, details) VALUES ('demo', 'refund_in_cabinet', '{}')")

    await _migrate(servers, service, database_name, "head")

    async with db.transaction() as tx:
        assert await tx.fetchval("SELECT kind FROM finding") == "refund_in_dashboard"


async def _migrate(servers: testing.Servers, service: app.Service, database_name: str, revision: str) -> None:
    await migrate.to_version(
        admin_url=servers.database(database_name),
        service_url=servers.service_database(database_name, service.name),
        schema=service.name,
        migrations=service.migrations,
        revision=revision,
    )
