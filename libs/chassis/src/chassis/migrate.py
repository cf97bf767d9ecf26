"""Brings one service's schema to a version: role and schema, the messaging tables, then the service's own tables.

The messaging tables and the service's tables have a numbered history each, with a version table each (ADR 25).
Tables belong to the administrator who migrates; the service's role only works in them, and owns nothing it could drop.
"""

import asyncio
from pathlib import Path

from alembic import command, op
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, InternalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

LOCK_TIMEOUT_S = 5  # a migration that waits longer for a table would stop everybody who uses it
MESSAGING = Path(__file__).parent / "migrations"
"""The migrations of the tables of outbox, inbox and dead letters, which every schema has."""
MESSAGING_VERSION = "chassis_version"
OWN_VERSION = "schema_version"

# Roles belong to the whole server, but an advisory lock to one database: two installations on one server can meet.
ROLE_ATTEMPTS_MAX = 10
ROLE_PAUSE_S = 0.2
_ROLE_IS_CHANGING = ("tuple concurrently updated", "pg_authid_rolname_index")

_ONE_AT_A_TIME = 0x6B6F7069  # services migrate in parallel, and roles and grants are shared by the whole server


async def to_version(
    *, admin_url: str, service_url: str, schema: str, migrations: Path, revision: str = "head"
) -> None:
    """Create the service's role and schema where missing and migrate its tables up to `revision`, or down to `base`.

    The messaging tables always go to their newest version first, and away last. Calling it again changes nothing.
    Raises when the lock of a table can't be had within five seconds; nothing is then changed.
    """
    service = make_url(service_url)
    engine = create_async_engine(make_url(admin_url).set(drivername="postgresql+asyncpg"))
    try:
        for attempt in range(ROLE_ATTEMPTS_MAX):
            try:
                await _migrate(engine, service, schema, migrations, revision)
            except (InternalError, IntegrityError) as error:
                if not any(sign in str(error) for sign in _ROLE_IS_CHANGING) or attempt + 1 == ROLE_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(ROLE_PAUSE_S)
            else:
                return
    finally:
        await engine.dispose()


async def _migrate(engine: AsyncEngine, service: URL, schema: str, migrations: Path, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = '120s'"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        # Only from here on: another migration is waited for longer than a table.
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
        await connection.run_sync(_prepare, service, schema)
        await connection.run_sync(_run, service, schema, migrations, revision)


def execute(script: str) -> None:
    """Run a script of several statements inside the migration; `{role}` stands for the service's role."""
    config = op.get_context().config
    assert config is not None  # every migration runs below `to_version`
    role = config.attributes["role"]
    op.get_bind().connection.dbapi_connection.run_async(  # type: ignore[union-attr]
        lambda connection: connection.execute(script.replace("{role}", role))
    )


def _prepare(connection: Connection, service: URL, schema: str) -> None:
    quote = connection.dialect.identifier_preparer.quote
    role, database = quote(str(service.username)), quote(str(connection.engine.url.database))
    exists = connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :name"), {"name": service.username})
    # A role can't be made with parameters; the server quotes the password as a literal for us.
    secret = connection.scalar(text("SELECT quote_literal(CAST(:password AS text))"), {"password": service.password})
    connection.execute(
        text(f"{'ALTER' if exists else 'CREATE'} ROLE {role} LOGIN PASSWORD {secret}".replace(":", "\\:"))
    )
    for statement in (
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"GRANT CONNECT ON DATABASE {database} TO {role}",
        f"ALTER ROLE {role} IN DATABASE {database} SET search_path = {schema}",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT EXECUTE ON FUNCTIONS TO {role}",
        # Named last, temporary tables cannot stand in for ours in functions that run with the owner's rights.
        f"SET LOCAL search_path = {schema}, pg_temp",
    ):
        connection.execute(text(statement))


def _run(connection: Connection, service: URL, schema: str, migrations: Path, revision: str) -> None:
    def history(folder: Path, version_table: str) -> Config:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
        config.set_main_option("version_locations", str(folder))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, schema=schema, role=str(service.username))
        config.attributes.update(version_table=version_table)
        return config

    messaging, own = history(MESSAGING, MESSAGING_VERSION), history(migrations, OWN_VERSION)
    if _is_without_a_version(connection, schema):
        command.stamp(messaging, "0001")
    if revision == "base":
        command.downgrade(own, "base")
        command.downgrade(messaging, "base")
        connection.execute(text(f"DROP TABLE IF EXISTS {MESSAGING_VERSION}"))
    else:
        command.upgrade(messaging, "head")
        command.upgrade(own, revision)


def _is_without_a_version(connection: Connection, schema: str) -> bool:
    """Tell whether the messaging tables were made before they had migrations; they are then those of the first."""
    return bool(
        connection.scalar(
            text("SELECT to_regclass(:outbox) IS NOT NULL AND to_regclass(:version) IS NULL"),
            {"outbox": f"{schema}.outbox", "version": f"{schema}.{MESSAGING_VERSION}"},
        )
    )
