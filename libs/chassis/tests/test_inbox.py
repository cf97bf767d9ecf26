import asyncio
from uuid import UUID, uuid4

import asyncpg
import notes
import pytest

from chassis import database, envelope, inbox, testing

RETENTION_DAYS = 14  # as the function inbox_maintain of the migrations has it

DELIVERY = testing.delivery_of(notes.WriteNote(), notes.COMMANDS.name)


async def test_the_first_claim_is_new_and_the_second_a_duplicate(db: database.Database) -> None:
    async with db.transaction() as tx:
        first = await inbox.claim(tx, DELIVERY)
    async with db.transaction() as tx:
        second = await inbox.claim(tx, DELIVERY)

    assert (first, second) == (True, False)


async def test_each_consumer_claims_for_itself(db: database.Database) -> None:
    other = inbox.Delivery("notes.other", DELIVERY.envelope)

    async with db.transaction() as tx:
        claims = [await inbox.claim(tx, DELIVERY), await inbox.claim(tx, other)]

    assert claims == [True, True]


async def test_a_message_claimed_three_times_at_once_is_new_once(db: database.Database) -> None:
    async def claim() -> bool:
        async with db.transaction() as tx:
            return await inbox.claim(tx, DELIVERY)

    claims = await asyncio.gather(*(claim() for _ in range(3)))

    assert sorted(claims) == [False, False, True]


async def test_a_duplicate_that_waits_for_a_rollback_is_new(db: database.Database) -> None:
    async def claim() -> bool:
        async with db.transaction() as tx:
            return await inbox.claim(tx, DELIVERY)

    async def claim_in_vain(claimed: asyncio.Event, waiter_is_blocked: asyncio.Event) -> None:
        async with db.transaction() as tx:
            assert await inbox.claim(tx, DELIVERY)
            claimed.set()
            await waiter_is_blocked.wait()
            raise RuntimeError("the first handler fails")

    claimed, waiter_is_blocked = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(claim_in_vain(claimed, waiter_is_blocked))
    await claimed.wait()
    waiter = asyncio.create_task(claim())
    await is_blocked(db)
    waiter_is_blocked.set()

    with pytest.raises(RuntimeError, match="the first handler fails"):
        await first
    assert await waiter


async def is_blocked(db: database.Database) -> None:
    """Wait until a statement of this database waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            async with db.transaction() as tx:
                if await tx.fetchval("SELECT true FROM pg_locks WHERE NOT granted"):
                    return


async def test_claiming_many_gives_the_new_ones(db: database.Database) -> None:
    deliveries = [testing.delivery_of(notes.NoteWritten(), notes.ECHO.name) for _ in range(20)]
    async with db.transaction() as tx:
        await inbox.claim_many(tx, deliveries[:5])

    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, deliveries)

    assert fresh == {delivery.envelope.id for delivery in deliveries[5:]}


async def test_batches_that_claim_the_same_messages_in_other_orders_do_not_deadlock(db: database.Database) -> None:
    deliveries = [testing.delivery_of(notes.NoteWritten(), notes.ECHO.name) for _ in range(300)]

    async def claim(those: list[inbox.Delivery]) -> int:
        async with db.transaction() as tx:
            return len(await inbox.claim_many(tx, those))

    counts = await asyncio.gather(claim(deliveries), claim(deliveries[::-1]))

    assert sorted(counts) == [0, 300]


async def test_an_unclaimed_message_is_new_again_and_no_other(db: database.Database) -> None:
    deliveries = [testing.delivery_of(notes.NoteWritten(), notes.ECHO.name) for _ in range(5)]
    other = inbox.Delivery("notes.other", deliveries[0].envelope)
    async with db.transaction() as tx:
        await inbox.claim_many(tx, [*deliveries, other])
        await inbox.unclaim(tx, [deliveries[0], deliveries[3]])

    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, deliveries)
        is_claimed = not await inbox.claim(tx, other)

    assert fresh == {deliveries[number].envelope.id for number in (0, 3)}
    assert is_claimed


async def test_unclaiming_nothing_changes_nothing(db: database.Database) -> None:
    async with db.transaction() as tx:
        await inbox.claim(tx, DELIVERY)

    async with db.transaction() as tx:
        await inbox.unclaim(tx, [])
        assert not await inbox.claim(tx, DELIVERY)


async def test_claiming_nothing_claims_nothing(db: database.Database) -> None:
    async with db.transaction() as tx:
        assert await inbox.claim_many(tx, []) == set()


async def test_a_message_of_today_lies_in_the_partition_of_today(db: database.Database) -> None:
    async with db.transaction() as tx:
        await inbox.claim(tx, DELIVERY)
        place = await tx.fetchval("SELECT tableoid::regclass::text FROM inbox")

    assert place == f"inbox_{envelope.now():%Y%m%d}"


async def test_an_id_without_a_day_is_claimed_once_too(db: database.Database) -> None:
    stranger = testing.delivery_of(notes.WriteNote(), notes.COMMANDS.name, event_id=uuid4())

    async with db.transaction() as tx:
        claims = [await inbox.claim(tx, stranger), await inbox.claim(tx, stranger)]

    assert claims == [True, False]


async def test_maintenance_drops_days_past_retention_and_keeps_the_others(
    db: database.Database, servers: testing.Servers, database_name: str
) -> None:
    connection = await asyncpg.connect(servers.database(database_name))
    try:
        for days in (RETENTION_DAYS, RETENTION_DAYS + 1, RETENTION_DAYS + 40):
            await connection.execute(f"""
                SET search_path = notes;
                DO $$ DECLARE day date := current_date - {days}; BEGIN
                  EXECUTE format('CREATE TABLE %I PARTITION OF inbox FOR VALUES FROM (%L) TO (%L)',
                    'inbox_' || to_char(day, 'YYYYMMDD'), inbox_bound(day), inbox_bound(day + 1));
                END $$""")
    finally:
        await connection.close()

    async with db.transaction() as tx:
        dropped = await inbox.maintain(tx)
        dropped_again = await inbox.maintain(tx)

    assert (dropped, dropped_again) == (2, 0)


async def test_the_service_cannot_drop_its_inbox_itself(db: database.Database) -> None:
    async with db.transaction() as tx:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await tx.execute("DROP TABLE inbox")


async def test_the_bound_of_a_day_is_its_first_millisecond(db: database.Database) -> None:
    async with db.transaction() as tx:
        bound: UUID = await tx.fetchval("SELECT inbox_bound('2030-01-01')")

    assert bound.int >> 80 == 1_893_456_000_000
