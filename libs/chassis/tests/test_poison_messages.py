"""Messages of any bytes, headers, times and sizes: each is a dead letter at once, and those beside it are handled."""

import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import notes
import pytest
import rabbit
from aiormq import Channel
from pamqp.commands import Basic

from chassis import amqp_properties, database, dead_letters, operations, publisher

Consume = Callable[[str, database.Database], AbstractAsyncContextManager[Any]]
NEIGHBOURS = 3

CONSUMERS = {
    "message by message": (
        notes.COMMANDS.name,
        notes.WriteNote,
        lambda url, db: rabbit.consuming(url, db, notes.COMMANDS),
    ),
    "in batches": (notes.ECHO.name, notes.NoteWritten, lambda url, db: rabbit.consuming_batches(url, db, notes.ECHO)),
}

# notatallshaw/nab#947, rabbitmq/rabbitmq-website#2207, Particular/NServiceBus.RabbitMQ#1222
HEADERS: dict[str, dict[str, Any]] = {
    "a time before the calendar": {"ce_time": "0001-01-01T00:00:00+01:00"},
    "a time after the calendar": {"ce_time": "9999-12-31T23:59:59-01:00"},
    "no time": {"ce_time": "yesterday"},
    "an id that is none": {"ce_id": "\x00" * 36},
    "a sequence of thousands of digits": {"ce_sequence": "9" * 1_000},
    "a sequence that is a table": {"ce_sequence": {"a": [1, {"b": None}]}},
    "an attempt that is a table": {"kopilka_attempt": {"a": 1}},
    "an attempt that is negative": {"kopilka_attempt": -1},
    "an attempt that is a text": {"kopilka_attempt": "many"},
    "a trace that is an array": {"traceparent": [1, 2]},
    "a tenant of bytes": {"ce_tenant": bytearray(b"\xff\xfe")},
    "another tenant than the body's": {"ce_tenant": "stranger"},
    "a type that nobody handles": {"ce_type": "notes.note.burned.v1"},
    "a name that is a NUL": {"a\x00b": "\x00", "ce_subject": None},
    "no headers at all": dict.fromkeys(
        ("ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_tenant", "ce_partitionkey", "ce_sequence")
    ),
}
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{not json",
    "no UTF-8": b"\xff\xfe",
    "JSON that is no object": b"[]",
    "a number of thousands of digits": b'{"sequence": ' + b"9" * 5_000 + b"}",
    "arrays without end": b"[" * 120_000,
    "a value that is no number": b'{"sequence": NaN}',
    "a lone surrogate": b'{"body": "\\ud800"}',
    "another shape": b'{"note_id": 5}',
}
# Lists of properties as AMQP sends them, which the driver does not decode: its reader would end the connection.
HEADERS_FLAG = 1 << 13
PROPERTIES: dict[str, tuple[int, bytes]] = {
    "a header with a time beyond the calendar": (HEADERS_FLAG, b"\x00\x00\x00\x0b\x01aT" + b"\x7f" * 8),
    "a header whose name is no UTF-8": (HEADERS_FLAG, b"\x00\x00\x00\x04\x01\xfft\x01"),
    "a content type that is no UTF-8": (1 << 15, b"\x01\xff"),
}


class RawProperties(Basic.Properties):
    """Properties that are sent as the bytes they are given as."""

    raw: bytes = b""

    def marshal(self) -> bytes:
        return self.raw


@pytest.fixture(params=CONSUMERS)
def consumer(request: pytest.FixtureRequest) -> tuple[str, type[notes.Note], Consume]:
    chosen: tuple[str, type[notes.Note], Consume] = CONSUMERS[request.param]
    return chosen


async def send_good(wire: rabbit.Wire, queue: str, message: type[notes.Note]) -> None:
    for _ in range(NEIGHBOURS):
        await wire.send(queue, message())


async def test_any_headers_are_a_dead_letter_at_once_and_messages_beside_them_are_handled(
    db: database.Database, declared: str, wire: rabbit.Wire, consumer: tuple[str, type[notes.Note], Consume]
) -> None:
    queue, message, consume = consumer
    sent = []
    for changed in HEADERS.values():
        await wire.send(queue, message())
        sent.append(message())
        await wire.send(queue, sent[-1], **changed)

    async with consume(declared, db):
        letters = await rabbit.dead_lettered(db, len(HEADERS))
        await rabbit.effects(db, queue, len(HEADERS))

    bodies = [(await dead_letters.content(db, letter))[1].decode() for letter in letters]
    assert {letter.reason for letter in letters} == {"unreadable"}
    assert sorted(bodies) == sorted(poison.model_dump_json() for poison in sent)
    assert await wire.depth(f"{queue}.dlq") == 0
    assert await wire.depth("kopilka.retries.5s") == 0


async def test_any_body_is_a_dead_letter_at_once_and_messages_beside_it_are_handled(
    db: database.Database, declared: str, wire: rabbit.Wire, consumer: tuple[str, type[notes.Note], Consume]
) -> None:
    queue, message, consume = consumer
    for body in BODIES.values():
        await wire.send_raw(queue, body, rabbit.headers_of(message()))
        await wire.send(queue, message())

    async with consume(declared, db):
        letters = await rabbit.dead_lettered(db, len(BODIES))
        await rabbit.effects(db, queue, len(BODIES))

    bodies = [(await dead_letters.content(db, letter))[1] for letter in letters]
    assert {letter.reason for letter in letters} == {"unreadable"}
    assert sorted(bodies) == sorted(BODIES.values())


