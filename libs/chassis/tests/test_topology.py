import asyncio
from functools import partial
from urllib.parse import urlsplit

import aio_pika
import notes
import pytest
import rabbit

from chassis import testing, topology


async def test_declaring_twice_changes_nothing(amqp_url: str) -> None:
    await topology.apply(amqp_url, notes.SERVICE.bindings)
    await topology.apply(amqp_url, notes.SERVICE.bindings)

    async with rabbit.Wire.connected(amqp_url) as wire:
        depths = [await wire.depth(queue) for queue in ("notes.commands", "notes.commands.dlq", "kopilka.unrouted")]
    assert depths == [0, 0, 0]


async def test_a_queue_that_exists_with_other_arguments_is_named(amqp_url: str) -> None:
    async with rabbit.Wire.connected(amqp_url) as wire:
        await wire.channel.declare_queue("notes.commands", durable=True, arguments={"x-queue-type": "quorum"})

    with pytest.raises(topology.TopologyMismatch, match=r"notes\.commands"):
        await topology.apply(amqp_url, notes.SERVICE.bindings)


async def test_a_process_does_not_start_on_a_queue_with_other_arguments(
    processes: testing.Processes, wire: rabbit.Wire
) -> None:
    await wire.channel.queue_delete("notes.commands")
    await wire.channel.declare_queue("notes.commands", durable=True, arguments={"x-queue-type": "quorum"})

    process, _ = processes.spawn("notes", "worker")
    code = await asyncio.to_thread(process.wait, 30)

    assert code == 1
    assert "for queue 'notes.commands'" in processes.output()
    assert "Traceback" not in processes.output()


async def test_a_process_with_its_own_user_does_not_start_before_its_queues_are_declared(
    processes: testing.Processes, wire: rabbit.Wire, declared: str
) -> None:
    await wire.channel.queue_delete("notes.commands")

    process, _ = processes.spawn("notes", "worker", NOTES_AMQP_URL=f"{declared}?own=yes")
    code = await asyncio.to_thread(process.wait, 30)

    assert code == 1
    assert "`migrate` has not prepared the broker" in processes.output()
    assert "Traceback" not in processes.output()


async def test_a_message_rejected_by_a_consumer_goes_to_the_dlq_queue(wire: rabbit.Wire) -> None:
    await wire.send("notes.commands", notes.WriteNote())
    queue = await wire.channel.get_queue("notes.commands")

    message = await queue.get()
    await message.reject(requeue=False)

    assert (await wire.take("notes.commands.dlq")).headers["x-first-death-queue"] == "notes.commands"


async def test_a_healthy_message_survives_many_returns(wire: rabbit.Wire) -> None:
    await wire.send("notes.commands", notes.WriteNote())
    queue = await wire.channel.get_queue("notes.commands")

    for _ in range(topology.DELIVERY_LIMIT):
        message = await queue.get()
        await message.reject(requeue=True)

    assert await wire.depth("notes.commands.dlq") == 0
    assert (await wire.take("notes.commands")).headers["x-delivery-count"] == topology.DELIVERY_LIMIT


async def test_a_retry_queue_returns_a_message_to_the_queue_that_its_routing_key_names(wire: rabbit.Wire) -> None:
    retry = await wire.channel.get_exchange(topology.retry_exchange("5s"))

    await retry.publish(aio_pika.Message(b"again"), routing_key="notes.commands")

    assert (await wire.take("notes.commands")).body == b"again"
    assert await wire.depth("notes.echo") == 0


# rabbitmq/rabbitmq-server#12625, #14961: more of them than the broker dead-letters at once
async def test_retries_whose_queue_is_gone_hold_up_no_other_and_are_kept_as_unrouted(wire: rabbit.Wire) -> None:
    retry = await wire.channel.get_exchange(topology.retry_exchange("5s"))
    for _ in range(40):
        await retry.publish(aio_pika.Message(b"orphan"), routing_key="notes.gone")

    await retry.publish(aio_pika.Message(b"again"), routing_key="notes.commands")

    assert (await wire.take("notes.commands")).body == b"again"
    assert [message.body for message in await wire.take_all(topology.UNROUTED)] == [b"orphan"] * 40
    assert await wire.depth(topology.retry_exchange("5s")) == 0


async def test_a_broker_that_stays_away_is_given_up() -> None:
    with pytest.raises(topology.Unreachable, match=r"no connection to the broker in 0\.1 s"):
        await topology.when_reachable(
            partial(topology.apply, "amqp://app:app@127.0.0.1:1/", notes.SERVICE.bindings),
            stop=asyncio.Event(),
            give_up_s=0.1,
        )


async def test_waiting_for_a_broker_ends_when_the_process_is_to_stop() -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(
        topology.when_reachable(
            partial(topology.apply, "amqp://app:app@127.0.0.1:1/", notes.SERVICE.bindings), stop=stop, give_up_s=60
        )
    )
    await asyncio.sleep(0)

    stop.set()

    await waiting


async def test_a_broker_that_refuses_the_password_is_not_waited_for(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    url = parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port}").geturl()

    with pytest.raises(topology.Unreachable, match="refuses the user"):
        await topology.when_reachable(
            partial(topology.apply, url, notes.SERVICE.bindings), stop=asyncio.Event(), give_up_s=60
        )
