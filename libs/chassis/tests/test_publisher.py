import asyncio
from collections.abc import Awaitable, Callable

import notes
import outages
import pytest
import rabbit

from chassis import publisher, telemetry

Proxied = Callable[[str], Awaitable[outages.Proxy]]
QUEUE = notes.COMMANDS.name


async def publish(sender: publisher.Publisher, *, queue: str = QUEUE, **changed: object) -> None:
    command = notes.WriteNote()
    await sender.publish(
        exchange="",
        routing_key=queue,
        headers=rabbit.headers_of(command, **changed),
        body=command.model_dump_json().encode(),
        event_type=command.TYPE,
    )


async def test_a_published_message_is_persistent_and_carries_its_names(
    sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await publish(sender)

    sent = await wire.take(QUEUE)
    assert (sent.delivery_mode, sent.content_type, sent.type) == (2, "application/json", notes.WriteNote.TYPE)
    assert sent.message_id == sent.headers["ce-id"]
    assert sent.correlation_id == sent.headers["ce-correlationid"] == "correlation-1"


async def test_publishing_an_unroutable_message_raises(sender: publisher.Publisher, wire: rabbit.Wire) -> None:
    with pytest.raises(publisher.Refused):
        await publish(sender, queue="notes.nowhere")

    await publish(sender)
    assert await wire.depth(QUEUE) == 1


async def test_texts_that_are_too_long_for_properties_are_cut_there_and_whole_in_the_headers(
    sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    await publish(sender, ce_correlationid="ю" * 1_000)

    sent = await wire.take(QUEUE)
    assert sent.correlation_id == "ю" * 127
    assert sent.headers["ce-correlationid"] == "ю" * 1_000


async def test_headers_without_an_encoding_are_refused_and_stop_no_other_message(
    sender: publisher.Publisher, wire: rabbit.Wire
) -> None:
    for changed in ({"ce_sequence": 2**70}, {"ce_id": {"a": object()}}):
        with pytest.raises(publisher.Refused, match="encoded"):
            await publish(sender, **changed)

    await asyncio.gather(*(publish(sender) for _ in range(3)))
    assert await wire.depth(QUEUE) == 3


async def test_copies_of_one_message_can_be_in_flight_together(sender: publisher.Publisher, wire: rabbit.Wire) -> None:
    one_id = rabbit.headers_of(notes.WriteNote())["ce-id"]

    await asyncio.gather(*(publish(sender, ce_id=one_id) for _ in range(50)))

    assert await wire.depth(QUEUE) == 50


async def test_a_lost_connection_fails_the_current_publish_and_the_next_opens_another(
    declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    sender = publisher.Publisher(proxy.url)
    await publish(sender)
    proxy.silence()
    lost = asyncio.create_task(publish(sender))

    async def is_there() -> bool:
        return await wire.depth(QUEUE) == 2

    await rabbit.until(is_there)
    proxy.cut()
    outcome = (await asyncio.gather(lost, return_exceptions=True))[0]
    proxy.speak()
    await publish(sender)

    await sender.close()
    assert isinstance(outcome, Exception)
    assert await wire.depth(QUEUE) == 3


async def test_a_broker_that_accepts_and_does_not_answer_is_given_up_after_a_while(
    declared: str, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONNECT_TIMEOUT_S", 0.3)
    proxy = await proxied(declared)
    proxy.silence()
    sender = publisher.Publisher(proxy.url)

    outcomes = await asyncio.gather(*(publish(sender) for _ in range(3)), return_exceptions=True)
    proxy.speak()
    await publish(sender)

    await sender.close()
    assert all(isinstance(outcome, Exception) for outcome in outcomes)


# rabbitmq/rabbitmq-server#23: a client that does not say that it is blocked looks like one that works
async def test_a_publisher_that_the_broker_blocks_publishes_nothing_until_it_may_again(
    declared: str, wire: rabbit.Wire, proxied: Proxied
) -> None:
    proxy = await proxied(declared)
    sender = publisher.Publisher(proxy.url)
    await publish(sender)
    proxy.block()

    async def is_blocked() -> bool:
        try:
            await sender.open()
        except publisher.Blocked:
            return True
        return False

    await rabbit.until(is_blocked)
    with pytest.raises(publisher.Blocked):
        await publish(sender)
    blocked = next(iter(telemetry.BLOCKED.collect())).samples[0].value
    proxy.unblock()

    async def is_open() -> bool:
        return not await is_blocked()

    await rabbit.until(is_open)
    await publish(sender)
    await sender.close()
    assert blocked == 1
    assert await wire.depth(QUEUE) == 2
