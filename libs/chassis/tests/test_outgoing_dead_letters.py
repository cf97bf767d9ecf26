"""Messages that the broker refuses: from the outbox to the dead letters, and from there back or away."""

import json

import notes
import pytest
import rabbit

from chassis import database, dead_letters, envelope, operations, outbox, publisher, relay, telemetry, topology

BARE = "test.bare"


async def dlq(*arguments: str) -> int:
    return await operations.dead_letter_queue(notes.SERVICE, arguments)


async def publish(db: database.Database, *messages: notes.Note, exchange: str | None = None) -> None:
    """Put messages into the outbox, for another exchange where one is named."""
    async with db.transaction() as tx:
        ids = await outbox.put(tx, messages)
        if exchange is not None:
            await tx.execute("UPDATE outbox SET exchange = $2 WHERE event_id = ANY($1::uuid[])", ids, exchange)


async def relay_until_given_up(db: database.Database, sender: publisher.Publisher) -> None:
    """Relay as often as a row is tried, without the pauses between."""
    for _ in range(2 * relay.ATTEMPTS_MAX):
        async with db.transaction() as tx:
            await tx.execute("UPDATE outbox_slot SET blocked_until = '-infinity'")
        await relay.Relay(db, sender).relay_once()


async def waiting(db: database.Database) -> list[int]:
    """Give the sequences of the messages in the outbox, in the order in which they are sent."""
    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox ORDER BY id")
    return [json.loads(row["payload"])["sequence"] for row in rows]


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_broker_that_refuses_messages_loses_none_of_them(
    db: database.Database,
    declared: str,
    sender: publisher.Publisher,
    wire: rabbit.Wire,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Goal: a refused message is kept, seen and sent once the broker takes it; other keys flow meanwhile.

    Method: the exchange has no queue for the message and no alternate exchange; later a queue is bound.
    """
    await wire.channel.exchange_delete(topology.UNROUTED)
    refused = notes.NoteUnrouted(key="bad", body="kept")
    await publish(db, refused, *(notes.NoteWritten(key=f"key-{n}") for n in range(20)))

    await relay_until_given_up(db, sender)

    assert len(await wire.take_all(notes.ECHO.name)) == 20
    assert await waiting(db) == []
    capsys.readouterr()
    assert await dlq("list") == 0
    listed = capsys.readouterr().out
    assert f" outbox {notes.NoteUnrouted.TYPE} " in listed
    assert " unpublishable after 10: PublishError: " in listed
    assert await dlq("show", "--key", "bad") == 0
    assert '"body":"kept"' in capsys.readouterr().out

    late = await wire.channel.declare_queue("test.late", durable=True, arguments={"x-queue-type": "quorum"})
    await late.bind(topology.EVENTS, routing_key=notes.NoteUnrouted.TYPE)
    letter = (await dead_letters.find(db))[0]
    assert await dlq("replay", "--all") == 0
    async with rabbit.relaying(declared, db):
        sent = await wire.take("test.late")

    assert sent.headers["ce-id"] == sent.message_id == str(letter.event_id)
    assert json.loads(sent.body) == json.loads(refused.model_dump_json())
    assert await dead_letters.find(db) == []
    assert await waiting(db) == []


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_messages_that_return_to_the_outbox_are_sent_before_later_ones_of_their_key(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await wire.channel.declare_exchange(BARE, "topic")
    await publish(db, *(notes.NoteWritten(key="key-1", sequence=number) for number in (1, 2)), exchange=BARE)
    await relay_until_given_up(db, sender)
    await relay_until_given_up(db, sender)
    await publish(db, notes.NoteWritten(key="key-1", sequence=3))

    assert await dlq("replay", "--all") == 0

    assert await waiting(db) == [1, 2, 3]


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_message_that_is_refused_again_is_an_open_dead_letter_again(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await wire.channel.declare_exchange(BARE, "topic")
    await publish(db, notes.NoteWritten(), exchange=BARE)
    await relay_until_given_up(db, sender)
    before = await dead_letters.find(db)

    assert await dlq("replay", "--all") == 0
    between = await dead_letters.find(db)
    await relay_until_given_up(db, sender)

    after = await dead_letters.find(db)
    assert between == []
    assert [letter.event_id for letter in after] == [letter.event_id for letter in before]
    assert await waiting(db) == []


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_discarded_outgoing_message_does_not_return(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    await wire.channel.declare_exchange(BARE, "topic")
    await publish(db, notes.NoteWritten(), exchange=BARE)
    await relay_until_given_up(db, sender)
    letters = await dead_letters.find(db)

    assert await dlq("discard", "--all") == 0
    await dead_letters.replay(db, sender, letters)

    assert "notes: 1 discarded" in capsys.readouterr().out
    assert await dead_letters.find(db) == []
    assert await waiting(db) == []


async def test_outgoing_dead_letters_are_counted_with_the_others(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    counter = telemetry.DEAD_LETTERS.labels(dead_letters.OUTGOING, "unpublishable")
    before = counter._value.get()
    await wire.channel.declare_exchange(BARE, "topic")
    await publish(db, notes.NoteWritten(key="key-1"), notes.NoteWritten(key="key-2"), exchange=BARE)

    await relay_until_given_up(db, sender)
    await dead_letters.measure(db)

    assert counter._value.get() - before == 2
    assert telemetry.DEAD_LETTERS_OPEN.labels("notes")._value.get() == 2


async def test_a_header_that_postgres_cannot_hold_as_json_does_not_keep_a_row_in_the_outbox(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await wire.channel.declare_exchange(BARE, "topic")
    with envelope.caused_by(envelope.Cause("with a \0 and a \\u0000")):
        await publish(db, notes.NoteWritten(), exchange=BARE)

    await relay_until_given_up(db, sender)

    headers, _ = await dead_letters.content(db, (await dead_letters.find(db))[0])
    assert headers["ce-correlationid"] == "with a \N{REPLACEMENT CHARACTER} and a \\u0000"


@pytest.mark.rule("OP11")
async def test_a_row_that_the_version_before_gives_up_becomes_a_dead_letter_too(db: database.Database) -> None:
    """Goal: during a rollout nothing is where no command sees it. Method: the statement of the version before."""
    message = notes.NoteWritten(key="key-1")
    await publish(db, message)
    async with db.transaction() as tx:
        before = await tx.fetchrow("SELECT id, event_id, exchange FROM outbox")
        await tx.execute("UPDATE outbox SET attempts = 10, last_error = 'PublishError: returned'")
        await tx.execute("WITH buried AS (DELETE FROM outbox RETURNING *) INSERT INTO outbox_dead SELECT * FROM buried")

    letters = await dead_letters.find(db)
    await dead_letters.replay(db, publisher.Publisher("amqp://unused"), letters)

    assert [(letter.consumer, letter.reason, letter.attempts) for letter in letters] == [
        (dead_letters.OUTGOING, "unpublishable", 10)
    ]
    async with db.transaction() as tx:
        assert await tx.fetchrow("SELECT id, event_id, exchange FROM outbox") == before
        assert await tx.fetchval("SELECT count(*) FROM outbox_dead") == 0
