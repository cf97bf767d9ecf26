"""One service's door to its own PostgreSQL schema. A transaction is visible where it begins and ends.

SQLAlchemy gives the engine, the pool and SQL text; statements that take arrays go to asyncpg directly, on the same
connection and in the same transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

Tx = AsyncConnection
"""A connection inside an open transaction."""

STATEMENT_TIMEOUT_S = 15
POOL_WAIT_S = 5

_DATABASE = "kopilka.database"
_ON_COMMIT = "kopilka.on_commit"
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
    PoolTimeoutError,
    ConnectionError,
    TimeoutError,
)


class Database:
    """The pool of one process, bound to one schema and one role."""

    def __init__(self, url: str, *, schema: str, pool_size: int) -> None:
        """Prepare the pool; the first transaction opens the first connection."""
        self.schema = schema
        self.outbox_filled = asyncio.Event()
        self.engine: AsyncEngine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            # The transaction is begun and ended on the driver, so that SQL text and array statements share it.
            isolation_level="AUTOCOMMIT",
            # Values may be personal, and an error's text ends up in logs.
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            connect_args={
                "timeout": POOL_WAIT_S,
                "command_timeout": STATEMENT_TIMEOUT_S + 5,
                "server_settings": {
                    "search_path": schema,
                    "application_name": f"kopilka-{schema}",
                    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
                    "idle_in_transaction_session_timeout": "30s",
                    # Plans of our short statements are never worth compiling.
                    "jit": "off",
                },
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Open a transaction that commits when the block ends and rolls back when it raises."""
        async with self.engine.connect() as tx:
            connection = await driver(await _alive(tx))
            try:
                async with connection.transaction():
                    tx.info[_DATABASE] = self
                    yield tx
            except BaseException:
                # What SQLAlchemy has invalidated itself it has emptied too, and it answers no question any more.
                if not tx.invalidated:
                    tx.info.pop(_ON_COMMIT, None)
                    tx.info.pop(_DATABASE, None)
                    if connection.is_closed():
                        await tx.invalidate()
                raise
            del tx.info[_DATABASE]
            for action in tx.info.pop(_ON_COMMIT, ()):
                action()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Tx]:
        """Lend a connection on which each statement is its own transaction: a third of the round trips.

        Nothing can be said here: the outbox needs a transaction that also holds what was done.
        """
        async with self.engine.connect() as tx:
            yield await _alive(tx)

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self.engine.dispose()


def of(tx: Tx) -> Database:
    """Give the database that opened this transaction. Raises KeyError outside of one."""
    return cast("Database", tx.info[_DATABASE])


def on_commit(tx: Tx, action: Callable[[], None]) -> None:
    """Call `action` once after this transaction has committed, never when it rolls back."""
    tx.info.setdefault(_ON_COMMIT, []).append(action)


async def driver(tx: Tx) -> asyncpg.Connection:
    """Give the asyncpg connection below, for statements that take arrays."""
    if not tx.invalidated and tx.sync_connection is not None:
        # The same without the library's switch into its own stack, which costs as much as a statement's encoding.
        return cast("asyncpg.Connection", tx.sync_connection.connection.driver_connection)
    return cast("asyncpg.Connection", (await tx.get_raw_connection()).driver_connection)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same transaction may simply be tried again at once: it lost a race, nothing is broken."""
    return isinstance(_cause(error), asyncpg.SerializationError | asyncpg.DeadlockDetectedError)


def is_outage(error: BaseException) -> bool:
    """Tell whether the database or the network is away, so that trying other messages would not help."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = _cause(error)
    # The driver says InterfaceError for a closed connection and for a value it can't send; the latter is a ValueError.
    return isinstance(cause, _OUTAGES) and not isinstance(cause, ValueError)


async def _alive(tx: Tx) -> Tx:
    # After a restart of the server every pooled connection is dead. The driver knows without a round trip;
    # the pool learns it here. Bounded by the pool's size, which is at most 100.
    for _ in range(100):
        if not (await driver(tx)).is_closed():
            break
        await tx.invalidate()
    return tx


def _cause(error: BaseException) -> BaseException:
    original = error.orig if isinstance(error, DBAPIError) else None
    return (original.__cause__ or original) if original is not None else error
