"""The message handler on a real database: credits, holds, captures, transfers and reversals, each once for ever."""

from uuid import uuid4

import builders
import invariants
import pytest
from builders import CLEARING, OTHER, POINTS, WALLET

from chassis import database, errors
from chassis.testing import delivery_of, outbox_messages
from contracts import ledger, payments
from contracts.message import AMOUNT_MINOR_MAX, Message, TenantId
from ledger import handlers
from ledger.domain import requests

OTHERS_WALLET = f"user:{OTHER}:wallet"


async def published_types(db: database.Database) -> list[str]:
    return [event_type.removeprefix("ledger.").removesuffix(".v1") for event_type, _ in await outbox_messages(db)]


async def count(db: database.Database, table: str) -> int:
    return int((await builders.rows(db, f"SELECT count(*) FROM {table}"))[0][0])


async def test_a_paid_payment_is_credited_and_published_with_both_accounts(db: database.Database) -> None:
    event = builders.paid(150_000)

    await builders.settle(db, event)

    ((event_type, body),) = await outbox_messages(db)
    assert event_type == "ledger.transfer.posted.v1"
    posted = ledger.TransferPosted.model_validate(body, strict=False)
    assert (posted.kind, posted.reference) == ("top_up", f"payment:{event.payment_id}")
    assert [(line.account.code, line.account.balance_minor) for line in posted.postings] == [
        (CLEARING, -150_000),
        (WALLET, 150_000),
    ]
    assert await invariants.violations(db) == []


async def test_a_credit_takes_effect_when_it_was_paid_and_is_recorded_now(db: database.Database) -> None:
    event = builders.paid()

    await builders.settle(db, event)

    ((occurred_at, recorded_at),) = await builders.rows(
        db, "SELECT DISTINCT occurred_at, recorded_at FROM transfer JOIN posting ON transfer_id = id"
    )
    assert occurred_at == event.paid_at < recorded_at


async def test_an_event_names_the_message_that_caused_it(db: database.Database) -> None:
    hold = builders.place(5)
    messages: list[Message] = [builders.paid(), hold, builders.capture(hold, 5)]
    deliveries = [(delivery_of(message, "ledger.commands"), message) for message in messages]

    await builders.deliver(db, deliveries)

    causes = await builders.rows(db, "SELECT headers::jsonb->>'ce-causationid' FROM outbox ORDER BY id")
    ids = [str(delivery.envelope.id) for delivery, _ in deliveries]
    assert [cause for (cause,) in causes] == [ids[0], ids[1], ids[2], ids[2]]


@pytest.mark.rule("LE5")
async def test_one_payment_is_credited_once_whichever_event_reports_it(db: database.Database) -> None:
    event = builders.paid()
    late = payments.PaymentPaidLate(**event.model_dump())
    delivery = delivery_of(event, "ledger.payments")

    await builders.deliver(db, [(delivery, event), (delivery, event), (delivery_of(late, "ledger.payments"), late)])
    await builders.deliver(db, [(delivery, event)])
    await builders.settle(db, late)

    assert await builders.balance_and_held(db) == (500, 0)
    assert await published_types(db) == ["transfer.posted"]


async def test_tenants_with_the_same_payment_and_user_ids_are_separate(db: database.Database) -> None:
    event = builders.paid(1)

    await builders.settle(db, event, event.model_copy(update={"tenant": TenantId("other")}))

    balances = await builders.rows(db, "SELECT tenant, balance_minor FROM account WHERE code = $1 ORDER BY 1", WALLET)
    assert balances == [("demo", 1), ("other", 1)]


async def test_a_credit_that_no_longer_fits_is_unprocessable_and_does_not_affect_others(db: database.Database) -> None:
    await builders.settle(db, builders.paid(AMOUNT_MINOR_MAX - 10))
    events = [builders.paid(10), builders.paid(1), builders.paid(1, user_id=OTHER)]
    deliveries = [(delivery_of(event, "ledger.payments"), event) for event in events]

    failures = builders.failed(await handlers.settle(db, deliveries))

    # The clearing account is full after the first of them, so the third fits no more than the second.
    assert set(failures) == {delivery.envelope.id for delivery, _ in deliveries[1:]}
    assert all(isinstance(error, errors.Unprocessable) for error in failures.values())
    assert await builders.balance_and_held(db) == (AMOUNT_MINOR_MAX, 0)
    assert await invariants.violations(db) == []


