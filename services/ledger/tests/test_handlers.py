"""The use cases on a real database: each payment credited once, each hold decided once, whoever comes at once."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis import database, envelope, ladder
from chassis.testing import delivery_of, said
from contracts import ledger, payments
from contracts.message import AMOUNT_MINOR_MAX, Money, TenantId, UserId
from ledger import handlers, verify

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))


def paid(
    amount_minor: int = 500,
    *,
    user_id: UserId = USER,
    payment_id: UUID | None = None,
    late: bool = False,
    tenant: TenantId = DEMO,
) -> payments.PaymentPaid:
    event = payments.PaymentPaidLate if late else payments.PaymentPaid
    return event(
        tenant=tenant,
        payment_id=payments.PaymentId(payment_id or uuid4()),
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


def place(amount_minor: int, *, hold_id: UUID | None = None, lasts_s: float = 900) -> ledger.PlaceHold:
    return ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(hold_id or uuid4()),
        user_id=USER,
        amount=Money(amount_minor=amount_minor, currency="RUB"),
        reference="order:1",
        expires_at=envelope.now() + timedelta(seconds=lasts_s),
    )


async def credit(db: database.Database, *events: payments.PaymentPaid) -> None:
    await handlers.credit_wallets(db, [(delivery_of(event, "ledger.payments"), event) for event in events])


async def give(db: database.Database, *commands: ledger.PlaceHold | ledger.CaptureHold | ledger.ReleaseHold) -> None:
    """Carry out commands one after the other, each as a message of its own."""
    for command in commands:
        handler = handlers.QUEUES[0].handlers[type(command)]
        await handler(db, delivery_of(command, "ledger.commands"), command)


async def types_said(db: database.Database) -> list[str]:
    return [event_type.removeprefix("ledger.").removesuffix(".v1") for event_type, _ in await said(db)]


async def wallet(db: database.Database, user_id: UserId = USER) -> tuple[int, int]:
    """Give balance and held of a user's wallet."""
    async with db.transaction() as tx:
        row = await (await database.driver(tx)).fetchrow(
            "SELECT balance_minor, held_minor FROM account WHERE owner = $1", user_id
        )
    assert row is not None
    return row["balance_minor"], row["held_minor"]


async def assert_sound(db: database.Database) -> verify.Proof:
    proof = await verify.prove(db)
    assert proof.is_sound, verify.render(proof)
    return proof


async def test_a_paid_payment_is_credited_and_said_with_both_accounts(db: database.Database) -> None:
    event = paid(150_000)

    await credit(db, event)

    ((event_type, body),) = await said(db)
    assert event_type == "ledger.transfer.posted.v1"
    posted = ledger.TransferPosted.model_validate(body, strict=False)
    assert (posted.kind, posted.reference) == ("top_up", f"payment:{event.payment_id}")
    assert [(line.account.code, line.account.balance_minor) for line in posted.postings] == [
        ("clearing:yookassa:demo", -150_000),
        (f"user:{USER}:wallet", 150_000),
    ]
    assert await wallet(db) == (150_000, 0)
    await assert_sound(db)


async def test_what_a_credit_says_names_the_payment_as_its_cause(db: database.Database) -> None:
    events = [paid(), paid()]
    deliveries = [(delivery_of(event, "ledger.payments"), event) for event in events]

    await handlers.credit_wallets(db, deliveries)

    async with db.transaction() as tx:
        rows = await (await database.driver(tx)).fetch(
            "SELECT headers::jsonb->>'ce-causationid' FROM outbox ORDER BY id"
        )
    assert [row[0] for row in rows] == [str(delivery.envelope.id) for delivery, _ in deliveries]


