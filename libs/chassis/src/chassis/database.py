"""The connection pool of a service to its own PostgreSQL schema. A transaction is visible where it begins and ends.

The pool is asyncpg's, and statements go to the driver as they are.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg
from pydantic_core import from_json

STATEMENT_TIMEOUT_S = 15
POOL_WAIT_S = 5

_OUTAGES = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The server ended the connection and the driver has read that, but not yet closed its side.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    ConnectionError,
    TimeoutError,
)


@dataclass(slots=True, eq=False)
class Tx:
    """A connection inside an open transaction, or one for single statements. Its methods are asyncpg's.

    They return asyncpg's coroutines, without a frame of ours between a statement and the driver.
    """

    connection: asyncpg.Connection
    database: "Database | None" = None
    on_commit: list[Callable[[], None]] = field(default_factory=list)

    def fetch(self, sql: str, *values: Any) -> Awaitable[list[asyncpg.Record]]:
        """Run a statement and give its rows."""
        return self.connection.fetch(sql, *values)

    def fetchrow(self, sql: str, *values: Any, timeout: float | None = None) -> Awaitable[asyncpg.Record | None]:
        """Run a statement and give its first row, or None without any."""
        return self.connection.fetchrow(sql, *values, timeout=timeout)

    def fetchval(self, sql: str, *values: Any) -> Awaitable[Any]:
        """Run a statement and give the first column of its first row, or None without any."""
        return self.connection.fetchval(sql, *values)

    def execute(self, sql: str, *values: Any, timeout: float | None = None) -> Awaitable[str]:
        """Run a statement, or a script where there are no values, and give the command tag, such as `UPDATE 1`."""
        return self.connection.execute(sql, *values, timeout=timeout)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Awaitable[None]:
        """Run a statement once for each row of values, in one round trip."""
        return self.connection.executemany(sql, rows)

    def copy_records_to_table(
        self, table: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]
    ) -> Awaitable[str]:
        """Append rows to a table with COPY."""
        return self.connection.copy_records_to_table(table, records=records, columns=columns)


class Database:
    """The pool of one process, for one schema and one role."""

    def __init__(self, url: str, *, schema: str, pool_size: int) -> None:
        """Prepare the pool; the first transaction opens the first connection."""
        self.schema = schema
        self.outbox_filled = asyncio.Event()
        self._pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=pool_size,
            # A connection has prepared statements and types; a new one would have to prepare and look them up again.
            max_inactive_connection_lifetime=0,
            init=_read_json,
            reset=_no_reset,
            timeout=POOL_WAIT_S,
            command_timeout=STATEMENT_TIMEOUT_S + 5,
            server_settings={
                "search_path": schema,
                "application_name": f"kopilka-{schema}",
                "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
                "idle_in_transaction_session_timeout": "30s",
                # Plans of our short statements are never worth compiling.
                "jit": "off",
                # Nor worth planning anew at each call: our plans depend on keys and locks, not on the values, and for
                # statements that take arrays planning costs as much as running.
                "plan_cache_mode": "force_generic_plan",
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Open a transaction that commits when the block ends and rolls back when it raises."""
        async with self._acquired() as connection:
            tx = Tx(connection, self)
            async with connection.transaction():
                yield tx
            for action in tx.on_commit:
                action()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Tx]:
        """Give a connection on which each statement is its own transaction: a third of the round trips.

        The outbox can't be filled on it: that belongs into the transaction of the change that is published.
        """
        async with self._acquired() as connection:
            yield Tx(connection)

    async def close(self) -> None:
        """Close every connection of the pool."""
        await (await self._pool).close()

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[asyncpg.Connection]:
        pool = await self._pool  # initializes it the first time; it begins empty, so nothing connects here
        async with pool.acquire(timeout=POOL_WAIT_S) as connection:
            yield cast("asyncpg.Connection", connection)


def of(tx: Tx) -> Database:
    """Give the database that opened this transaction. Raises LookupError outside of one."""
    if tx.database is None:
        raise LookupError("no transaction is open")
    return tx.database


def on_commit(tx: Tx, action: Callable[[], None]) -> None:
    """Call `action` once after this transaction has committed, never when it rolls back."""
    tx.on_commit.append(action)


def is_transient(error: BaseException) -> bool:
    """Return whether a transaction can be tried again at once: a serialization failure or a deadlock."""
    return isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError)


def is_outage(error: BaseException) -> bool:
    """Return whether the database or the network is unavailable, so that other messages would fail too."""
    # InterfaceError is raised for a closed connection, and as a ValueError too for a value that can't be sent.
    return isinstance(error, _OUTAGES) and not isinstance(error, ValueError)


def is_unstorable(error: BaseException) -> bool:
    """Return whether a text can't be stored in PostgreSQL, such as one with a NUL; no later attempt will store it."""
    return isinstance(error, asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError)


async def _read_json(connection: asyncpg.Connection) -> None:
    """Make the driver parse JSON columns; values are written as the text that pydantic made."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=from_json)


async def _no_reset(_: asyncpg.Connection) -> None:
    """Skip the reset of a returned connection: we never change its settings, and a reset costs a round trip."""
