"""What is noticed of lost bindings and unrouted messages, on a real broker with its management API."""

from collections.abc import Callable

import aio_pika
import notes
import pytest
import rabbit
import structlog

from chassis import management_api, publisher, routing, telemetry, testing, topology

COMMAND = topology.Route(topology.COMMANDS, notes.WriteNote.TYPE, notes.COMMANDS.name)
Look = Callable[..., routing.RoutingCheck]


@pytest.fixture
def check_of(servers: testing.Servers, declared: str, sender: publisher.Publisher) -> Look:
    """Gives the check that a process of the notes service makes."""

    def of(*, api_url: str | None = servers.rabbitmq_api_url) -> routing.RoutingCheck:
        listing = None if api_url is None else management_api.ManagementApi(api_url, declared)
        return routing.RoutingCheck(sender, notes.SERVICE.bindings, notes.SERVICE.published, listing)

    return of


async def unbind(wire: rabbit.Wire, route: topology.Route) -> None:
    queue = await wire.channel.get_queue(route.queue, ensure=False)
    await queue.unbind(route.exchange, routing_key=route.routing_key)


async def is_routed(wire: rabbit.Wire, route: topology.Route) -> bool:
    before = await wire.depth(route.queue)
    exchange = await wire.channel.get_exchange(route.exchange, ensure=False)
    await exchange.publish(aio_pika.Message(b"x"), routing_key=route.routing_key, mandatory=False)
    return await wire.depth(route.queue) == before + 1


@pytest.mark.parametrize(
    "lost",
    [route for binding in notes.SERVICE.bindings for route in binding.routes],
    ids=lambda route: f"{route.exchange} to {route.queue}",
)
async def test_a_lost_binding_is_shown_logged_once_and_put_back(
    check_of: Look, wire: rabbit.Wire, lost: topology.Route
) -> None:
    check = check_of()
    await check.tick()
    whole = check.warning()
    await unbind(wire, lost)

    with structlog.testing.capture_logs() as lines:
        await check.tick()

    shown, is_bound = check.warning(), check.is_bound(lost.queue.removesuffix(".dlq"))
    assert await is_routed(wire, lost)
    with structlog.testing.capture_logs() as later:
        await check.tick()
    found = [line for line in lines if line["event"] == "routing.binding_lost"]
    assert later == []
    assert whole is None
    assert shown == f"{lost.exchange} does not route {lost.routing_key} to {lost.queue}"
    assert not is_bound
    assert [(line["queue"], line["routing_key"], line["is_put_back"]) for line in found] == [
        (lost.queue, lost.routing_key, True)
    ]
    assert check.warning() is None
    assert check.is_bound(lost.queue)


async def test_a_message_of_ours_that_no_queue_takes_any_more_is_shown_and_its_queue_not_touched(
    servers: testing.Servers, declared: str, sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    """The gateway's view: it sends the command whose owner's binding is lost."""
    listing = management_api.ManagementApi(servers.rabbitmq_api_url, declared)
    check = routing.RoutingCheck(sender, [], [COMMAND._replace(queue="any queue")], listing)
    await check.tick()
    whole = check.warning()
    await unbind(wire, COMMAND)

    await check.tick()

    assert whole is None
    assert check.warning() == f"kopilka.commands does not route {notes.WriteNote.TYPE} to any queue"
    assert not await is_routed(wire, COMMAND)


async def test_lost_bindings_of_the_shared_queues_are_shown(check_of: Look, wire: rabbit.Wire) -> None:
    check = check_of()
    for route in topology.SHARED_ROUTES:
        await unbind(wire, route)

    await check.tick()

    shown = check.warning()
    assert shown is not None
    assert shown.count("does not route") == len(topology.SHARED_ROUTES)


async def test_an_idle_process_publishes_a_probe_so_that_the_broker_tells_it_of_an_alarm(
    check_of: Look, wire: rabbit.Wire
) -> None:
    probes = await wire.channel.declare_queue(exclusive=True)
    await probes.bind(topology.UNCONSUMED, routing_key="")

    await check_of().tick()

    assert (await probes.get()).type == "kopilka.probe"
    assert await wire.depth(topology.UNROUTED) == 0


async def test_unrouted_messages_are_counted_and_shown(check_of: Look, wire: rabbit.Wire) -> None:
    check = check_of()
    exchange = await wire.channel.get_exchange(topology.EVENTS, ensure=False)
    for _ in range(3):
        await exchange.publish(aio_pika.Message(b"x"), routing_key="notes.note.nobody.v1")

    await check.tick()

    assert check.warning() == "3 unrouted messages: kopilka unrouted list"
    assert next(iter(telemetry.UNROUTED.collect())).samples[0].value == 3


@pytest.mark.parametrize("api_url", [None, "http://nobody:wrong@127.0.0.1:{port}", "http://127.0.0.1:1"])
async def test_without_the_management_api_bindings_are_put_back_all_the_same(
    check_of: Look, wire: rabbit.Wire, servers: testing.Servers, api_url: str | None
) -> None:
    port = servers.rabbitmq_api_url.rpartition(":")[2]
    await unbind(wire, COMMAND)

    await check_of(api_url=api_url and api_url.format(port=port)).tick()

    assert await is_routed(wire, COMMAND)


async def test_a_missing_queue_is_shown_and_the_way_to_repair_it_logged(check_of: Look, wire: rabbit.Wire) -> None:
    check = check_of()
    await wire.channel.queue_delete(notes.COMMANDS.name)

    with structlog.testing.capture_logs() as lines:
        await check.tick()

    assert not check.is_bound(notes.COMMANDS.name)
    assert [line["repair"] for line in lines if line["event"] == "routing.not_put_back"] == ["kopilka topology"]


async def test_what_waits_for_its_next_attempt_is_counted_for_each_step(check_of: Look, wire: rabbit.Wire) -> None:
    check = check_of()
    await check.tick()
    for _ in range(3):
        await wire.send(topology.retry_exchange("1h"), notes.WriteNote())
    await check.tick()

    waiting, age_s = telemetry.RETRIES_WAITING, telemetry.RETRIES_WAITING_AGE
    assert (waiting.labels("1h")._value.get(), waiting.labels("5s")._value.get()) == (3, 0)
    assert age_s.labels("1h")._value.get() > age_s.labels("5s")._value.get() == 0
