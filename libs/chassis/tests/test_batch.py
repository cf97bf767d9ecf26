"""The batch consumer on a real broker and a real database."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import notes
import outages
import pytest
import rabbit

from chassis import batch, database, dead_letters, inbox, retries, testing, topology

Proxied = Callable[[str], Awaitable[outages.Proxy]]
QUEUE = notes.ECHO.name


async def test_many_messages_share_a_transaction_and_are_acknowledged(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    sizes: list[int] = []

    async def handle(db: database.Database, items: Sequence[tuple[inbox.Delivery, notes.NoteWritten]]) -> None:
        sizes.append(len(items))
        await notes.store_notes(db, items)

    await asyncio.gather(*(wire.send(QUEUE, notes.NoteWritten()) for _ in range(1_500)))

    async with rabbit.consuming_batches(declared, db, batch.BatchQueue(QUEUE, (notes.NoteWritten,), handle)):
        await rabbit.effects(db, QUEUE, 1_500)

    assert sum(sizes) == 1_500
    assert max(sizes) <= batch.BATCH
    assert len(sizes) < 100
    assert await wire.depth(QUEUE) == 0


async def test_messages_of_a_batch_keep_the_order_of_the_queue_also_with_copies_among_them(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    order: list[int] = []

    async def handle(db: database.Database, items: Sequence[tuple[inbox.Delivery, notes.NoteWritten]]) -> None:
        async with db.transaction() as tx:
            fresh = await inbox.claim_many(tx, [delivery for delivery, _ in items])
        order.extend(note.sequence for delivery, note in items if delivery.envelope.id in fresh)

    sent: list[tuple[bytes, dict[str, Any]]] = []
    for number in range(100):
        message = notes.NoteWritten(sequence=number)
        sent.append((message.model_dump_json().encode(), rabbit.headers_of(message)))
        for body, headers in sent[-3:][::-1]:
            await wire.send_raw(QUEUE, body, headers)

    async with rabbit.consuming_batches(declared, db, batch.BatchQueue(QUEUE, (notes.NoteWritten,), handle)):

        async def is_all() -> bool:
            return len(order) >= 100

        await rabbit.until(is_all)

    assert order == list(range(100))


async def test_a_message_that_fails_does_not_fail_the_others_of_its_batch(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    bodies = [notes.BROKEN if number == 17 else "fine" for number in range(40)]
    await asyncio.gather(*(wire.send(QUEUE, notes.NoteWritten(body=body)) for body in bodies))

    async with rabbit.consuming_batches(declared, db, notes.ECHO):
        await rabbit.effects(db, QUEUE, 39)
        failed = await wire.take("kopilka.retries.5s")

    assert failed.routing_key == QUEUE
    assert failed.headers["kopilka-attempt"] == 1
    assert await notes.count(db, QUEUE) == 39
    assert await wire.depth(QUEUE) == 0


async def test_unreadable_messages_of_a_batch_become_dead_letters_and_the_others_are_handled(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send_raw(QUEUE, b"{not json", rabbit.headers_of(notes.NoteWritten()))
    await wire.send(QUEUE, notes.NoteWritten())
    await wire.send_raw(QUEUE, b"{}", rabbit.headers_of(notes.NoteWritten(), ce_type="notes.note.sung.v1"))
    await wire.send_raw(QUEUE, b"{}", {})
    await wire.send(QUEUE, notes.NoteWritten())

    async with rabbit.consuming_batches(declared, db, notes.ECHO):
        await rabbit.effects(db, QUEUE, 2)
        letters = await rabbit.dead_lettered(db, 3)

    assert {(letter.consumer, letter.reason) for letter in letters} == {(QUEUE, "unreadable")}
    assert await wire.depth(QUEUE) == 0


async def test_a_message_that_failed_after_every_retry_becomes_a_dead_letter(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send(QUEUE, notes.NoteWritten(body=notes.BROKEN), kopilka_attempt=len(topology.RETRY_DELAYS))

    async with rabbit.consuming_batches(declared, db, notes.ECHO):
        letters = await rabbit.dead_lettered(db)

    assert [letter.reason for letter in letters] == ["retries_exhausted"]


async def test_data_of_our_own_that_fails_to_validate_is_a_defect_and_no_unreadable_message(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    async def read_nonsense(_: database.Database, __: Sequence[tuple[inbox.Delivery, notes.NoteWritten]]) -> None:
        notes.NoteWritten.model_validate({"note_id": "no-uuid"})

    await wire.send(QUEUE, notes.NoteWritten())

    async with rabbit.consuming_batches(declared, db, batch.BatchQueue(QUEUE, (notes.NoteWritten,), read_nonsense)):
        waiting = await wire.take("kopilka.retries.5s")

    assert waiting.headers["kopilka-attempt"] == 1
    assert await dead_letters.find(db) == []


async def test_copies_in_one_batch_and_in_later_ones_have_one_effect(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    message = notes.NoteWritten()
    headers = rabbit.headers_of(message)
    body = message.model_dump_json().encode()
    for _ in range(3):
        await wire.send_raw(QUEUE, body, headers)

    async with rabbit.consuming_batches(declared, db, notes.ECHO):
        await rabbit.effects(db, QUEUE, 1)
        await wire.send_raw(QUEUE, body, headers)
        await wire.send(QUEUE, notes.NoteWritten())
        await rabbit.effects(db, QUEUE, 2)

    assert await notes.count(db, QUEUE) == 2
    assert await wire.depth(QUEUE) == 0


async def test_a_batch_consumer_reconnects_after_its_connection_was_cut(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    async with rabbit.consuming_batches(proxy.url, db, notes.ECHO) as consumer:
        for count in range(1, 4):
            await wire.send(QUEUE, notes.NoteWritten())
            await rabbit.effects(db, QUEUE, count)
            proxy.cut()

        await rabbit.until(consumer.is_consuming)

    assert await notes.count(db, QUEUE) == 3


async def test_a_connection_lost_during_a_batch_has_one_effect(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    batches = 0

    async def cut_after_commit(
        db: database.Database, items: Sequence[tuple[inbox.Delivery, notes.NoteWritten]]
    ) -> None:
        nonlocal batches
        batches += 1
        await notes.store_notes(db, items)
        if batches == 1:
            proxy.cut()
            await asyncio.sleep(0.1)

    await wire.send(QUEUE, notes.NoteWritten())

    async with rabbit.consuming_batches(proxy.url, db, batch.BatchQueue(QUEUE, (notes.NoteWritten,), cut_after_commit)):

        async def is_redelivered() -> bool:
            return batches >= 2

        await rabbit.until(is_redelivered)

    assert await notes.count(db, QUEUE) == 1
    assert await wire.depth(QUEUE) == 0


async def test_a_process_killed_between_commit_and_ack_has_one_effect(
    db: database.Database, processes: testing.Processes, wire: rabbit.Wire
) -> None:
    process, _ = await asyncio.to_thread(processes.ready, "notes", "worker", KOPILKA_FAILPOINT="batch.before_ack:1")
    await asyncio.gather(*(wire.send(QUEUE, notes.NoteWritten()) for _ in range(50)))
    code = await asyncio.to_thread(process.wait, 30)

    await asyncio.to_thread(processes.ready, "notes", "worker")
    await wire.send(QUEUE, notes.NoteWritten())
    await rabbit.effects(db, QUEUE, 51)

    assert code == -signal.SIGKILL
    assert await notes.count(db, QUEUE) == 51


async def test_stopping_finishes_the_current_batch_and_leaves_the_others(
    db: database.Database, declared: str, wire: rabbit.Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH", 10)
    begun = asyncio.Event()

    async def take_a_while(db: database.Database, items: Sequence[tuple[inbox.Delivery, notes.NoteWritten]]) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        await notes.store_notes(db, items)

    await asyncio.gather(*(wire.send(QUEUE, notes.NoteWritten()) for _ in range(100)))

    async with rabbit.consuming_batches(declared, db, batch.BatchQueue(QUEUE, (notes.NoteWritten,), take_a_while)):
        await begun.wait()

    done = await notes.count(db, QUEUE)
    assert 0 < done <= 10
    assert await wire.depth(QUEUE) == 100 - done


async def test_an_unavailable_database_is_waited_for_without_using_up_a_retry(  # noqa: PLR0917 - fixtures
    db: database.Database,
    database_url: str,
    declared: str,
    wire: rabbit.Wire,
    proxied: Proxied,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: nothing is lost or sent up the ladder, whether the outage ends within the handler's patience or not."""
    monkeypatch.setattr(retries, "OUTAGE_WAIT_S", 1)
    proxy = await proxied(database_url)
    near = database.Database(proxy.url, schema="notes", pool_size=4)
    async with rabbit.consuming_batches(declared, near, notes.ECHO):
        await wire.send(QUEUE, notes.NoteWritten())
        await rabbit.effects(db, QUEUE, 1)
        await proxy.take_away()
        await asyncio.gather(*(wire.send(QUEUE, notes.NoteWritten()) for _ in range(20)))
        await wire.send_raw(QUEUE, b"{not json", rabbit.headers_of(notes.NoteWritten()))
        await asyncio.sleep(4)  # the outage lasts longer than the handler waits for its end

        await proxy.restore()
        await rabbit.effects(db, QUEUE, 21)
        letters = await rabbit.dead_lettered(db)

    await near.close()
    assert await notes.count(db, QUEUE) == 21
    assert await wire.depth("kopilka.retries.5s") == 0
    assert [letter.reason for letter in letters] == ["unreadable"]


async def test_a_batch_consumer_whose_queue_is_deleted_is_not_ready_and_consumes_again_when_it_is_back(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    async with rabbit.consuming_batches(declared, db, notes.ECHO) as consumer:
        await wire.channel.queue_delete(QUEUE)

        async def is_lost() -> bool:
            return not await consumer.is_consuming()

        await rabbit.until(is_lost)
        await topology.apply(declared, notes.SERVICE.bindings)
        await wire.send(QUEUE, notes.NoteWritten())
        await rabbit.effects(db, QUEUE, 1)

    assert await notes.count(db, QUEUE) == 1