@pytest.mark.rule("LE5")
async def test_duplicates_inside_one_batch_are_credited_once(db: database.Database) -> None:
    payment_id = uuid4()
    event, late = paid(payment_id=payment_id), paid(payment_id=payment_id, late=True)
    delivery = delivery_of(event, "ledger.payments")

    await handlers.credit_wallets(
        db, [(delivery, event), (delivery, event), (delivery_of(late, "ledger.payments"), late)]
    )

    assert await wallet(db) == (500, 0)
    assert await types_said(db) == ["transfer.posted"]


@pytest.mark.rule("LE5")
async def test_a_replay_that_the_inbox_has_forgotten_is_harmless(db: database.Database) -> None:
    event = paid()
    await credit(db, event)

    await credit(db, event, paid(user_id=UserId(UUID(int=2))))

    assert await wallet(db) == (500, 0)
    assert (await assert_sound(db)).transfers == {"top_up": 2}


async def test_tenants_with_the_same_payment_and_user_ids_are_strangers(db: database.Database) -> None:
    payment_id = uuid4()

    await credit(db, paid(1, payment_id=payment_id), paid(2, payment_id=payment_id, tenant=TenantId("other")))

    assert (await assert_sound(db)).transfers == {"top_up": 2}


@pytest.mark.rule("LE9")
async def test_hundreds_of_credits_from_one_clearing_account_have_gapless_sequences(db: database.Database) -> None:
    events = [paid(user_id=UserId(UUID(int=number % 7 + 1))) for number in range(500)]

    await asyncio.gather(*(credit(db, *events[start : start + 50]) for start in range(0, 500, 50)))

    proof = await assert_sound(db)
    assert proof.transfers == {"top_up": 500}
    assert proof.figures[0].credited_minor == 250_000


@pytest.mark.rule("LE9")
async def test_batches_that_meet_on_the_same_accounts_and_payments_never_deadlock(db: database.Database) -> None:
    users = [UserId(UUID(int=number)) for number in range(1, 21)]
    events = [paid(user_id=user) for user in users]

    async def rounds(batch: Sequence[payments.PaymentPaid]) -> None:
        for _ in range(5):
            await credit(db, *batch, *(paid(1, user_id=event.user_id) for event in batch))

    await asyncio.gather(*(rounds(events if number % 2 else events[::-1]) for number in range(6)))

    assert (await assert_sound(db)).transfers == {"top_up": 20 + 6 * 5 * 20}


async def test_a_credit_that_no_longer_fits_is_hopeless_and_leaves_nothing(db: database.Database) -> None:
    await credit(db, paid(AMOUNT_MINOR_MAX))

    with pytest.raises(ladder.Hopeless):
        await credit(db, paid(1, user_id=UserId(UUID(int=2))), paid(1))

    assert await wallet(db) == (AMOUNT_MINOR_MAX, 0)
    assert (await assert_sound(db)).transfers == {"top_up": 1}


