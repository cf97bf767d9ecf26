"""Dead letters: the record, and the operator's commands on it."""

import json
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import notes
import pytest
import rabbit

from chassis import database, dead_letters, operations, publisher, settings, telemetry

QUEUE = notes.COMMANDS.name


async def record(db: database.Database, message: notes.Note, **changed: object) -> UUID | None:
    """Make a dead letter; gives its id."""
    headers = rabbit.headers_of(message, **changed)
    await dead_letters.record(
        db,
        consumer=QUEUE,
        headers={**headers, "x-death": [{"count": 3}]},
        body=message.model_dump_json().encode(),
        reason="unprocessable",
        error=RuntimeError("never"),
    )
    return UUID(headers["ce-id"]) if "ce-id" in headers else None


async def dlq(*arguments: str) -> int:
    return await operations.dead_letter_queue(notes.SERVICE, arguments)


async def test_a_resolved_dead_letter_that_fails_again_is_open_again_and_counted_once(db: database.Database) -> None:
    command = notes.WriteNote()
    event_id = await record(db, command)
    await dead_letters.discard(db, await dead_letters.find(db))

    await record(db, command, ce_id=str(event_id))

    assert [letter.event_id for letter in await dead_letters.find(db)] == [event_id]


async def test_a_message_that_postgres_can_not_hold_is_stored_with_replacements(db: database.Database) -> None:
    await dead_letters.record(
        db,
        consumer=QUEUE,
        headers={"ce-type": "a\0b", "number": float("nan"), "raw": b"\xff", "nested": {"a": [None]}},
        body=b"\0",
        reason="unreadable",
        error=ValueError("with a \0"),
    )

    letter = (await dead_letters.find(db))[0]
    headers, body = await dead_letters.content(db, letter)
    assert letter.event_type == "a\N{REPLACEMENT CHARACTER}b"
    assert str(headers["number"]) == "nan"
    assert body == b"\0"


async def test_the_gauge_counts_open_letters(db: database.Database) -> None:
    await record(db, notes.WriteNote())
    await record(db, notes.WriteNote())

    await dead_letters.measure(db)

    assert telemetry.DEAD_LETTERS_OPEN.labels("notes")._value.get() == 2


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_list_prints_each_open_dead_letter_and_show_its_content(
    db: database.Database, capsys: pytest.CaptureFixture[str]
) -> None:
    command = notes.WriteNote(body="read me")
    event_id = await record(db, command)
    capsys.readouterr()

    assert await dlq("list") == 0
    listed = capsys.readouterr().out
    assert await dlq("show", "--id", str(event_id)) == 0
    shown = capsys.readouterr().out

    assert f"{QUEUE} {notes.WriteNote.TYPE} {event_id} unprocessable after 0: RuntimeError: never" in listed
    assert listed.endswith("notes: 1 open\n")
    assert "read me" not in listed
    assert '"ce-partitionkey"' in shown
    assert "read me" in shown


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("only", "count"),
    [
        ((), 3),
        (("--type", notes.WriteNote.TYPE), 2),
        (("--key", "key-1"), 1),
    ],
)
async def test_letters_are_chosen_by_type_and_key(
    db: database.Database, capsys: pytest.CaptureFixture[str], only: Sequence[str], count: int
) -> None:
    await record(db, notes.WriteNote(key="key-1"))
    await record(db, notes.WriteNote(key="key-2"))
    await record(db, notes.NoteWritten(key="key-2"))

    await dlq("list", *only)

    assert capsys.readouterr().out.endswith(f"notes: {count} open\n")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("action", ["list", "replay", "discard"])