async def test_a_message_that_could_not_be_settled_can_come_again(db: database.Database) -> None:
    hold = builders.place(75)
    early = delivery_of(builders.capture(hold, 75), "ledger.commands")
    batch = [(early, builders.capture(hold, 75)), (delivery_of(hold, "ledger.commands"), hold)]
    await builders.settle(db, builders.paid())

    failures = builders.failed(await handlers.settle(db, batch))
    again = builders.failed(await handlers.settle(db, batch))

    assert {event_id: type(error) for event_id, error in failures.items()} == {
        early.envelope.id: requests.PrerequisiteMissing
    }
    assert again == {}
    assert (await published_types(db))[1:] == ["hold.placed", "transfer.posted", "hold.captured"]


async def test_a_redelivered_command_is_not_answered_twice(db: database.Database) -> None:
    hold = builders.place(75)
    commands = [hold, builders.capture(hold, 75), builders.release(hold), builders.send(5)]
    deliveries = [(delivery_of(command, "ledger.commands"), command) for command in commands]
    await builders.settle(db, builders.paid())

    for delivery in [*deliveries, *deliveries[::-1]]:
        await builders.deliver(db, [delivery])

    assert (await published_types(db))[1:] == [
        "hold.placed", "transfer.posted", "hold.captured", "hold.captured", "transfer.posted", "request.posted",
    ]  # fmt: skip


async def every_command(db: database.Database) -> list[ledger.LedgerCommand]:
    """Build one command of each type, each of which succeeds."""
    transfer_id = await builders.posted(db, builders.spend(5, account=WALLET, asset="RUB"))
    place, extended, captured, released = (builders.place(20) for _ in range(4))
    await builders.settle(db, extended, captured, released)
    return [
        place,
        builders.extend(extended, 60),
        builders.capture(captured, 10),
        builders.release(released),
        builders.post(builders.transfer(builders.leg(WALLET, -5), builders.leg("revenue", 5))),
        builders.send(5),
        builders.reverse(transfer_id),
        builders.account_command(ledger.SetOverdraft, overdraft_minor=7),
        builders.account_command(ledger.FreezeAccount, "fees"),
        builders.account_command(ledger.UnfreezeAccount, "fees"),
        builders.account_command(ledger.CloseAccount, "fees"),
    ]


@pytest.mark.rule("LE4")
async def test_every_command_has_one_outcome_for_ever(db: database.Database) -> None:
    """Each command is delivered again in another batch and order and gets its first answer; another body conflicts."""
    await builders.settle(db, builders.paid(1_000))
    commands = await every_command(db)
    first = [settled.answer for settled in await builders.settle(db, *commands)]
    transfers = await count(db, "transfer")

    again = [settled.answer for settled in await builders.settle(db, *commands[::-1])][::-1]

    assert all(answer is not None and not hasattr(answer, "code") for answer in first), first
    assert again == [answer and answer.model_copy(update={"is_replayed": True}) for answer in first]
    assert await count(db, "transfer") == transfers
    assert await count(db, "request") == len(commands) + 4
    assert await builders.refusal_code(db, builders.capture(builders.place(9, hold_id=commands[2].hold_id), 9)) == (  # type: ignore[attr-defined]
        "idempotency_conflict"
    )
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE4")
async def test_a_refused_key_never_succeeds_later(db: database.Database) -> None:
    transfer_id = await builders.posted(db, builders.grant(5))
    hold, kept = builders.place(75), builders.place(1)
    refused = [
        hold,
        builders.send(75),
        builders.spend(75, account=WALLET, asset="RUB"),
        builders.reverse(transfer_id, 6),
        builders.account_command(ledger.CloseAccount, CLEARING),
    ]
    await builders.settle(db, builders.paid(1), kept)
    over = [builders.capture(kept, 2), builders.extend(kept, -60)]
    codes = [await builders.refusal_code(db, command) for command in (*refused, *over)]
    await builders.settle(db, builders.paid(500), builders.paid(500, user_id=OTHER))

    again = [await builders.answer_to(db, command) for command in (*refused, *over)]

    assert codes == [
        "insufficient_funds", "insufficient_funds", "insufficient_funds", "already_reversed", "account_not_empty",
        "capture_above_hold", "hold_not_extended",
    ]  # fmt: skip
    assert [answer.code for answer in again] == codes
    assert all(answer.is_replayed for answer in again)
    assert await builders.balance_and_held(db) == (501, 1)


