import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import notes
import outages
import pytest
import structlog

from chassis import database, outbox, testing

Proxied = Callable[[str], Awaitable[outages.Proxy]]


async def notes_in(db: database.Database) -> int:
    async with db.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM note")
    return count


async def write(tx: database.Tx) -> None:
    await tx.execute("INSERT INTO note VALUES (gen_random_uuid(), 'x', 'y')")


async def test_a_transaction_commits_what_was_written_in_it(db: database.Database) -> None:
    async with db.transaction() as tx:
        await write(tx)
        before = await notes_in(db)

    assert (before, await notes_in(db)) == (0, 1)


async def test_a_transaction_that_raises_leaves_nothing(db: database.Database) -> None:
    async def fail() -> None:
        async with db.transaction() as tx:
            await write(tx)
            raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await fail()

    assert await notes_in(db) == 0


async def test_a_cancelled_transaction_leaves_nothing(db: database.Database) -> None:
    begun = asyncio.Event()

    async def linger() -> None:
        async with db.transaction() as tx:
            await write(tx)
            begun.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(linger())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await notes_in(db) == 0


async def test_an_action_on_commit_runs_after_the_commit_and_once(db: database.Database) -> None:
    happened: list[str] = []

    async with db.transaction() as tx:
        database.on_commit(tx, lambda: happened.append("first"))
        database.on_commit(tx, lambda: happened.append("second"))
        before = list(happened)
    async with db.transaction():
        pass

    assert before == []
    assert happened == ["first", "second"]


async def test_an_action_on_commit_does_not_run_after_a_rollback(db: database.Database) -> None:
    happened: list[str] = []

    async def fail() -> None:
        async with db.transaction() as tx:
            database.on_commit(tx, lambda: happened.append("never"))
            raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await fail()
    for _ in range(10):
        async with db.transaction():
            pass

    assert happened == []


async def test_a_transaction_knows_the_database_that_opened_it(db: database.Database) -> None:
    async with db.transaction() as tx:
        assert database.of(tx) is db


async def test_connections_that_the_server_ended_are_replaced(
    db: database.Database, servers: testing.Servers, database_name: str
) -> None:
    async with db.transaction(), db.transaction(), db.transaction():
        pass
    await testing.administer(
        servers, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database_name}'"
    )
    await asyncio.sleep(0.1)

    async with db.transaction() as first, db.transaction() as second, db.transaction() as third:
        answers = [await tx.fetchval("SELECT 1") for tx in (first, second, third)]

    assert answers == [1, 1, 1]


async def test_a_connection_that_ends_during_a_transaction_is_an_outage(db: database.Database) -> None:
    async def end_itself() -> None:
        async with db.transaction() as tx:
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Exception, match=r".") as failure:
        await end_itself()
    assert database.is_outage(failure.value)
    assert not database.is_transient(failure.value)
    assert await notes_in(db) == 0


async def test_an_unreachable_server_is_an_outage(database_url: str, proxied: Proxied) -> None:
    proxy = await proxied(database_url)
    near = database.Database(proxy.url, schema="notes", pool_size=2)
    assert await notes_in(near) == 0
    await proxy.take_away()

    with pytest.raises(Exception, match=r".") as failure:
        await notes_in(near)
    await proxy.restore()

    assert database.is_outage(failure.value)
    assert await notes_in(near) == 0
    await near.close()


async def test_an_exhausted_pool_is_an_outage(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "POOL_WAIT_S", 0.2)
    small = database.Database(database_url, schema="notes", pool_size=1)

    async with small.transaction():
        with pytest.raises(TimeoutError) as failure:
            await notes_in(small)

    assert database.is_outage(failure.value)
    await small.close()


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_lost_race_is_transient(db: database.Database, sqlstate: str) -> None:
    async def lose() -> None:
        async with db.transaction() as tx:
            await tx.execute(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")

    with pytest.raises(asyncpg.PostgresError) as failure:
        await lose()
    assert database.is_transient(failure.value)
    assert not database.is_outage(failure.value)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT CAST($1 AS integer)", 2**40),
        ("SELECT CAST($1 AS integer)", "no number"),
        ("SELECT CAST($1 AS text)", "a\0b"),
        ("SELECT 1 / (CAST($1 AS integer) - 1)", 1),
        ("SELECT * FROM nowhere WHERE x = $1", 1),
    ],
)
async def test_a_statement_that_can_never_work_is_no_outage(
    db: database.Database, statement: str, value: object
) -> None:
    async def fail() -> None:
        async with db.transaction() as tx:
            await tx.execute(statement, value)

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as failure:
        await fail()
    assert not database.is_outage(failure.value)
    assert not database.is_transient(failure.value)


async def test_an_error_does_not_contain_the_values_of_its_statement(db: database.Database) -> None:
    async def fail() -> None:
        async with db.transaction() as tx:
            await tx.execute("SELECT * FROM nowhere WHERE phone = $1", "+79991234567")

    with structlog.testing.capture_logs(), pytest.raises(asyncpg.PostgresError) as failure:
        await fail()

    assert "79991234567" not in str(failure.value)


async def test_json_goes_in_as_text_and_comes_out_as_values(db: database.Database) -> None:
    async with db.statement() as tx:
        row = await tx.fetchrow(
            "SELECT $1::json AS plain, $2::jsonb AS binary, $3::jsonb[] AS many", '{"a": 1}', "[1.5]", ["null", '"x"']
        )

    assert row is not None
    assert tuple(row) == ({"a": 1}, [1.5], [None, "x"])


async def test_a_service_cannot_read_another_schema(db: database.Database) -> None:
    async with db.transaction() as tx:
        path = await tx.fetchval("SHOW search_path")
        can_create = await tx.fetchval("SELECT has_schema_privilege('notes', 'CREATE')")

    assert path == "notes"
    assert can_create is False


async def test_a_single_statement_commits_by_itself_and_can_not_fill_the_outbox(db: database.Database) -> None:
    async with db.statement() as tx:
        await tx.execute("INSERT INTO note VALUES (gen_random_uuid(), 'alone', 'nobody')")
        with pytest.raises(LookupError):
            await outbox.put(tx, [notes.NoteWritten()])

    async with db.statement() as tx:
        assert await tx.fetchval("SELECT count(*) FROM note WHERE body = 'alone'") == 1


async def test_a_connection_can_not_fill_the_outbox_after_its_transaction(db: database.Database) -> None:
    async with db.transaction() as tx:
        await outbox.put(tx, [notes.NoteWritten()])

    async with db.statement() as tx:
        with pytest.raises(LookupError):
            await outbox.put(tx, [notes.NoteWritten()])
