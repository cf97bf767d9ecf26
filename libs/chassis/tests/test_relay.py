"""The relay on a real database and a real broker, with crashes and broken wires where they hurt."""

import asyncio
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import notes
import outages
import pytest
import rabbit

from chassis import database, dead_letters, outbox, publisher, relay, telemetry, testing, topology

Proxied = Callable[[str], Awaitable[outages.Proxy]]


async def publish(db: database.Database, *messages: notes.Note) -> None:
    async with db.transaction() as tx:
        await outbox.put(tx, messages)


async def waiting(db: database.Database) -> int:
    return len(await testing.outbox_messages(db))


async def is_empty(db: database.Database) -> bool:
    return await waiting(db) == 0


async def statement(db: database.Database, sql: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(sql)


def many(count: int, *, keys: int) -> list[notes.NoteWritten]:
    return [notes.NoteWritten(key=f"key-{number % keys}", sequence=number) for number in range(count)]


def orders_of(bodies: Sequence[bytes]) -> dict[str, list[int]]:
    orders = defaultdict(list)
    for body in bodies:
        note = json.loads(body)
        orders[note["key"]].append(note["sequence"])
    return orders


async def test_an_event_that_no_service_consumes_is_published_and_not_kept_as_unrouted(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    listener = await wire.channel.declare_queue(exclusive=True)
    await publish(db, notes.NoteCounted())
    await relay.Relay(db, sender).relay_once()
    await listener.bind(topology.UNCONSUMED, routing_key="notes.#")
    await publish(db, notes.NoteCounted(body="heard"))

    await relay.Relay(db, sender).relay_once()

    heard = await listener.get()
    assert json.loads(heard.body)["body"] == "heard"
    assert await waiting(db) == 0
    assert await wire.depth(topology.UNROUTED) == 0


async def test_rows_that_a_broker_with_an_alarm_does_not_take_are_sent_when_it_does_and_at_most_twice(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT_S", 0.3)
    proxy = await proxied(declared)

    async with rabbit.relaying(proxy.url, db):
        await publish(db, notes.NoteWritten())
        await rabbit.until(partial(is_empty, db))
        proxy.block()
        await publish(db, *many(30, keys=3))
        await asyncio.sleep(1)  # more than three times what a confirm may take
        held_back = await waiting(db)
        proxy.unblock()
        await rabbit.until(partial(is_empty, db))

    sent = Counter(message.message_id for message in await wire.take_all(notes.ECHO.name))
    assert held_back == 30
    assert len(sent) == 31
    assert max(sent.values()) <= 2


async def test_a_confirmed_row_is_deleted(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await publish(db, *many(30, keys=3))

    moved = await relay.Relay(db, sender).relay_once()

    sent = await wire.take_all(notes.ECHO.name)
    assert moved == 30
    assert await waiting(db) == 0
    assert {message.delivery_mode for message in sent} == {2}
    assert [message.message_id for message in sent] == [message.headers["ce-id"] for message in sent]
    assert all(order == sorted(order) for order in orders_of([message.body for message in sent]).values())


async def test_a_row_committed_before_a_crash_is_sent_by_the_next_relay(
    db: database.Database, processes: testing.Processes, wire: rabbit.Wire
) -> None:
    process, _ = await asyncio.to_thread(processes.ready, "notes", "api", KOPILKA_FAILPOINT="relay.before_publish:1")
    await publish(db, notes.NoteWritten())
    code = await asyncio.to_thread(process.wait, 30)

    waited = await waiting(db)
    await asyncio.to_thread(processes.ready, "notes", "api")
    await rabbit.until(lambda: is_empty(db))

    assert code == -signal.SIGKILL
    assert waited == 1
    assert len(await wire.take_all(notes.ECHO.name)) == 1


@pytest.mark.parametrize("point", ["relay.after_publish", "relay.before_commit"])
async def test_a_crash_between_confirm_and_commit_sends_the_same_message_twice(
    db: database.Database, processes: testing.Processes, declared: str, wire: rabbit.Wire, point: str
) -> None:
    process, _ = await asyncio.to_thread(processes.ready, "notes", "api", KOPILKA_FAILPOINT=f"{point}:1")
    await publish(db, notes.NoteWritten())
    await asyncio.to_thread(process.wait, 30)

    await asyncio.to_thread(processes.ready, "notes", "api")
    await rabbit.until(lambda: is_empty(db))

    copies = await wire.take_all(notes.ECHO.name)
    assert len(copies) == 2
    assert len({message.message_id for message in copies}) == 1
    for message in copies:
        await wire.send_raw(notes.ECHO.name, message.body, dict(message.headers))
    async with rabbit.consuming_batches(declared, db, notes.ECHO):
        await rabbit.until(lambda: is_heard(db, 1))
    assert await wire.depth(notes.ECHO.name) == 0
    assert await notes.count(db, notes.ECHO.name) == 1


async def is_heard(db: database.Database, count: int) -> bool:
    return await notes.count(db, notes.ECHO.name) >= count


async def test_a_socket_lost_with_rows_in_flight_loses_no_row_and_no_order(
    db: database.Database, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    sender = publisher.Publisher(proxy.url)
    await sender.open()
    running_relay = relay.Relay(db, sender)
    await publish(db, *many(30, keys=3))
    proxy.silence()
    attempt = asyncio.create_task(running_relay.relay_once())
    await rabbit.until(lambda: has_arrived(wire, 30))

    proxy.cut()
    moved = await attempt
    waited = await waiting(db)
    proxy.speak()
    async with rabbit.relaying(declared, db):
        await rabbit.until(lambda: is_empty(db))

    sent = await wire.take_all(notes.ECHO.name)
    await sender.close()
    assert (moved, waited) == (0, 30)
    assert set(Counter(message.message_id for message in sent).values()) == {2}
    assert {key: order[10:] for key, order in orders_of([message.body for message in sent]).items()} == {
        key: list(range(int(key[-1]), 30, 3)) for key in ("key-0", "key-1", "key-2")
    }


async def has_arrived(wire: rabbit.Wire, count: int) -> bool:
    return await wire.depth(notes.ECHO.name) == count


async def test_a_broker_that_confirms_nothing_in_time_keeps_every_row(
    db: database.Database, declared: str, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT_S", 0.5)
    proxy = await proxied(declared)
    sender = publisher.Publisher(proxy.url)
    await sender.open()
    await publish(db, *many(10, keys=10))
    proxy.silence()

    moved = await relay.Relay(db, sender).relay_once()

    async with db.transaction() as tx:
        attempts = await tx.fetchval("SELECT max(attempts) FROM outbox")
    await proxy.take_away()
    await sender.close()
    assert (moved, await waiting(db), attempts) == (0, 10, 0)


async def test_an_event_without_a_bound_queue_waits_in_unrouted(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await publish(db, notes.NoteUnrouted())

    await relay.Relay(db, sender).relay_once()

    assert await waiting(db) == 0
    assert (await wire.take(topology.UNROUTED)).headers["ce-type"] == notes.NoteUnrouted.TYPE


async def test_an_unroutable_row_stays(db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire) -> None:
    await wire.channel.declare_exchange("test.bare", "topic")
    await publish(db, notes.NoteWritten())
    await statement(db, "UPDATE outbox SET exchange = 'test.bare'")

    moved = await relay.Relay(db, sender).relay_once()

    async with db.transaction() as tx:
        row = await tx.fetchrow("SELECT attempts, last_error FROM outbox")
    assert moved == 0
    assert row is not None
    assert row["attempts"] == 1
    assert "PublishError" in row["last_error"]


async def test_two_relays_send_each_row_once_and_keep_the_order_of_keys(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    unconfirmed = telemetry.OUTBOX_PUBLISHED.labels(db.schema, "timeout")._value.get
    before = unconfirmed()
    async with rabbit.relaying(declared, db), rabbit.relaying(declared, db):
        for first in range(0, 2_000, 100):
            await publish(db, *(notes.NoteWritten(key=f"key-{n % 20}", sequence=n) for n in range(first, first + 100)))
        await rabbit.until(lambda: is_empty(db))

    sent = await wire.take_all(notes.ECHO.name)
    assert len({message.message_id for message in sent}) == 2_000
    # What a busy machine confirms too late is published again.
    assert len(sent) - 2_000 <= unconfirmed() - before
    first_of_each: dict[str | None, bytes] = {}
    for message in sent:
        first_of_each.setdefault(message.message_id, message.body)
    assert all(order == sorted(order) for order in orders_of([*first_of_each.values()]).values())


@pytest.mark.parametrize("harm", ["returned", "refused", "unencodable"])
async def test_a_row_that_cannot_be_published_becomes_a_dead_letter_and_holds_up_nobody(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire, harm: str
) -> None:
    """Goal: the row becomes a dead letter after its tries, and the rows of other keys flow from the first try on.

    Method: the pause between tries is taken away by unblocking the slots, so that ten tries take no time.
    """
    bad = notes.NoteWritten(key="bad")
    await publish(db, bad, *many(20, keys=20), notes.NoteWritten(key="bad", sequence=99))
    await spoil(db, wire, harm)
    running_relay = relay.Relay(db, sender)

    await running_relay.relay_once()
    others_sent_at_once = 22 - await waiting(db)
    for _ in range(3 * relay.ATTEMPTS_MAX):
        await statement(db, "UPDATE outbox_slot SET blocked_until = '-infinity'")
        await running_relay.relay_once()

    async with db.transaction() as tx:
        dead = await tx.fetch("SELECT partition_key, attempts, consumer, reason FROM dead_letter")
    assert others_sent_at_once > 0
    assert [tuple(row) for row in dead] == [("bad", relay.ATTEMPTS_MAX, dead_letters.OUTGOING, "unpublishable")]
    assert await waiting(db) == 0
    # The row behind it was in flight with its first try; from then on it waited.
    assert orders_of([message.body for message in await wire.take_all(notes.ECHO.name)])["bad"] == [99, 99]


async def spoil(db: database.Database, wire: rabbit.Wire, harm: str) -> None:
    """Make the first row of the key `bad` one that can't be published, each time in another way."""
    first = "WHERE id = (SELECT min(id) FROM outbox WHERE partition_key = 'bad')"
    if harm == "unencodable":
        await statement(db, f"UPDATE outbox SET event_type = repeat('x', 300) {first}")
        return
    await wire.channel.declare_exchange("test.bare", "topic")
    await statement(db, f"UPDATE outbox SET exchange = 'test.bare' {first}")
    if harm == "refused":
        full = await wire.channel.declare_queue(
            "test.full",
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
        )
        await full.bind("test.bare", routing_key="#")
        for _ in range(3):  # a quorum queue lets a few in before it knows that it is full
            await wire.fill("test.full")


async def test_a_later_row_of_a_failed_key_is_not_sent_before_it(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await wire.channel.declare_exchange("test.bare", "topic")
    await publish(db, *(notes.NoteWritten(key="key-1", sequence=number) for number in range(5)))
    await statement(db, "UPDATE outbox SET exchange = 'test.bare' WHERE id = (SELECT min(id) + 1 FROM outbox)")
    running_relay = relay.Relay(db, sender)

    await running_relay.relay_once()
    left = [body["sequence"] for _, body in await testing.outbox_messages(db)]
    await statement(db, "UPDATE outbox SET exchange = 'kopilka.events'")
    for _ in range(2):
        await statement(db, "UPDATE outbox_slot SET blocked_until = '-infinity'")
        await running_relay.relay_once()

    sent = orders_of([message.body for message in await wire.take_all(notes.ECHO.name)])["key-1"]
    assert left == [1, 2, 3, 4]
    assert sent[-4:] == [1, 2, 3, 4]


async def test_a_slot_that_failed_is_blocked_while_others_go_on(
    db: database.Database, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await wire.channel.declare_exchange("test.bare", "topic")
    await publish(db, notes.NoteWritten(key="bad"))
    await statement(db, "UPDATE outbox SET exchange = 'test.bare'")
    running_relay = relay.Relay(db, sender)
    await running_relay.relay_once()

    other = next(f"key-{n}" for n in range(100) if outbox.slot_of(f"key-{n}") != outbox.slot_of("bad"))
    await publish(db, notes.NoteWritten(key="bad"), notes.NoteWritten(key=other))
    moved = await running_relay.relay_once()

    assert moved == 1
    assert await waiting(db) == 2


async def test_a_relay_survives_an_outage_of_broker_and_database(
    db: database.Database, database_url: str, declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    broker, postgres = await proxied(declared), await proxied(database_url)
    near = database.Database(postgres.url, schema="notes", pool_size=4)
    async with rabbit.relaying(broker.url, near):
        await publish(db, notes.NoteWritten(sequence=1))
        await rabbit.until(lambda: is_empty(db))
        await broker.take_away()
        await postgres.take_away()
        await publish(db, notes.NoteWritten(sequence=2))
        await postgres.restore()
        await publish(db, notes.NoteWritten(sequence=3))

        await broker.restore()
        await rabbit.until(lambda: is_empty(db))

    await near.close()
    assert {json.loads(m.body)["sequence"] for m in await wire.take_all(notes.ECHO.name)} == {1, 2, 3}


async def test_a_stopped_relay_publishes_the_outbox_first(
    db: database.Database, declared: str, wire: rabbit.Wire
) -> None:
    await publish(db, *many(1_200, keys=40))

    async with rabbit.relaying(declared, db) as running_relay:
        running_relay.stop()

    assert await waiting(db) == 0
    assert len(await wire.take_all(notes.ECHO.name)) == 1_200


async def test_the_gauges_have_the_number_and_the_age_of_waiting_rows(db: database.Database) -> None:
    await publish(db, *many(7, keys=7))

    await relay.measure(db)

    assert telemetry.OUTBOX_PENDING.labels("notes")._value.get() == 7
    assert telemetry.OUTBOX_AGE.labels("notes")._value.get() > 0
