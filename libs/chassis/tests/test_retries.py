"""What happens to a message that fails, from its first failure to its dead letter, on a real broker and database."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import notes
import outages
import pytest
import rabbit

from chassis import database, dead_letters, envelope, inbox, retries, testing, topology

Proxied = Callable[[str], Awaitable[outages.Proxy]]
QUEUE = notes.COMMANDS.name


async def test_unreadable_messages_become_dead_letters_one_by_one_and_the_next_is_handled(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    unreadable: list[tuple[bytes, dict[str, Any]]] = [
        (b"{not json", {}),
        (b'{"note_id": "no-uuid"}', {}),
        (b"{}", {"ce_type": "notes.note.sing.v1"}),
        (b"{}", {"ce_type": None}),
        (b"{}", {"ce_id": None}),
        (b"{}", {"ce_tenant": "a\0b", "ce_sequence": "many"}),
    ]
    for body, changed in unreadable:
        await wire.send_raw(QUEUE, body, rabbit.headers_of(notes.WriteNote(), **changed))
    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.COMMANDS, prefetch=1):
        letters = await rabbit.dead_lettered(db, len(unreadable))
        await rabbit.effects(db, QUEUE, 1)

    bodies = [(await dead_letters.content(db, letter))[1] for letter in letters]
    assert {(letter.consumer, letter.reason) for letter in letters} == {(QUEUE, "unreadable")}
    assert sorted(bodies) == sorted(body for body, _ in unreadable)
    assert await wire.depth(QUEUE) == 0


async def test_a_dead_letter_does_not_repeat_the_values_of_the_message(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send_raw(QUEUE, b'{"note_id": "+79991234567"}', rabbit.headers_of(notes.WriteNote()))

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        letters = await rabbit.dead_lettered(db)

    assert "79991234567" not in letters[0].error
    assert "note_id" in letters[0].error


async def test_a_message_without_any_header_becomes_a_dead_letter(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send_raw(QUEUE, b"hello", {})

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        letters = await rabbit.dead_lettered(db)

    assert [(letter.event_type, letter.reason) for letter in letters] == [("unknown", "unreadable")]


async def test_an_unreadable_message_that_can_not_be_stored_is_kept_by_the_broker(
    db: database.Database, declared: str, wire: rabbit.Wire, servers: testing.Servers, database_name: str
) -> None:
    await testing.administer(
        replace(servers, database_url=servers.database(database_name)), "ALTER TABLE notes.dead_letter RENAME TO away"
    )
    await wire.send_raw(QUEUE, b"{not json", rabbit.headers_of(notes.WriteNote()))

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        kept = await wire.take(f"{QUEUE}.dlq")

    assert kept.body == b"{not json"
    assert await wire.depth(QUEUE) == 0


async def test_an_unprocessable_message_becomes_a_dead_letter_at_once(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send(QUEUE, notes.WriteNote(body=notes.UNPROCESSABLE))

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        letters = await rabbit.dead_lettered(db)

    assert [(letter.reason, letter.attempts) for letter in letters] == [("unprocessable", 0)]


@pytest.mark.parametrize("attempt", range(len(topology.RETRY_DELAYS)))
async def test_a_failed_message_waits_in_the_retry_queue_of_its_attempt(
    db: database.Database, declared: str, wire: rabbit.Wire, attempt: int
) -> None:
    sent = await wire.send(QUEUE, notes.WriteNote(body=notes.BROKEN), kopilka_attempt=attempt)

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        waiting = await wire.take(f"kopilka.retries.{topology.RETRY_DELAYS[attempt][0]}")

    assert waiting.routing_key == QUEUE
    assert envelope.ours(waiting.headers) == {**sent, "kopilka-attempt": attempt + 1}
    assert waiting.message_id == sent["ce-id"]
    assert await wire.depth(QUEUE) == 0
    assert await notes.count(db) == 0


async def test_a_message_that_failed_after_every_retry_becomes_a_dead_letter(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    steps = len(topology.RETRY_DELAYS)
    await wire.send(QUEUE, notes.WriteNote(body=notes.BROKEN), kopilka_attempt=steps)

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        letters = await rabbit.dead_lettered(db)

    assert [(letter.reason, letter.attempts) for letter in letters] == [("retries_exhausted", steps)]
    assert "RuntimeError" in letters[0].error
    assert await wire.depth(QUEUE) == 0


async def test_a_text_that_no_row_can_hold_becomes_a_dead_letter_at_once(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await wire.send(QUEUE, notes.WriteNote(body="a\0b"))
    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.COMMANDS, prefetch=1):
        letters = await rabbit.dead_lettered(db)
        await rabbit.effects(db, QUEUE, 1)

    assert [(letter.reason, letter.attempts) for letter in letters] == [("unreadable", 0)]


async def test_data_of_our_own_that_fails_to_validate_is_a_defect_and_no_unreadable_message(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    async def read_nonsense(_: database.Database, __: inbox.Delivery, ___: notes.WriteNote) -> None:
        notes.NoteWritten.model_validate({"note_id": "no-uuid"})

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.handled_by(read_nonsense)):
        waiting = await wire.take("kopilka.retries.5s")

    assert waiting.headers["kopilka-attempt"] == 1
    assert await dead_letters.find(db) == []


async def test_the_first_retry_queue_returns_a_message_to_its_own_queue_only(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    attempts: list[int] = []

    async def fail_once(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        attempts.append(delivery.envelope.attempt)
        if delivery.envelope.attempt == 0:
            raise RuntimeError("only the first time")
        await notes.write_note(db, delivery, command)

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.handled_by(fail_once)):
        await rabbit.effects(db, QUEUE, 1)

    assert attempts == [0, 1]
    assert await wire.depth(notes.ECHO.name) == 0


async def test_a_lost_race_is_tried_again_at_once(db: database.Database, declared: str, wire: rabbit.Wire) -> None:
    calls = 0

    async def lose_twice(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            async with db.transaction() as tx:
                await tx.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        await notes.write_note(db, delivery, command)

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.handled_by(lose_twice)):
        await rabbit.effects(db, QUEUE, 1)

    assert calls == 3
    assert await wire.depth("kopilka.retries.5s") == 0


async def test_a_race_that_is_lost_every_time_goes_to_a_retry_queue(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    calls = 0

    async def lose(db: database.Database, delivery: inbox.Delivery, command: notes.WriteNote) -> None:
        nonlocal calls
        calls += 1
        async with db.transaction() as tx:
            await tx.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    await wire.send(QUEUE, notes.WriteNote())

    async with rabbit.consuming(declared, db, notes.handled_by(lose)):
        await wire.take("kopilka.retries.5s")

    assert calls == 1 + retries.QUICK_RETRIES
