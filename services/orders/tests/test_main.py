"""A real process between real queues, and the migration down and up."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg

from chassis import app, database, migrate, publisher, topology
from chassis.testing import Processes, Servers, delivery_of
from contracts import orders
from contracts.message import Message, TenantId
from orders.catalog import operations


async def send(sender: publisher.Publisher, message: Message, body: bytes | None = None) -> None:
    await sender.publish(
        exchange=topology.COMMANDS if message.KIND == "command" else topology.EVENTS,
        routing_key=message.TYPE,
        headers=delivery_of(message, "test").envelope.headers(),
        body=body if body is not None else message.model_dump_json().encode(),
        event_type=message.TYPE,
    )


async def first_message(amqp_url: str, *, after: Any, routing_key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bind a queue, run `after`, and return the headers and the body of the first message."""
    connection = await aio_pika.connect(amqp_url)
    async with connection, asyncio.timeout(30):
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(topology.COMMANDS, routing_key=routing_key)
        await after()
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                return dict(message.headers), json.loads(message.body)
    raise AssertionError("the queue closed before a message came")


async def dead_letter(db: database.Database) -> tuple[str, str]:
    async with asyncio.timeout(30):
        while True:
            async with db.transaction() as tx:
                row = await tx.fetchrow("SELECT reason, event_type FROM dead_letter")
            if row is not None:
                return row["reason"], row["event_type"]
            await asyncio.sleep(0.05)


async def test_a_command_to_place_an_order_leads_to_a_command_to_place_its_hold(
    db: database.Database, declared: str, sender: publisher.Publisher, processes: Processes
) -> None:
    await operations.write(db, *operations.read(TenantId("demo"), operations.DEMO))
    command = orders.PlaceOrder(
        tenant="demo",
        order_id=uuid4(),
        user_id=uuid4(),
        items=(orders.OrderItem(product_id="ivan-chai", quantity=1),),
        payment_method="wallet",
    )
    processes.ready("orders", "worker")

    async def place() -> None:
        await send(sender, command, b'{"order_id": "half')
        await send(sender, command)

    headers, body = await first_message(declared, after=place, routing_key="ledger.hold.place.v1")

    assert body["amount"] == {"amount_minor": 40_000, "currency": "RUB"}
    assert body["reference"] == f"order:{command.order_id}"
    assert headers["ce-correlationid"] == "test"
    assert await dead_letter(db) == ("unreadable", "orders.order.place.v1")


async def test_the_schema_is_migrated_down_to_nothing_and_up_again(
    servers: Servers, service: app.Service, database_name: str
) -> None:
    async def migrated(revision: str) -> None:
        await migrate.to_version(
            admin_url=servers.database(database_name),
            service_url=servers.service_database(database_name, "orders"),
            schema="orders",
            migrations=service.migrations,
            revision=revision,
        )

    await migrated("base")
    connection = await asyncpg.connect(servers.database(database_name))
    left = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'orders'::regnamespace AND relname !~ '^schema_version'"
    )
    await connection.close()
    await migrated("head")

    assert left == []
