"""Databases for tests, reset between tests instead of being created and dropped for each.

Creating and dropping a database writes and scans megabytes; removing the few rows of a test takes milliseconds. A test
that changed the schema itself leaves a database that is replaced by a new one.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

Result = TypeVar("Result")

CALL_S = 60

_INSTALL = """
CREATE SCHEMA testing;
CREATE TABLE testing.seeded (name text PRIMARY KEY);
CREATE TABLE testing.sequence_state (name text PRIMARY KEY, value bigint, is_called boolean);
CREATE TABLE testing.original (fingerprint text);

CREATE FUNCTION testing.tables() RETURNS SETOF regclass LANGUAGE sql AS $$
  SELECT oid::regclass FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' ORDER BY oid
$$;

-- What a test may change beside rows: tables, columns, indexes, grants, triggers, functions, constraints.
CREATE FUNCTION testing.fingerprint() RETURNS text LANGUAGE sql AS $$
  SELECT md5(string_agg(part, '|' ORDER BY part)) FROM (
    SELECT format('%s %s %s %s', oid, relname, relkind, relacl) AS part FROM pg_class
    WHERE relnamespace = '{schema}'::regnamespace
    UNION ALL
    SELECT format('%s %s %s %s', attrelid, attname, atttypid, attnotnull) FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = '{schema}'::regnamespace AND attnum > 0
    UNION ALL
    SELECT format('%s %s %s', tgrelid, tgname, tgenabled) FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace = '{schema}'::regnamespace
    UNION ALL
    SELECT format('%s %s', proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace
    UNION ALL
    SELECT format('%s %s %s', conrelid, conname, convalidated) FROM pg_constraint
    WHERE connamespace = '{schema}'::regnamespace
  ) parts
$$;

CREATE FUNCTION testing.remember() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  name regclass;
  is_filled boolean;
BEGIN
  FOR name IN SELECT testing.tables() LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO is_filled;
    IF is_filled THEN
      EXECUTE format('CREATE TABLE testing.%I AS TABLE %s', 'rows_of_' || name::oid, name);
      INSERT INTO testing.seeded VALUES (name);
    END IF;
  END LOOP;
  FOR name IN SELECT oid::regclass FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'S' LOOP
    EXECUTE format('INSERT INTO testing.sequence_state SELECT %L, last_value, is_called FROM %s', name, name);
  END LOOP;
  INSERT INTO testing.original VALUES (testing.fingerprint());
END $$;

-- Small tables are emptied row by row, because TRUNCATE makes new files for a table and each of its indexes.
CREATE FUNCTION testing.reset() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  name regclass;
  is_filled boolean;
  large text[] := '{{}}';
BEGIN
  PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
  IF testing.fingerprint() IS DISTINCT FROM (SELECT fingerprint FROM testing.original) THEN
    RETURN false;
  END IF;
  SET LOCAL session_replication_role = replica;  -- no trigger and no foreign key protects rows from their tests' end
  FOR name IN SELECT testing.tables() LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO is_filled;
    IF pg_relation_size(name) > 262144 THEN
      large := large || name::text;
    ELSIF is_filled THEN
      EXECUTE format('DELETE FROM %s', name);
    END IF;
  END LOOP;
  IF large <> '{{}}' THEN
    EXECUTE format('TRUNCATE %s CASCADE', array_to_string(large, ', '));
  END IF;
  FOR name IN SELECT seeded.name::regclass FROM testing.seeded LOOP
    EXECUTE format('DELETE FROM %s', name);
    EXECUTE format('INSERT INTO %s OVERRIDING SYSTEM VALUE TABLE testing.%I', name, 'rows_of_' || name::oid);
  END LOOP;
  PERFORM setval(state.name::regclass, state.value, state.is_called) FROM testing.sequence_state state;
  RETURN true;
END $$;

SELECT testing.remember();
"""


class Administrator:
    """Runs statements as the administrator from tests that are not asynchronous, on connections that stay open."""

    def __init__(self, url_of: Callable[[str], str]) -> None:
        """Take how to get a database's URL from its name; an empty name is the maintenance database."""
        self._url_of = url_of
        self._connections: dict[str, asyncpg.Connection] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def execute(self, statement: str, *, database: str = "") -> None:
        """Run a statement, or a script, outside of any transaction of ours."""
        self.run(self._execute(statement, database))

    def fetchval(self, statement: str, *, database: str = "") -> Any:
        """Run a statement; gives the first column of its first row."""
        return self.run(self._fetchval(statement, database))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the administrator's own event loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def disconnect(self, database: str) -> None:
        """Close the connection to one database, which can't be dropped or copied while it is open."""
        if (connection := self._connections.pop(database, None)) is not None:
            self.run(connection.close())

    def close(self) -> None:
        """Close every connection and end the thread."""
        for database in list(self._connections):
            self.disconnect(database)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _execute(self, statement: str, database: str) -> None:
        await (await self._connected(database)).execute(statement)

    async def _fetchval(self, statement: str, database: str) -> Any:
        return await (await self._connected(database)).fetchval(statement)

    async def _connected(self, database: str) -> asyncpg.Connection:
        connection = self._connections.get(database)
        if connection is None or connection.is_closed():
            connection = self._connections[database] = await asyncpg.connect(self._url_of(database))
        return connection


class ReusableDatabase:
    """One copy of a template, for one test at a time."""

    def __init__(self, administrator: Administrator, *, template: str, name: str) -> None:
        """Take the template to copy; `name` begins the names of the copies."""
        self._administrator = administrator
        self._template = template
        self._prefix = name
        self._copies = 0
        self._name = ""

    def clean(self) -> str:
        """Give the name of a database with the template's schema and rows, and nothing else."""
        if not self._name or not self._is_reset():
            self.drop()
            self._copies += 1
            self._name = f"{self._prefix}_{self._copies}"
            self._administrator.execute(f'CREATE DATABASE "{self._name}" TEMPLATE "{self._template}"')
        return self._name

    def drop(self) -> None:
        """Remove the copy at hand."""
        if self._name:
            self._administrator.disconnect(self._name)
            self._administrator.execute(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)')
            self._name = ""

    def _is_reset(self) -> bool:
        try:
            return bool(self._administrator.fetchval("SELECT testing.reset()", database=self._name))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False  # the test broke or removed it


def install(administrator: Administrator, template: str, *, schema: str) -> None:
    """Put what resets a database into a template, after its migrations."""
    administrator.execute(_INSTALL.format(schema=schema), database=template)
    administrator.disconnect(template)