async def test_a_filter_that_matches_nothing_is_said(
    db: database.Database, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    await record(db, notes.WriteNote(key="key-1"))

    assert await dlq(action, "--key", "key-2") == operations.EXIT_NOTHING

    assert capsys.readouterr().err == "notes: nothing matches\n"
    assert len(await dead_letters.find(db)) == 1


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_replayed_letter_is_handled_under_its_own_id_and_is_resolved(
    db: database.Database, declared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event_id = await record(db, notes.WriteNote(), kopilka_attempt=4)

    assert await dlq("replay", "--all") == 0
    async with rabbit.Wire.connected(declared) as wire:
        sent = await wire.take(QUEUE)

    assert "notes: 1 replayed" in capsys.readouterr().out
    assert sent.headers["ce-id"] == sent.message_id == str(event_id)
    assert sent.headers["kopilka-replay"] == "1"
    assert "kopilka-attempt" not in sent.headers
    assert not [name for name in sent.headers if name.startswith("x-death")]
    assert await dead_letters.find(db) == []


@pytest.mark.rule("OP9")
async def test_a_letter_replayed_twice_has_one_effect(
    db: database.Database, declared: str, sender: publisher.Publisher
) -> None:
    await record(db, notes.WriteNote())
    letters = await dead_letters.find(db)

    await dead_letters.replay(db, sender, letters)
    await dead_letters.replay(db, sender, letters)
    async with rabbit.consuming(declared, db, notes.COMMANDS), rabbit.Wire.connected(declared) as wire:
        await wire.send(QUEUE, notes.WriteNote())

        async def is_done() -> bool:
            return await notes.count(db) == 2 and await wire.depth(QUEUE) == 0

        await rabbit.until(is_done)

    assert await notes.count(db) == 2


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_dead_letter_without_a_readable_envelope_can_be_replayed_and_fails_again(
    db: database.Database, declared: str
) -> None:
    await record(db, notes.WriteNote(), ce_id=None, ce_time=None, ce_correlationid=None)
    first = await dead_letters.find(db)

    assert await dlq("replay", "--all") == 0
    async with rabbit.consuming(declared, db, notes.COMMANDS):

        async def has_failed_again() -> bool:
            return len(await dead_letters.find(db)) == 1

        await rabbit.until(has_failed_again)

    second = await dead_letters.find(db)
    assert second[0].reason == "unreadable"
    assert second[0].event_id != first[0].event_id


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_a_discarded_letter_is_gone_from_the_list_and_not_sent(
    db: database.Database, declared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = await record(db, notes.WriteNote(key="key-1"))
    await record(db, notes.WriteNote(key="key-2"))

    assert await dlq("discard", "--key", "key-2") == 0

    assert "notes: 1 discarded" in capsys.readouterr().out
    assert [letter.event_id for letter in await dead_letters.find(db)] == [kept]
    async with rabbit.Wire.connected(declared) as wire:
        assert await wire.depth(QUEUE) == 0


@pytest.mark.rule("OP9")
@pytest.mark.usefixtures("operator")
async def test_drain_broker_moves_messages_of_the_dlq_queues_into_the_table(
    db: database.Database, declared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rabbit.Wire.connected(declared) as wire:
        sent = await wire.send(f"{QUEUE}.dlq", notes.WriteNote(body="kept"))
        await wire.send_raw(f"{notes.ECHO.name}.dlq", b"\xff", {})

        assert await dlq("drain-broker") == 0
        left = [await wire.depth(f"{queue}.dlq") for queue in (QUEUE, notes.ECHO.name)]

    letters = {letter.consumer: letter for letter in await dead_letters.find(db)}
    assert "notes: 2 moved into the table" in capsys.readouterr().out
    assert left == [0, 0]
    assert {letter.reason for letter in letters.values()} == {"rejected"}
    assert str(letters[QUEUE].event_id) == sent["ce-id"]
    assert json.loads((await dead_letters.content(db, letters[QUEUE]))[1])["body"] == "kept"


@pytest.mark.rule("OP11")
@pytest.mark.usefixtures("operator")
async def test_migrate_and_topology_can_be_repeated() -> None:
    codes = [
        await operations.migrate_schema(notes.SERVICE, []),
        await operations.migrate_schema(notes.SERVICE, []),
        await operations.declare_topology(notes.SERVICE, []),
        await operations.declare_topology(notes.SERVICE, []),
    ]

    assert codes == [0, 0, 0, 0]


@pytest.mark.usefixtures("operator")
async def test_migrate_without_the_management_api_does_not_create_a_broker_user_and_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTES_AMQP_URL", "amqp://somebody-else:secret@127.0.0.1/")
    monkeypatch.delenv("KOPILKA_RABBITMQ_API_URL")

    code = await operations.migrate_schema(notes.SERVICE, [])

    assert code == settings.EXIT_CONFIG
    assert "KOPILKA_RABBITMQ_API_URL" in capsys.readouterr().err


@pytest.mark.usefixtures("operator")
async def test_replay_as_a_service_names_the_setting_that_an_operator_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], declared: str
) -> None:
    monkeypatch.setenv("NOTES_AMQP_URL", declared)
    monkeypatch.delenv("KOPILKA_AMQP_URL")

    code = await operations.dead_letter_queue(notes.SERVICE, ["replay", "--all"])

    assert code == settings.EXIT_CONFIG
    assert "KOPILKA_AMQP_URL" in capsys.readouterr().err


@pytest.mark.usefixtures("operator")
async def test_migrate_without_an_administrator_names_the_missing_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KOPILKA_DATABASE_URL")

    code = await operations.migrate_schema(notes.SERVICE, [])

    assert code == settings.EXIT_CONFIG
    assert "KOPILKA_DATABASE_URL" in capsys.readouterr().err


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("command", [operations.declare_topology, operations.migrate_schema])
async def test_a_queue_with_other_arguments_is_reported_in_one_line(
    declared: str, capsys: pytest.CaptureFixture[str], command: Callable[..., Awaitable[int]]
) -> None:
    async with rabbit.Wire.connected(declared) as wire:
        await wire.channel.queue_delete(QUEUE)
        await wire.channel.declare_queue(QUEUE, durable=True)

    code = await command(notes.SERVICE, [])

    assert code == 1
    assert f"for queue '{QUEUE}'" in capsys.readouterr().err


def test_an_error_is_described_by_its_places_and_not_by_its_values() -> None:
    with pytest.raises(ValueError, match="note_id") as failure:
        notes.WriteNote.model_validate({"note_id": "+79991234567"})

    assert dead_letters.describe(failure.value) == "ValidationError: note_id: uuid_parsing"