async def test_properties_that_the_driver_can_not_decode_are_a_dead_letter_and_end_no_connection(
    db: database.Database, declared: str, wire: rabbit.Wire, consumer: tuple[str, type[notes.Note], Consume]
) -> None:
    queue, message, consume = consumer
    for flags, raw in PROPERTIES.values():
        await send_properties(wire, queue, flags, raw)
        await wire.send(queue, message())

    async with consume(declared, db):
        letters = await rabbit.dead_lettered(db, len(PROPERTIES))
        await rabbit.effects(db, queue, len(PROPERTIES))

    kept = [(await dead_letters.content(db, letter))[0][amqp_properties.UNDECODABLE] for letter in letters]
    assert sorted(kept) == sorted(raw for _, raw in PROPERTIES.values())


async def send_properties(wire: rabbit.Wire, queue: str, flags: int, raw: bytes) -> None:
    """Put a message with these properties into a queue; they are sent as they are."""
    channel = cast("Channel", await wire.channel.get_underlay_channel())
    properties = RawProperties()
    properties.raw = struct.pack(">H", flags) + raw
    await channel.basic_publish(b"{}", routing_key=queue, properties=properties)


# rebus-org/Rebus.RabbitMq#82
async def test_a_failed_message_whose_headers_are_too_large_to_be_retried_is_a_dead_letter_at_once(
    db: database.Database, declared: str, wire: rabbit.Wire, consumer: tuple[str, type[notes.Note], Consume]
) -> None:
    queue, message, consume = consumer
    await send_good(wire, queue, message)
    await wire.send(queue, message(body=notes.BROKEN), padding="x" * 130_000)
    await send_good(wire, queue, message)

    async with consume(declared, db):
        letters = await rabbit.dead_lettered(db)
        await rabbit.effects(db, queue, 2 * NEIGHBOURS)

    assert [letter.reason for letter in letters] == ["unpublishable"]
    headers, _ = await dead_letters.content(db, letters[0])
    assert len(headers["padding"]) == 130_000


async def test_copies_of_an_unreadable_message_are_one_dead_letter(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    for _ in range(3):
        await wire.send_raw(notes.COMMANDS.name, b"hello", {"a": bytearray(b"\xff")})
    await wire.send_raw(notes.COMMANDS.name, b"hello", {"a": "other"})

    async with rabbit.consuming(declared, db, notes.COMMANDS):
        letters = await rabbit.dead_lettered(db, 2)

        async def is_empty() -> bool:
            return await wire.depth(notes.COMMANDS.name) == 0

        await rabbit.until(is_empty)

    assert len(letters) == 2
    assert len(await dead_letters.find(db)) == 2


# Particular/NServiceBus.RabbitMQ#102
async def test_drain_broker_moves_messages_of_any_kind(
    db: database.Database, operator: None, wire: rabbit.Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = f"{notes.COMMANDS.name}.dlq"
    for flags, raw in PROPERTIES.values():
        await send_properties(wire, queue, flags, raw)
    for changed in HEADERS.values():
        await wire.send(queue, notes.WriteNote(), **changed)
    await wire.send_raw(queue, b"\x00\xff", {"raw": bytearray(b"\x00\xff"), "nested": {"a": [None, 1.5]}})
    count = len(PROPERTIES) + len(HEADERS) + 1

    assert await operations.dead_letter_queue(notes.SERVICE, ["drain-broker"]) == 0
    assert await operations.dead_letter_queue(notes.SERVICE, ["show"]) == 0

    assert await wire.depth(queue) == 0
    assert len(await dead_letters.find(db)) == count
    assert f"notes: {count} open" in capsys.readouterr().out


async def test_a_replayed_message_has_the_bytes_that_were_received(
    db: database.Database, declared: str, wire: rabbit.Wire, sender: publisher.Publisher
) -> None:
    received = {"raw": b"\xff\x00", "nested": {"a": [None, 1]}, "text": "a"}
    await dead_letters.record(
        db, consumer=notes.COMMANDS.name, headers=received, body=b"\xff", reason="unreadable", error=ValueError()
    )

    assert await dead_letters.replay(db, sender, await dead_letters.find(db)) == []

    again = await wire.take(notes.COMMANDS.name)
    assert again.body == b"\xff"
    assert {name: again.headers[name] for name in received} == received


async def test_a_dead_letter_whose_queue_is_gone_stays_open_and_stops_no_other(
    db: database.Database, operator: None, wire: rabbit.Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    for consumer in ("notes.gone", notes.COMMANDS.name):
        command = notes.WriteNote()
        await dead_letters.record(
            db,
            consumer=consumer,
            headers=rabbit.headers_of(command),
            body=command.model_dump_json().encode(),
            reason="unprocessable",
            error=ValueError(),
        )

    assert await operations.dead_letter_queue(notes.SERVICE, ["replay", "--all"]) == 1

    assert [letter.consumer for letter in await dead_letters.find(db)] == ["notes.gone"]
    assert await wire.depth(notes.COMMANDS.name) == 1
    printed = capsys.readouterr()
    assert "notes: 1 replayed" in printed.out
    assert "is still open" in printed.err


async def test_a_broker_that_takes_nothing_is_no_outage_of_the_database() -> None:
    assert not database.is_outage(publisher.Unavailable("ConnectionError"))
    assert not database.is_outage(publisher.Refused("too large"))
