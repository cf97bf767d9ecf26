"""FastStream's consumers under the failure policy, on a real broker and a real database."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import notes
import outages
import rabbit

from chassis import broker, database, dead_letters, inbox, outbox, testing, topology

Proxied = Callable[[str], Awaitable[outages.Proxy]]
QUEUE = notes.COMMANDS.name


async def test_a_message_is_handled_and_is_the_cause_of_what_its_handler_publishes(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    async with rabbit.consuming(declared, db, notes.COMMANDS):
        headers = await wire.send(QUEUE, notes.WriteNote())
        await rabbit.effects(db, QUEUE, 1)

    async with db.transaction() as tx:
        headers_out = await tx.fetchval("SELECT headers::jsonb AS headers FROM outbox")
    assert await wire.depth(QUEUE) == 0
    assert headers_out["ce-correlationid"] == "correlation-1"
    assert headers_out["ce-causationid"] == headers["ce-id"]


async def test_three_copies_delivered_at_once_have_one_effect(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    command = notes.WriteNote(body=notes.SLOW)
    headers = rabbit.headers_of(command)
    for _ in range(3):
        await wire.send_raw(QUEUE, command.model_dump_json().encode(), headers)

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        await rabbit.effects(db, QUEUE, 1)

    assert await notes.count(db) == 1
    assert await wire.depth(QUEUE) == 0
    assert await dead_letters.find(db) == []


async def test_an_unavailable_database_is_waited_for_without_using_up_a_retry(
    db: database.Database, database_url: str, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(database_url)
    near = database.Database(proxy.url, schema="notes", pool_size=4)
    async with rabbit.consuming(declared, near, notes.COMMANDS):
        await wire.send(QUEUE, notes.WriteNote())
        await rabbit.effects(db, QUEUE, 1)
        await proxy.take_away()
        for _ in range(10):
            await wire.send(QUEUE, notes.WriteNote())
        await asyncio.sleep(2)  # how long the outage lasts

        await proxy.restore()
        await rabbit.effects(db, QUEUE, 11)

    await near.close()
    assert await notes.count(db) == 11
    assert await wire.depth("kopilka.retries.5s") == 0
    assert await dead_letters.find(db) == []


async def test_a_connection_lost_after_the_commit_and_before_the_ack_has_one_effect(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    deliveries = 0

    async def cut_after_commit(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        nonlocal deliveries
        deliveries += 1
        await notes.write_note(db, delivery, command)
        if deliveries == 1:
            proxy.cut()

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(proxy.url, db, notes.handled_by(cut_after_commit)):

        async def is_redelivered() -> bool:
            return deliveries >= 2

        await rabbit.until(is_redelivered)

    assert await notes.count(db) == 1
    assert await wire.depth(QUEUE) == 0


async def test_a_connection_lost_during_a_handler_rolls_it_back_and_it_is_applied_once(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    deliveries = 0

    async def cut_amid(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        nonlocal deliveries
        deliveries += 1
        async with db.transaction() as tx:
            if not await inbox.claim(tx, delivery):
                return
            await notes.store(tx, [command], QUEUE)
            if deliveries == 1:
                proxy.cut()
                await asyncio.sleep(30)

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(proxy.url, db, notes.handled_by(cut_amid)):
        await rabbit.effects(db, QUEUE, 1)

    assert deliveries == 2
    assert await notes.count(db) == 1


async def test_a_process_killed_between_commit_and_ack_has_one_effect(
    db: database.Database, processes: testing.Processes, wire: rabbit.Wire
) -> None:
    process, _ = await asyncio.to_thread(processes.ready, "notes", "worker", KOPILKA_FAILPOINT="handler.before_ack:1")
    await wire.send(QUEUE, notes.WriteNote())
    code = await asyncio.to_thread(process.wait, 30)

    await asyncio.to_thread(processes.ready, "notes", "worker")
    await wire.send(QUEUE, notes.WriteNote())
    await rabbit.effects(db, QUEUE, 2)

    assert code == -signal.SIGKILL
    assert await notes.count(db) == 2


async def test_a_crash_between_the_retry_and_the_ack_leaves_two_copies_and_one_effect(
    db: database.Database, processes: testing.Processes, declared: str, wire: rabbit.Wire
) -> None:
    process, _ = await asyncio.to_thread(processes.ready, "notes", "worker", KOPILKA_FAILPOINT="retries.before_ack:1")
    await wire.send(QUEUE, notes.WriteNote(body=notes.BROKEN))
    await asyncio.to_thread(process.wait, 30)
    attempts: list[int] = []

    async def work_again(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        await notes.write_note(db, delivery, command.model_copy(update={"body": "fine"}))
        attempts.append(delivery.envelope.attempt)

    async with rabbit.consuming(declared, db, notes.handled_by(work_again)):

        async def are_both_there() -> bool:
            return len(attempts) == 2

        await rabbit.until(are_both_there)

    assert attempts == [0, 1]
    assert await notes.count(db) == 1


async def test_a_consumer_reconnects_after_its_connection_was_cut(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    async with rabbit.consuming(proxy.url, db, notes.COMMANDS):
        for count in range(1, 4):
            proxy.cut()
            await wire.send(QUEUE, notes.WriteNote())
            await rabbit.effects(db, QUEUE, count)

    assert await notes.count(db) == 3


async def test_stopping_finishes_the_running_handlers(db: database.Database, declared: str, wire: rabbit.Wire) -> None:
    begun = asyncio.Event()

    async def take_a_while(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        begun.set()
        await asyncio.sleep(0.5)
        await notes.write_note(db, delivery, command)

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.handled_by(take_a_while)):
        await begun.wait()

    assert await notes.count(db) == 1
    assert await wire.depth(QUEUE) == 0


def test_a_queue_binds_events_and_commands_to_their_own_exchanges() -> None:
    both = broker.Queue("notes.both", {notes.WriteNote: notes.write_note, notes.NoteWritten: notes.write_note})

    assert both.binding == topology.Binding(
        "notes.both", events=(notes.NoteWritten.TYPE,), commands=(notes.WriteNote.TYPE,)
    )


async def test_a_command_that_a_handler_publishes_reaches_its_owner(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    async with db.transaction() as tx:
        await outbox.put(tx, [notes.WriteNote()])

    async with rabbit.relaying(declared, db):
        arrived = await wire.take(QUEUE)

    assert arrived.exchange == topology.COMMANDS
