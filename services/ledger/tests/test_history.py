"""History on a real database: balances of both kinds of time against a plain list, and statements under writes."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import histories
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis import database, envelope, operations
from ledger import commit, history, main, store
from ledger.domain import chart, requests
from ledger.proof import verify

GIVE_UP_S = 90
EACH_IS_ITS_OWN = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # every example has accounts of its own, so the shared database does no harm


async def summarize(db: database.Database) -> None:
    """Run the timer until nothing is left."""
    while await history.timers.summarize_postings(db):
        pass


async def waits_for_a_lock(superuser: asyncpg.Connection) -> None:
    async with asyncio.timeout(GIVE_UP_S):
        while not await superuser.fetchval(  # noqa: ASYNC110 - another session can only be polled
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


@pytest.mark.rule("LE11")
@EACH_IS_ITS_OWN
@given(seed=st.integers(0, 2**32), size=st.integers(0, 1_200), step=st.sampled_from([0, 1, 7, 250]))
async def test_the_balance_of_any_time_is_that_of_a_plain_list(
    db: database.Database,
    superuser: asyncpg.Connection,
    seed: int,
    size: int,
    step: int,
) -> None:
    history_entries = histories.random_history(seed, size)
    wallet = await histories.insert(superuser, history_entries)
    async with db.statement() as tx:
        while step and await history.store.summarize(tx, limit=step):
            pass

    for at in histories.moments(seed, history_entries):
        known_at = at + timedelta(seconds=2)
        recorded = await history.operations.balance(db, wallet, recorded_at=at)
        assert recorded.balance_minor == histories.recorded(history_entries, at)
        assert recorded.sequence == sum(each.recorded_at <= at for each in history_entries)
        assert (await history.operations.balance(db, wallet, effective_at=at)).balance_minor == histories.effective(
            history_entries, at
        )
        then = await history.operations.balance(db, wallet, effective_at=at, recorded_at=known_at)
        assert then.balance_minor == histories.effective(history_entries, at, known_at)


@pytest.mark.rule("LE11")
async def test_a_long_history_is_summarized_in_levels_and_only_a_little_of_it_is_read(
    db: database.Database, superuser: asyncpg.Connection, role: asyncpg.Connection
) -> None:
    history_entries = histories.random_history(7, 64 * 16 * 4 + 70)
    wallet = await histories.insert(superuser, history_entries)
    await summarize(db)
    account = await history.store.current_balance(database.Tx(role), wallet)

    levels = await superuser.fetch(
        "SELECT level, count(*) FROM posting_summary WHERE account_id = $1 GROUP BY level ORDER BY level",
        account.account_id,
    )
    long_ago, at = histories.BEGIN - timedelta(days=90), history_entries[3_000].recorded_at
    async with role.transaction():
        assert (await history.store.effective_balance(database.Tx(role), account, long_ago)).balance_minor == 0
        effective = await histories.postings_read(role)
        assert (await history.store.recorded_balance(database.Tx(role), account, at)).sequence > 3_000
        recorded = await histories.postings_read(role) - effective

    assert [tuple(row) for row in levels] == [(1, 65), (2, 4)]
    assert effective == 6  # those that are not summarized yet
    assert recorded <= 13  # the logarithm of the length
    for at in histories.moments(7, history_entries):
        assert (await history.operations.balance(db, wallet, effective_at=at)).balance_minor == histories.effective(
            history_entries, at
        )


@pytest.mark.rule("LE11")
async def test_where_a_summary_is_missing_the_postings_are_read(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    history_entries = histories.random_history(11, 64 * 40)
    wallet = await histories.insert(superuser, history_entries)
    await summarize(db)
    await superuser.execute("DELETE FROM posting_summary WHERE (level, place) IN ((1, 5), (1, 39), (2, 1))")

    for at in histories.moments(11, history_entries):
        assert (await history.operations.balance(db, wallet, effective_at=at)).balance_minor == histories.effective(
            history_entries, at
        )
        assert (await history.operations.balance(db, wallet, recorded_at=at)).balance_minor == histories.recorded(
            history_entries, at
        )


@pytest.mark.rule("LE11")
async def test_a_back_dated_posting_counts_from_its_effect_but_not_before_it_was_recorded(
    db: database.Database,
) -> None:
    yesterday = envelope.now() - timedelta(days=1)
    await histories.post(db, histories.grant(100))
    known_at = await histories.database_time(db)
    await histories.post(db, histories.grant(20, occurred_at=yesterday))

    assert (await history.operations.balance(db, histories.WALLET, recorded_at=known_at)).balance_minor == 100
    assert (await history.operations.balance(db, histories.WALLET, effective_at=yesterday)).balance_minor == 20
    assert (
        await history.operations.balance(db, histories.WALLET, effective_at=yesterday - history.domain.TICK)
    ).balance_minor == 0
    assert (
        await history.operations.balance(db, histories.WALLET, effective_at=yesterday, recorded_at=known_at)
    ).balance_minor == 0
    assert (
        await history.operations.balance(db, histories.WALLET, effective_at=await histories.database_time(db))
    ).balance_minor == 120


async def test_a_posting_that_takes_effect_in_the_future_counts_from_then_on(db: database.Database) -> None:
    tomorrow = envelope.now() + timedelta(days=1)
    await histories.post(db, histories.grant(100), histories.grant(20, occurred_at=tomorrow))

    assert (
        await history.operations.balance(db, histories.WALLET, effective_at=tomorrow - history.domain.TICK)
    ).balance_minor == 100
    assert (await history.operations.balance(db, histories.WALLET, effective_at=tomorrow)).balance_minor == 120


@pytest.mark.rule("LE11")
async def test_a_balance_waits_for_postings_that_are_not_committed_yet(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await histories.post(db, histories.grant(100))
    request = requests.Request(histories.grant(20), envelope.uuid7())
    async with db.transaction() as tx:
        batch = await store.load(tx, [request])
        batch.settle(request)
        await store.save(tx, batch, [])
        at = await histories.database_time(db)
        waiting = asyncio.create_task(history.operations.balance(db, histories.WALLET, recorded_at=at))
        await waits_for_a_lock(superuser)
        assert not waiting.done()

    found = await waiting

    assert (found.balance_minor, found.at) == (120, at)
    assert batch.book.at < at


@pytest.mark.rule("LE11")
async def test_a_time_before_the_newest_posting_is_answered_without_waiting_for_writers(db: database.Database) -> None:
    await histories.post(db, histories.grant(100))
    at = await histories.database_time(db)
    await histories.post(db, histories.grant(20))
    async with db.transaction() as tx:
        await store.load(tx, [requests.Request(histories.grant(3), envelope.uuid7())])

        async with asyncio.timeout(GIVE_UP_S):
            found = await history.operations.balance(db, histories.WALLET, recorded_at=at)

    assert (found.balance_minor, found.sequence) == (100, 1)


@pytest.mark.rule("LE11")
async def test_the_balance_of_a_moment_never_changes_whatever_commits_around_it(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    answers: list[history.domain.Balance] = []
    await histories.post(db, histories.grant(1))

    async def write() -> None:
        for _ in range(20):
            await group.execute(histories.grant(1))

    async def read() -> None:
        while not writing.done():
            answers.append(
                await history.operations.balance(db, histories.WALLET, recorded_at=await histories.database_time(db))
            )

    writing = asyncio.gather(*(write() for _ in range(4)))
    await asyncio.gather(read(), read(), writing)

    again = [await history.operations.balance(db, histories.WALLET, recorded_at=answer.at) for answer in answers]
    assert again == answers
    assert len({answer.sequence for answer in answers}) > 1
    assert all(answer.balance_minor == answer.sequence for answer in answers)


async def test_a_time_to_come_gives_the_current_balance(db: database.Database) -> None:
    await histories.post(db, histories.grant(100))
    before = await histories.database_time(db)

    found = await history.operations.balance(db, histories.WALLET, recorded_at=before + timedelta(days=1))

    assert found.balance_minor == 100
    assert before < found.at <= await histories.database_time(db)


async def test_an_account_that_was_never_used_has_no_history(db: database.Database) -> None:
    with pytest.raises(chart.NeverOpened):
        await history.operations.balance(db, histories.WALLET)
    with pytest.raises(chart.UnknownAccount):
        await history.operations.balance(db, histories.WALLET._replace(code="user:nobody"))


async def test_several_workers_summarize_each_chunk_once(db: database.Database, superuser: asyncpg.Connection) -> None:
    await histories.insert(superuser, histories.random_history(1, 64 * 20))

    await asyncio.gather(*(summarize(db) for _ in range(4)))

    rows = await superuser.fetch("SELECT level, count(*) FROM posting_summary GROUP BY level ORDER BY level")
    assert [tuple(row) for row in rows] == [(1, 2 * 20), (2, 2 * 1)]
    results = {result.check: result for result in (await verify.run(db)).results}
    assert results["each summary is the sum of its postings"].broken == 0


async def test_a_tick_of_summarizing_is_bounded(
    db: database.Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.timers, "CHUNKS_MAX", 4)
    await histories.insert(superuser, histories.random_history(1, 64 * 5))
    written = []

    for _ in range(4):
        await history.timers.summarize_postings(db)
        written.append(await superuser.fetchval("SELECT count(*) FROM posting_summary"))

    assert written == [4, 8, 10, 10]


async def test_a_chunk_that_was_left_out_is_summarized_with_the_next_of_its_account(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await histories.insert(superuser, histories.random_history(1, 64 * 3))
    await superuser.execute(
        "UPDATE posting_summary_mark SET transfer_id = (SELECT transfer_id FROM posting WHERE sequence = 130 LIMIT 1)"
    )

    await summarize(db)

    rows = await superuser.fetch("SELECT place FROM posting_summary ORDER BY account_id, place")
    assert [row["place"] for row in rows] == [0, 1, 2, 0, 1, 2]


async def test_the_services_role_can_not_write_summaries_itself(role: asyncpg.Connection) -> None:
    for statement in (
        "INSERT INTO posting_summary VALUES (1, 1, 0, now(), now(), now(), 1)",
        "UPDATE posting_summary SET amount_minor = 0",
        "DELETE FROM posting_summary",
        "UPDATE posting_summary_mark SET account_id = 0",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, database_url: str, amqp_url: str) -> None:
    """The environment of an operator's command line."""
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", amqp_url)


async def run(command: str, *arguments: str) -> int:
    return await operations.run(main.SERVICE, command, arguments)


@pytest.mark.rule("LE11")
async def test_an_operator_reads_a_balance_of_any_time(
    db: database.Database, operator: None, capsys: pytest.CaptureFixture[str]
) -> None:
    await histories.post(db, histories.grant(100))
    at = await histories.database_time(db)
    await histories.post(db, histories.grant(20, occurred_at=datetime(2026, 1, 1, tzinfo=UTC)))

    codes = [
        await run("balance", histories.WALLET.code, "RUB"),
        await run("balance", histories.WALLET.code, "RUB", "--at", at.isoformat()),
        await run("balance", histories.WALLET.code, "RUB", "--at", "2026-01-01", "--effective"),
    ]

    printed = capsys.readouterr().out.splitlines()
    assert codes == [0, 0, 0]
    assert printed[0] == "1.20 RUB, held 0.00, available 1.20, after posting 2"
    assert printed[1].startswith(f"1.00 RUB recorded at {at.isoformat()}")
    assert printed[2].startswith("0.20 RUB effective at 2026-01-01")
