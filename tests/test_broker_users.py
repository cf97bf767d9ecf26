"""Every service has its own broker user, who may do what the service does and nothing else."""

import asyncio
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelAccessRefused

from chassis import broker_users, discovery, management_api, publisher, routing, testing, topology
from contracts import payments

SERVICES = {name: discovery.load(name) for name in discovery.names()}
ALL_BINDINGS = [binding for service in SERVICES.values() for binding in service.bindings]
PASSWORD = "test-only"  # users that live for one test


@pytest.fixture(scope="module")
def amqp_url(servers: testing.Servers, run_id: str) -> Iterator[str]:
    """A vhost for all tests here: none of them depends on what another leaves in a queue."""
    vhost = f"test_{run_id}_users"
    testing.manage(servers, "PUT", f"vhosts/{vhost}")
    yield servers.vhost(vhost)
    testing.manage(servers, "DELETE", f"vhosts/{vhost}")


@pytest.fixture(scope="module")
def users(servers: testing.Servers, amqp_url: str, run_id: str) -> Iterator[dict[str, str]]:
    """The broker's URL for each service, whose users `migrate` has created."""
    administrator = management_api.ManagementApi(servers.rabbitmq_api_url, amqp_url)
    asyncio.run(topology.apply(amqp_url, ALL_BINDINGS))
    parts = urllib.parse.urlsplit(amqp_url)
    location = parts.netloc.rpartition("@")[2]
    urls = {name: parts._replace(netloc=f"test_{run_id}_{name}:{PASSWORD}@{location}").geturl() for name in SERVICES}
    for name, service in SERVICES.items():
        broker_users.create(administrator, urls[name], service.bindings, service.published)
    yield urls
    for name in SERVICES:
        testing.manage(servers, "DELETE", f"users/test_{run_id}_{name}")


@asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url)
    async with connection:
        yield await connection.channel()


async def publishes(url: str, exchange: str, routing_key: str) -> bool:
    async with channel_of(url) as channel:
        place = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        try:
            await place.publish(aio_pika.Message(b"{}"), routing_key=routing_key, mandatory=False)
        except (AMQPError, asyncio.CancelledError):
            return False
        return True


async def depth(url: str, queue: str) -> int:
    async with channel_of(url) as channel:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0


async def test_no_service_publishes_what_is_anothers(users: dict[str, str], amqp_url: str) -> None:
    """Goal: nobody else's login makes money. Every service tries every message that another one publishes."""
    before = await depth(amqp_url, "ledger.payments")
    routes = {route for service in SERVICES.values() for route in service.published}
    done = {
        (name, route.routing_key)
        for name, url in users.items()
        for route in routes - set(SERVICES[name].published)
        if await publishes(url, route.exchange, route.routing_key)
    }

    assert done == set()
    assert await depth(amqp_url, "ledger.payments") == before


async def test_the_notifier_gets_no_payment_to_the_ledger_on_any_way(users: dict[str, str], amqp_url: str) -> None:
    before = [await depth(amqp_url, queue) for queue in ("ledger.payments", topology.UNROUTED)]
    paid = payments.PaymentPaid.TYPE
    ways = [
        (topology.EVENTS, paid),
        (topology.COMMANDS, paid),
        (topology.UNCONSUMED, paid),
        ("", "ledger.payments"),
        (topology.RETURNS, "ledger.payments"),
        (topology.DEAD, "ledger.payments"),
        (topology.UNROUTED, paid),
        *((topology.retry_exchange(step), "ledger.payments") for step, _ in topology.RETRY_DELAYS),
    ]

    assert [way for way in ways if await publishes(users["notifier"], *way)] == []
    assert [await depth(amqp_url, queue) for queue in ("ledger.payments", topology.UNROUTED)] == before


async def test_every_service_publishes_its_messages_and_returns_its_retries(users: dict[str, str]) -> None:
    for name, service in SERVICES.items():
        for route in service.published:
            assert await publishes(users[name], route.exchange, route.routing_key), (name, route)
        for binding in service.bindings:
            assert await publishes(users[name], topology.retry_exchange("1h"), binding.queue), (name, binding.queue)


async def test_a_service_reads_its_own_queues_only(users: dict[str, str]) -> None:
    read: set[tuple[str, str]] = set()
    for name, url in users.items():
        for binding in ALL_BINDINGS:
            for queue in (binding.queue, f"{binding.queue}.dlq"):
                async with channel_of(url) as channel:
                    try:
                        await (await channel.get_queue(queue, ensure=False)).consume(asyncio.Queue[object]().put)
                    except ChannelAccessRefused:
                        continue
                    read.add((name, queue))

    own = {(name, binding.queue) for name, service in SERVICES.items() for binding in service.bindings}
    assert read == own | {(name, f"{queue}.dlq") for name, queue in own}


@pytest.mark.parametrize(
    ("exchange", "routing_key"),
    [
        (topology.EVENTS, payments.PaymentPaid.TYPE),
        (topology.EVENTS, "#"),
        (topology.COMMANDS, "ledger.hold.place.v1"),
        (topology.RETURNS, "ledger.payments"),
        (topology.DEAD, "ledger.payments"),
        (topology.UNROUTED, ""),
        (topology.retry_exchange("5s"), "#"),
    ],
)
async def test_a_service_binds_its_queue_to_nothing_that_is_not_meant_for_it(
    users: dict[str, str], exchange: str, routing_key: str
) -> None:
    async with channel_of(users["notifier"]) as channel:
        queue = await channel.get_queue("notifier.orders", ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await queue.bind(exchange, routing_key=routing_key)


async def test_a_service_declares_and_deletes_nothing(users: dict[str, str]) -> None:
    async with channel_of(users["ledger"]) as channel:
        with pytest.raises(ChannelAccessRefused):
            await channel.declare_queue("ledger.more", durable=True)
    async with channel_of(users["ledger"]) as channel:
        with pytest.raises(ChannelAccessRefused):
            await channel.queue_delete("ledger.payments")


@pytest.mark.parametrize("name", sorted(SERVICES))
async def test_a_service_notices_its_lost_bindings_and_puts_them_back_itself(
    servers: testing.Servers, users: dict[str, str], amqp_url: str, name: str
) -> None:
    service, url = SERVICES[name], users[name]
    location = urllib.parse.urlsplit(servers.rabbitmq_api_url)
    api_url = location._replace(netloc=location.netloc.rpartition("@")[2]).geturl()
    own = [route for binding in service.bindings for route in binding.routes if route.exchange != topology.DEAD]
    async with channel_of(amqp_url) as channel:
        for route in own:
            await (await channel.get_queue(route.queue, ensure=False)).unbind(
                route.exchange, routing_key=route.routing_key
            )
    sender = publisher.Publisher(url)
    api = management_api.ManagementApi(api_url, url)
    check = routing.RoutingCheck(sender, service.bindings, service.published, api, has_own_user=True)

    await check.tick()

    lost = check.warning()
    await topology.bind_own(url, service.bindings)
    await check.tick()
    await sender.close()
    assert lost is not None
    assert all(check.is_bound(route.queue) for route in own)
    assert set(own) <= set(api.bindings())
