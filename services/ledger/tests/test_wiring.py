"""The worker as a process on a real broker: messages of its queues are settled, and a kill loses nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import builders
import pytest

from chassis import database, envelope, publisher, testing
from contracts import ledger, payments
from contracts.message import AMOUNT_MINOR_MAX, Message, Money, TenantId, UserId
from ledger.proof import verify

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))
GIVE_UP_S = 60


def paid(count: int, *, amount_minor: int = 100, user_id: UserId = USER) -> list[payments.PaymentPaid]:
    return [
        payments.PaymentPaid(
            tenant=DEMO,
            payment_id=payments.PaymentId(uuid4()),
            user_id=user_id,
            purpose="top_up",
            provider="yookassa",
            amount=Money(amount_minor=amount_minor, currency="RUB"),
            version=2,
            provider_account="demo",
            provider_ref="ref",
            paid_at=envelope.now(),
            accepted_at=envelope.now(),
        )
        for _ in range(count)
    ]


async def send(sender: publisher.Publisher, messages: Sequence[Message]) -> None:
    for message in messages:
        wrapper = testing.delivery_of(message, "unused").envelope
        await sender.publish(
            exchange=f"kopilka.{message.KIND}s",
            routing_key=message.TYPE,
            headers=wrapper.headers(),
            body=message.model_dump_json().encode(),
            event_type=message.TYPE,
        )


async def count(db: database.Database, what: str) -> int:
    async with db.transaction() as tx:
        number: int = await tx.fetchval(f"SELECT count(*) FROM {what}")
    return number


async def until(db: database.Database, what: str, expected: int) -> None:
    """Wait until the table has so many rows."""
    async with asyncio.timeout(GIVE_UP_S):
        while await count(db, what) < expected:  # noqa: ASYNC110 - rows of another process can only be polled
            await asyncio.sleep(0.05)


async def test_a_credit_and_a_hold_go_through_the_broker(
    db: database.Database, sender: publisher.Publisher, processes: testing.Processes
) -> None:
    processes.ready("ledger", "worker")
    place = ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(uuid4()),
        user_id=USER,
        amount=Money(amount_minor=75, currency="RUB"),
        reference="order:1",
        expires_at=envelope.now() + timedelta(minutes=15),
    )

    await send(sender, paid(1))
    await until(db, "transfer", 1)
    await send(sender, [place])
    await until(db, "hold WHERE state = 'placed'", 1)
    await send(sender, [ledger.CaptureHold(tenant=DEMO, hold_id=place.hold_id, amount_minor=75)])
    await until(db, "hold WHERE state = 'captured'", 1)

    assert (await verify.run(db)).transfers == {"top_up": 1, "capture": 1}


async def test_commands_that_arrive_before_their_hold_are_settled_after_it(
    db: database.Database, sender: publisher.Publisher, processes: testing.Processes
) -> None:
    hold = builders.place(75)
    await send(sender, [builders.extend(hold, 60), builders.capture(hold, 75)])
    processes.ready("ledger", "worker")
    await send(sender, paid(1))
    await until(db, "transfer", 1)

    await send(sender, [hold])
    await until(db, "hold WHERE state = 'captured'", 1)

    await until(db, "request", 3)
    assert await count(db, "dead_letter") == 0


@pytest.mark.rule("LE5")
@pytest.mark.parametrize("failpoint", ["ledger.in_transaction:2", "batch.before_ack:2"])
async def test_a_worker_killed_amid_a_batch_credits_every_payment_once(
    db: database.Database, sender: publisher.Publisher, processes: testing.Processes, failpoint: str
) -> None:
    doomed, _ = processes.ready("ledger", "worker", KOPILKA_FAILPOINT=failpoint)
    await send(sender, paid(1))
    await until(db, "transfer", 1)
    await send(sender, paid(50))
    await asyncio.to_thread(doomed.wait, GIVE_UP_S)

    processes.ready("ledger", "worker")
    await until(db, "transfer", 51)

    verification = await verify.run(db)
    assert doomed.returncode == -9
    assert verification.is_sound
    assert verification.transfers == {"top_up": 51}
    assert verification.totals[0].credited_minor == 5_100


async def test_a_payment_that_fits_no_account_does_not_affect_others(
    db: database.Database, sender: publisher.Publisher, processes: testing.Processes
) -> None:
    await send(sender, [*paid(10), *paid(1, amount_minor=AMOUNT_MINOR_MAX), *paid(10)])

    processes.ready("ledger", "worker")
    await until(db, "dead_letter WHERE reason = 'unprocessable'", 1)
    await until(db, "transfer", 20)

    verification = await verify.run(db)
    assert verification.is_sound
    assert verification.totals[0].credited_minor == 2_000
