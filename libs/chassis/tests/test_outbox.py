import json

import notes
import pytest

from chassis import database, envelope, outbox, testing


async def test_a_message_of_a_transaction_waits_in_the_outbox(db: database.Database) -> None:
    message = notes.NoteWritten(key="key-1", sequence=4)

    with envelope.caused_by(envelope.Cause("correlation-1", "cause-1", "00-trace")):
        async with db.transaction() as tx:
            ids = await outbox.put(tx, [message])

    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT * FROM outbox")
    headers = json.loads(rows[0]["headers"])
    assert [row["event_id"] for row in rows] == ids
    assert rows[0]["exchange"] == "kopilka.events"
    assert rows[0]["slot"] == outbox.slot_of("key-1")
    assert json.loads(rows[0]["payload"]) == json.loads(message.model_dump_json())
    assert (headers["ce-source"], headers["ce-sequence"]) == ("/kopilka/notes", "4")
    assert (headers["ce-correlationid"], headers["ce-causationid"]) == ("correlation-1", "cause-1")
    assert headers["traceparent"] == "00-trace"


async def test_a_message_of_a_transaction_that_rolls_back_is_not_published(db: database.Database) -> None:
    async def fail() -> None:
        async with db.transaction() as tx:
            await outbox.put(tx, [notes.NoteWritten()])
            raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await fail()

    assert await testing.outbox_messages(db) == []
    assert not db.outbox_filled.is_set()


async def test_messages_of_one_key_keep_their_order(db: database.Database) -> None:
    async with db.transaction() as tx:
        await outbox.put(tx, [notes.NoteWritten(key="key-1", sequence=number) for number in range(50)])

    assert [body["sequence"] for _, body in await testing.outbox_messages(db)] == list(range(50))


async def test_each_message_of_a_batch_can_have_its_own_cause(db: database.Database) -> None:
    async with db.transaction() as tx:
        await outbox.put(
            tx,
            [notes.NoteWritten(), notes.NoteWritten()],
            causes=[envelope.Cause("correlation-1"), envelope.Cause("correlation-2")],
        )

    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT headers::jsonb AS headers FROM outbox ORDER BY id")
    assert [row["headers"]["ce-correlationid"] for row in rows] == ["correlation-1", "correlation-2"]


async def test_a_commit_that_filled_the_outbox_wakes_the_relay(db: database.Database) -> None:
    async with db.transaction() as tx:
        await outbox.put(tx, [notes.NoteWritten()])
        was_set_before_the_commit = db.outbox_filled.is_set()

    assert not was_set_before_the_commit
    assert db.outbox_filled.is_set()


async def test_publishing_nothing_changes_nothing(db: database.Database) -> None:
    async with db.transaction() as tx:
        ids = await outbox.put(tx, [])

    assert ids == []
    assert not db.outbox_filled.is_set()


def test_slots_are_between_zero_and_the_last() -> None:
    slots = {outbox.slot_of(f"key-{number}") for number in range(1_000)}

    assert slots == set(range(outbox.SLOTS))