@pytest.mark.rule("LE6")
async def test_a_hold_is_captured_in_parts_extended_and_its_rest_released(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500))
    hold = builders.place(400)

    await builders.settle(db, hold, builders.extend(hold, 60), builders.capture(hold, 100, part=1, keeps=True))
    await builders.settle(db, builders.capture(hold, 100, part=2, keeps=True))
    assert await builders.balance_and_held(db) == (300, 200)
    await builders.settle(db, builders.capture(hold, 50, part=3))

    assert await builders.balance_and_held(db) == (250, 0)
    ((state, captured_minor, expires_at),) = await builders.rows(
        db, "SELECT state, captured_minor, expires_at FROM hold"
    )
    assert (state, captured_minor, expires_at) == ("captured", 250, builders.extend(hold, 60).expires_at)
    assert await builders.refusal_code(db, builders.capture(hold, 1, part=4)) == "hold_ended"
    assert await builders.refusal_code(db, builders.extend(hold, 90)) == "hold_ended"
    assert isinstance(await builders.answer_to(db, builders.release(hold)), ledger.HoldCaptured)
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE6")
async def test_a_hold_is_never_captured_above_what_it_holds_nor_after_its_end(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500))
    hold, released = builders.place(75), builders.place(75)
    await builders.settle(
        db, hold, released, builders.capture(hold, 50, part=1, keeps=True), builders.release(released)
    )

    assert await builders.refusal_code(db, builders.capture(hold, 26, part=2)) == "capture_above_hold"
    assert await builders.refusal_code(db, builders.capture(released, 75)) == "hold_ended"

    assert await builders.balance_and_held(db) == (450, 25)


async def test_a_hold_placed_and_released_in_one_batch_leaves_no_gap_in_published_versions(
    db: database.Database,
) -> None:
    hold = builders.place(75)
    await builders.settle(db, builders.paid(500), hold, builders.release(hold), builders.send(5))
    await builders.settle(db, builders.send(5))

    assert await invariants.violations(db) == []


@pytest.mark.rule("LE8")
async def test_a_group_applies_whole_or_leaves_no_row_and_no_event(db: database.Database) -> None:
    await builders.settle(db, builders.paid(100), builders.grant(50))
    before, events = await count(db, "transfer"), await outbox_messages(db)
    moves = [builders.transfer(builders.leg(WALLET, -60), builders.leg("revenue", 60))] * 2
    points = builders.transfer(builders.leg(POINTS, -20, "PTS"), builders.leg("revenue", 20, "PTS"))

    refused = await builders.answer_to(db, builders.post(points, *moves))

    assert isinstance(refused, ledger.RequestRefused)
    assert await count(db, "transfer") == before
    assert await builders.lots(db) == [(50, 0)]
    assert await builders.balance_and_held(db) == (100, 0)
    assert [event_type for event_type, _ in (await outbox_messages(db))[len(events) :]] == ["ledger.request.refused.v1"]

    done = await builders.answer_to(db, builders.post(points, moves[0]))

    assert len(done.transfer_ids) == 2
    assert await builders.balance_and_held(db) == (40, 0)
    assert await builders.lots(db) == [(30, 0)]
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE8")
async def test_each_of_the_independent_requests_of_a_batch_has_its_own_outcome(db: database.Database) -> None:
    await builders.settle(db, builders.paid(100))

    settled = await builders.settle(db, builders.send(60), builders.send(60), builders.send(40), builders.send(1))

    codes = [getattr(each.answer, "code", None) for each in settled]
    assert codes == [None, "insufficient_funds", None, "insufficient_funds"]
    assert await builders.balance_and_held(db, OTHERS_WALLET) == (100, 0)
    assert await invariants.violations(db) == []


async def test_a_back_dated_transfer_takes_effect_then_and_is_recorded_in_its_order(db: database.Database) -> None:
    long_ago = builders.paid().paid_at.replace(year=2020)
    legs = (builders.leg("opening", -5), builders.leg(WALLET, 5))

    await builders.settle(db, builders.paid(1))
    await builders.settle(db, builders.post(builders.transfer(*legs, kind="opening", occurred_at=long_ago)))

    found = await builders.rows(
        db,
        "SELECT occurred_at, recorded_at > occurred_at, posting.sequence, balance_after_minor FROM transfer"
        " JOIN posting ON transfer_id = transfer.id JOIN account ON account.id = account_id"
        " WHERE account.code = $1 ORDER BY number DESC LIMIT 1",
        WALLET,
    )
    assert found == [(long_ago, True, 2, 6)]


async def test_commands_on_unknown_accounts_are_refused(db: database.Database) -> None:
    legs = (builders.leg("vault", -5), builders.leg("revenue", 5))

    assert await builders.refusal_code(db, builders.post(builders.transfer(*legs))) == "unknown_account"
    assert await builders.refusal_code(db, builders.send(5, asset="XYZ")) == "unknown_asset"
    assert await builders.refusal_code(db, builders.place(5)) == "insufficient_funds"
    assert await builders.refusal_code(db, builders.reverse(ledger.TransferId(uuid4()))) == "unknown_transfer"
    assert await count(db, "account") == 0
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("amount_minor", [0, 2**63, -1])
def test_an_invalid_amount_is_rejected_by_the_command(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="amount_minor"):
        builders.send(amount_minor)
    with pytest.raises(ValueError, match="amount_minor"):
        builders.capture(builders.place(5), amount_minor)