@pytest.mark.rule("LE6")
async def test_a_hold_is_captured_and_the_rest_released(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(400)

    await give(db, command, ledger.CaptureHold(tenant=DEMO, hold_id=command.hold_id, amount_minor=300))

    assert await wallet(db) == (200, 0)
    assert await types_said(db) == ["transfer.posted", "hold.placed", "transfer.posted", "hold.captured"]
    posted, captured = [body for _, body in await said(db)][2:]
    assert posted["kind"] == "capture"
    assert posted["reference"] == "order:1"
    assert posted["postings"][0]["account"] == captured["account"]  # type: ignore[index]
    await assert_sound(db)


@pytest.mark.rule("W2")
async def test_parallel_holds_never_take_more_than_there_is(db: database.Database) -> None:
    await credit(db, paid(500))

    await asyncio.gather(*(give(db, place(75)) for _ in range(20)))

    said_types = await types_said(db)
    assert (said_types.count("hold.placed"), said_types.count("hold.refused")) == (6, 14)
    assert await wallet(db) == (500, 450)
    await assert_sound(db)


@pytest.mark.rule("LE4")
@pytest.mark.parametrize(("balance_minor", "held_minor", "answer"), [(500, 75, "placed"), (50, 0, "refused")])
async def test_identical_commands_at_once_have_one_effect_and_one_answer(
    db: database.Database, balance_minor: int, held_minor: int, answer: str
) -> None:
    await credit(db, paid(balance_minor))
    command = place(75)

    await asyncio.gather(*(give(db, command) for _ in range(10)))

    answers = (await said(db))[1:]
    assert answers == [(f"ledger.hold.{answer}.v1", answers[0][1])] * 10
    assert await wallet(db) == (balance_minor, held_minor)


@pytest.mark.rule("LE4")
async def test_a_refused_hold_never_succeeds_later(db: database.Database) -> None:
    command = place(75)
    await give(db, command)
    await credit(db, paid(500))

    await give(db, command)

    assert await types_said(db) == ["hold.refused", "transfer.posted", "hold.refused"]
    assert await wallet(db) == (500, 0)


@pytest.mark.rule("LE4")
async def test_another_body_for_the_same_hold_is_a_conflict(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(75)

    await give(db, command, command.model_copy(update={"amount": Money(amount_minor=80, currency="RUB")}))

    _, body = (await said(db))[-1]
    assert body["code"] == "idempotency_conflict"
    assert "amount_minor" in str(body["detail"])
    assert await wallet(db) == (500, 75)


@pytest.mark.rule("LE4")
async def test_identical_captures_at_once_post_once(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(75)
    await give(db, command)
    capture = ledger.CaptureHold(tenant=DEMO, hold_id=command.hold_id, amount_minor=75)

    await asyncio.gather(*(give(db, capture) for _ in range(10)))

    said_types = await types_said(db)
    assert (said_types.count("hold.captured"), said_types.count("transfer.posted")) == (10, 2)
    assert await wallet(db) == (425, 0)


async def test_a_redelivered_command_is_not_answered_twice(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(75)
    capture = ledger.CaptureHold(tenant=DEMO, hold_id=command.hold_id, amount_minor=75)
    release = ledger.ReleaseHold(tenant=DEMO, hold_id=command.hold_id)

    for message in (command, capture, release):
        delivery = delivery_of(message, "ledger.commands")
        for _ in range(2):
            await handlers.QUEUES[0].handlers[type(message)](db, delivery, message)

    assert (await types_said(db))[1:] == ["hold.placed", "transfer.posted", "hold.captured", "hold.captured"]


@pytest.mark.rule("LE6")
async def test_a_capture_that_is_refused_changes_nothing(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(75)
    await give(db, command, ledger.CaptureHold(tenant=DEMO, hold_id=command.hold_id, amount_minor=76))

    assert (await said(db))[-1][1]["code"] == "capture_above_hold"
    assert await wallet(db) == (500, 75)


@pytest.mark.rule("LE6")
async def test_capture_after_release_is_refused(db: database.Database) -> None:
    await credit(db, paid(500))
    command = place(75)
    await give(
        db,
        command,
        ledger.ReleaseHold(tenant=DEMO, hold_id=command.hold_id),
        ledger.CaptureHold(tenant=DEMO, hold_id=command.hold_id, amount_minor=75),
    )

    assert (await types_said(db))[1:] == ["hold.placed", "hold.released", "hold.capture_refused"]
    assert (await said(db))[-1][1]["code"] == "hold_ended"
    assert await wallet(db) == (500, 0)


@pytest.mark.parametrize("command", [ledger.ReleaseHold, ledger.CaptureHold])
async def test_a_command_for_a_hold_that_nobody_asked_for_yet_is_tried_again_later(
    db: database.Database, command: type[ledger.ReleaseHold] | type[ledger.CaptureHold]
) -> None:
    early = command.model_validate({"tenant": DEMO, "hold_id": uuid4(), "amount_minor": 1})

    with pytest.raises(handlers.UnknownHold):
        await give(db, early)

    assert await said(db) == []
