"""The operator's command for messages that no queue took, on a real broker."""

import asyncio
from collections.abc import Awaitable, Callable

import aio_pika
import notes
import pytest
import rabbit

from chassis import topology, unrouted

Kopilka = Callable[..., Awaitable[tuple[int, str, str]]]
WILD = aio_pika.Message(b"\xff\x00\x1b[2J", headers={"ce-id": "\x1b[2J", "n": 5, "deep": {"a": [1, None]}})


@pytest.fixture
def kopilka(monkeypatch: pytest.MonkeyPatch, declared: str, capsys: pytest.CaptureFixture[str]) -> Kopilka:
    """Runs `kopilka unrouted` and gives its exit code and what it prints."""
    monkeypatch.setenv("KOPILKA_AMQP_URL", declared)

    async def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(unrouted.main, arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


async def lose(wire: rabbit.Wire, *, count: int = 1, routing_key: str = notes.WriteNote.TYPE) -> list[str]:
    """Publish commands while nothing is bound to their type; gives their ids."""
    queue = await wire.channel.get_queue(notes.COMMANDS.name, ensure=False)
    await queue.unbind(topology.COMMANDS, routing_key=notes.WriteNote.TYPE)
    exchange = await wire.channel.get_exchange(topology.COMMANDS, ensure=False)
    ids = []
    for _ in range(count):
        command = notes.WriteNote()
        headers = rabbit.headers_of(command)
        message = aio_pika.Message(command.model_dump_json().encode(), headers=headers, type=command.TYPE)
        await exchange.publish(message, routing_key=routing_key)
        ids.append(str(headers["ce-id"]))
    return ids


async def restore(wire: rabbit.Wire) -> None:
    queue = await wire.channel.get_queue(notes.COMMANDS.name, ensure=False)
    await queue.bind(topology.COMMANDS, routing_key=notes.WriteNote.TYPE)


async def test_unrouted_messages_are_listed_in_their_order_as_often_as_one_likes(
    kopilka: Kopilka, wire: rabbit.Wire
) -> None:
    ids = await lose(wire, count=5)

    lists = [await kopilka("list", "--limit", "3") for _ in range(3)]

    code, out, _ = lists[0]
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[:-1]] == ids[:3]
    assert f"kopilka.commands {notes.WriteNote.TYPE}" in out
    assert [each[1] for each in lists] == [out] * 3

    async def are_back() -> bool:
        return await wire.depth(topology.UNROUTED) == 5

    await rabbit.until(are_back)


async def test_replayed_messages_go_where_they_should_have_gone(kopilka: Kopilka, wire: rabbit.Wire) -> None:
    ids = await lose(wire, count=3)
    await lose(wire, routing_key="notes.note.nobody.v1")
    await restore(wire)

    code, out, err = await kopilka("replay", "--type", notes.WriteNote.TYPE)

    assert (code, out, err) == (0, "3 replayed\n", "")
    assert await wire.depth(topology.UNROUTED) == 1
    arrived = await wire.take_all(notes.COMMANDS.name)
    assert [message.headers["ce-id"] for message in arrived] == ids


async def test_replayed_messages_that_still_no_queue_takes_are_told_and_kept(
    kopilka: Kopilka, wire: rabbit.Wire
) -> None:
    await lose(wire, count=3)

    code, _, err = await kopilka("replay", "--all")

    assert code == 1
    assert err.startswith("3 of them came back")
    assert await wire.depth(topology.UNROUTED) == 3


async def test_one_message_is_shown_and_discarded_by_its_id(kopilka: Kopilka, wire: rabbit.Wire) -> None:
    ids = await lose(wire, count=3)

    _, shown, _ = await kopilka("show", "--id", ids[1])
    code, discarded, _ = await kopilka("discard", "--id", ids[1])

    assert shown.count("ce-id") == 1
    assert ids[1] in shown
    assert "note_id" in shown
    assert (code, discarded) == (0, "1 discarded\n")
    _, left, _ = await kopilka("list")
    assert [line.split()[1] for line in left.splitlines()[:-1]] == [ids[0], ids[2]]


@pytest.mark.parametrize("action", ["list", "show"])
async def test_a_message_of_any_bytes_is_shown_and_does_not_drive_the_terminal(
    kopilka: Kopilka, wire: rabbit.Wire, action: str
) -> None:
    exchange = await wire.channel.get_exchange(topology.EVENTS, ensure=False)
    await exchange.publish(WILD, routing_key="\x1b[2J")
    await lose(wire)

    code, out, _ = await kopilka(action)

    assert code == 0
    assert out.endswith("2 shown\n")
    assert "\x1b" not in out


async def test_a_message_that_can_not_be_published_stays_and_the_others_go(kopilka: Kopilka, wire: rabbit.Wire) -> None:
    exchange = await wire.channel.get_exchange(topology.COMMANDS, ensure=False)
    huge = aio_pika.Message(b"{}", headers={"ce-id": "huge", "long": "x" * 40_000})
    await exchange.publish(huge, routing_key="notes.note.nobody.v1")
    await lose(wire, count=2)
    await restore(wire)

    code, out, err = await kopilka("replay", "--all")

    assert (code, out) == (1, "2 replayed\n")
    assert err.startswith("huge stays: Refused")
    assert await wire.depth(topology.UNROUTED) == 1
    assert await wire.depth(notes.COMMANDS.name) == 2


@pytest.mark.parametrize("action", ["replay", "discard"])
async def test_nothing_is_removed_without_a_filter(kopilka: Kopilka, wire: rabbit.Wire, action: str) -> None:
    await lose(wire)

    code, _, err = await kopilka(action)

    assert code == 2
    assert "--all" in err
    assert await wire.depth(topology.UNROUTED) == 1


async def test_a_broker_that_can_not_be_reached_is_told_in_one_line(
    kopilka: Kopilka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://app:hunter2@127.0.0.1:1/")

    code, _, err = await kopilka("list")

    assert code == 1
    assert len(err.splitlines()) == 1
    assert "hunter2" not in err


async def test_the_queue_of_an_earlier_version_is_kept_as_it_is(amqp_url: str) -> None:
    async with rabbit.Wire.connected(amqp_url) as wire:
        await wire.channel.declare_queue(topology.UNROUTED, durable=True, arguments={"x-queue-type": "quorum"})

    await topology.apply(amqp_url, notes.SERVICE.bindings)

    async with rabbit.Wire.connected(amqp_url) as wire:
        assert await wire.depth(topology.UNROUTED) == 0
