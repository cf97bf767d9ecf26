"""Races on a real database: concurrent commands with the only possible outcomes, and sound books afterwards."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import builders
import invariants
import pytest
from builders import OTHER, USER, WALLET

from chassis import database
from chassis.testing import delivery_of, outbox_messages
from contracts import ledger
from contracts.message import Message, UserId
from ledger import handlers

RACERS = 8  # as many as the pool has connections; more would only wait for one

DONE = None
"""The outcome of a command that was not refused."""


async def race(db: database.Database, messages: Sequence[Message]) -> Counter[str | None]:
    """Settle all messages concurrently, each in a transaction of its own; returns the number of each outcome."""
    waiting = asyncio.Semaphore(RACERS)

    async def run(message: Message) -> str | None:
        async with waiting:
            return await builders.refusal_code(db, message)

    return Counter(await asyncio.gather(*map(run, messages)))


async def test_opposite_transfers_between_two_users_all_succeed(db: database.Database) -> None:
    await builders.settle(db, builders.paid(250), builders.paid(250, user_id=OTHER))
    pairs = [(USER, OTHER), (OTHER, USER)] * 250

    outcomes = await race(
        db, [builders.send(1, source=source, destination=destination) for source, destination in pairs]
    )

    assert outcomes == {DONE: 500}
    assert await builders.balance_and_held(db) == (250, 0)
    assert await invariants.violations(db) == []


async def test_opposite_transfers_of_users_who_have_nothing_yet_never_deadlock(db: database.Database) -> None:
    users = [UserId(UUID(int=number)) for number in range(1, 9)]
    pairs = [(source, destination) for source in users for destination in users if source != destination]

    outcomes = await race(
        db, [builders.send(1, source=source, destination=destination) for source, destination in pairs]
    )

    assert outcomes == {"insufficient_funds": 56}


@pytest.mark.rule("W2")
async def test_holds_never_take_more_than_there_is(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500))

    outcomes = await race(db, [builders.place(75) for _ in range(20)])

    assert outcomes == {DONE: 6, "insufficient_funds": 14}
    assert await builders.balance_and_held(db) == (500, 450)
    assert await invariants.violations(db) == []


@pytest.mark.rule("L6")
async def test_two_orders_do_not_spend_the_same_points(db: database.Database) -> None:
    await builders.settle(db, builders.paid(1_000), *(builders.grant(50, lasts_s=60 + number) for number in range(4)))
    holds = [builders.place(10, also=90) for _ in range(8)]

    outcomes = await race(db, holds)

    assert outcomes == {DONE: 2, "insufficient_funds": 6}
    assert await builders.balance_and_held(db) == (1_000, 20)
    assert await builders.balance_and_held(db, builders.POINTS, "PTS") == (200, 180)
    assert await race(db, [builders.capture(hold, 100) for hold in holds]) == {DONE: 2, "hold_ended": 6}
    assert await invariants.violations(db) == []


async def test_captures_of_one_hold_take_what_it_holds_and_no_more(db: database.Database) -> None:
    hold = builders.place(500)
    await builders.settle(db, builders.paid(600), hold)

    outcomes = await race(db, [builders.capture(hold, 7, part=part, keeps=True) for part in range(1, 101)])

    assert outcomes == {DONE: 71, "capture_above_hold": 29}
    assert await builders.balance_and_held(db) == (600 - 71 * 7, 500 - 71 * 7)
    assert await invariants.violations(db) == []


async def test_last_captures_of_one_hold_end_it_once(db: database.Database) -> None:
    hold = builders.place(500)
    await builders.settle(db, builders.paid(500), hold)
    ends: list[Message] = [builders.capture(hold, 5, part=part) for part in range(1, 91)]

    outcomes = await race(db, [*ends, *(builders.release(hold) for _ in range(10))])

    # Either a capture came first and took its part, or the release did; whoever comes later hears how it ended.
    assert outcomes in ({DONE: 11, "hold_ended": 89}, {DONE: 10, "hold_ended": 90})
    assert (await builders.balance_and_held(db))[1] == 0
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE16")
async def test_of_a_hundred_reversals_of_one_transfer_one_succeeds(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500))
    transfer_id = await builders.posted(db, builders.send(60))

    outcomes = await race(db, [builders.reverse(transfer_id) for _ in range(100)])

    assert outcomes == {DONE: 1, "already_reversed": 99}
    assert await builders.balance_and_held(db) == (500, 0)
    assert await invariants.violations(db) == []


async def test_concurrent_partial_reversals_never_reverse_more_than_was_posted(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500), builders.grant(100, lasts_s=60))
    hold = builders.place(60, also=40)
    await builders.settle(db, hold)
    transfer_id = await builders.posted(db, builders.capture(hold, 100))

    outcomes = await race(db, [builders.reverse(transfer_id, 7) for _ in range(40)])

    assert outcomes == {DONE: 14, "already_reversed": 26}
    assert await builders.refusal_code(db, builders.reverse(transfer_id, 2)) is None
    assert (await builders.balance_and_held(db), await builders.lots(db)) == ((500, 0), [(100, 0)])
    assert await invariants.violations(db) == []


def _place(amount_minor: int) -> ledger.LedgerCommand:
    return builders.place(amount_minor)


def _send(amount_minor: int) -> ledger.LedgerCommand:
    return builders.send(amount_minor)


@pytest.mark.rule("LE4")
@pytest.mark.parametrize("make", [_place, _send])
@pytest.mark.parametrize("funded", [True, False])
async def test_identical_commands_at_once_have_one_effect_and_one_answer(
    db: database.Database, make: Any, *, funded: bool
) -> None:
    """Without a wallet no row is locked, so only the key itself decides which was first."""
    if funded:
        await builders.settle(db, builders.paid(500))
    command = make(75)

    outcomes = await race(db, [command] * 30)

    assert outcomes == ({DONE: 30} if funded else {"insufficient_funds": 30})
    answers = [body for event_type, body in await outbox_messages(db) if event_type != "ledger.transfer.posted.v1"]
    assert Counter(body.pop("is_replayed") for body in answers) == {False: 1, True: 29}
    assert all(body == answers[0] for body in answers)
    assert await builders.rows(db, "SELECT count(*) FROM request") == [(1,)]
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE4")
async def test_of_several_bodies_under_one_key_at_once_one_wins_and_the_others_conflict(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500), builders.paid(500, user_id=OTHER))
    key = str(uuid4())
    bodies = [builders.send(amount, source=source, destination=UserId(UUID(int=9)), key=key)
              for source in (USER, OTHER) for amount in range(1, 6)]  # fmt: skip

    outcomes = await race(db, bodies * 3)

    assert outcomes == {DONE: 3, "idempotency_conflict": 27}
    assert await builders.rows(db, "SELECT count(*) FROM transfer WHERE kind = 'transfer'") == [(1,)]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("has_wallets", [True, False])
async def test_batches_with_the_same_keys_in_other_orders_never_deadlock(
    db: database.Database, *, has_wallets: bool
) -> None:
    users = [UserId(UUID(int=number)) for number in range(1, 31)]
    if has_wallets:
        await builders.settle(db, *(builders.paid(100, user_id=user) for user in users))
    commands = [builders.place(75, user_id=user) for user in users]
    orders = [commands, commands[::-1], commands[10:] + commands[:10], commands[::2] + commands[1::2]]

    settled = await asyncio.gather(*(builders.settle(db, *order) for order in orders * 2))

    codes = Counter(getattr(each.answer, "code", None) for batch in settled for each in batch)
    assert codes == {None if has_wallets else "insufficient_funds": 240}
    assert await builders.rows(db, "SELECT count(*) FROM hold") == [(30,)]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize(("table", "is_hold"), [("hold", True), ("request", False)])
async def test_batches_with_the_same_keys_wait_for_each_other_and_do_not_deadlock(
    db: database.Database, superuser: asyncpg.Connection, table: str, *, is_hold: bool
) -> None:
    """Without wallets and transfers only keys can be locked; inserts are slow here, so that the batches overlap."""
    await superuser.execute(f"""
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    commands = [builders.place(75) if is_hold else builders.reverse(ledger.TransferId(uuid4())) for _ in range(10)]
    batches = [[(delivery_of(each, "ledger.commands"), each) for each in order] for order in (commands, commands[::-1])]

    outcomes = await asyncio.gather(
        *(handlers.settle(db, batch, attempts=1) for batch in batches), return_exceptions=True
    )

    assert {type(outcome) for outcome in outcomes} == {dict, asyncpg.SerializationError}
    assert await builders.rows(db, "SELECT count(*) FROM request") == [(10,)]
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE9")
async def test_hundreds_of_credits_from_one_clearing_account_have_gapless_sequences(db: database.Database) -> None:
    events = [builders.paid(1, user_id=UserId(UUID(int=number % 7 + 1))) for number in range(500)]

    await asyncio.gather(*(builders.settle(db, *events[start : start + 50]) for start in range(0, 500, 50)))

    assert await builders.balance_and_held(db, builders.CLEARING) == (-500, 0)
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE9")
async def test_batches_that_meet_on_the_same_accounts_and_payments_never_deadlock(db: database.Database) -> None:
    users = [UserId(UUID(int=number)) for number in range(1, 21)]
    events = [builders.paid(500, user_id=user) for user in users]

    async def rounds(batch: Sequence[Message]) -> None:
        for _ in range(5):
            await builders.settle(db, *batch, *(builders.paid(1, user_id=user) for user in users), builders.send(1))

    await asyncio.gather(*(rounds(events if number % 2 else events[::-1]) for number in range(6)))

    assert await builders.rows(db, "SELECT count(*) FROM transfer") == [(20 + 6 * 5 * 21,)]
    assert await invariants.violations(db) == []


async def test_the_same_deliveries_in_several_batches_at_once_are_settled_once(db: database.Database) -> None:
    events = [builders.paid(1, user_id=UserId(UUID(int=number % 5 + 1))) for number in range(60)]
    deliveries = [(delivery_of(event, "ledger.payments"), event) for event in events]

    outcomes = await asyncio.gather(
        *(builders.deliver(db, order) for order in (deliveries, deliveries[::-1], deliveries[30:] + deliveries[:30]))
    )

    assert sum(map(len, outcomes)) == 60
    assert await builders.rows(db, "SELECT count(*) FROM transfer") == [(60,)]
    assert await invariants.violations(db) == []


async def test_an_account_is_frozen_between_two_transfers_and_never_within_one(db: database.Database) -> None:
    await builders.settle(db, builders.paid(500))
    switches: list[Message] = [
        builders.account_command(command)
        for command in (ledger.FreezeAccount, ledger.UnfreezeAccount)
        for _ in range(10)
    ]

    outcomes = await race(
        db, [each for pair in zip(switches, (builders.send(1) for _ in switches), strict=True) for each in pair]
    )

    moved = (await builders.balance_and_held(db, f"user:{OTHER}:wallet"))[0]
    assert outcomes[DONE] == 20 + moved
    assert outcomes["account_frozen"] == 20 - moved
    assert await builders.balance_and_held(db, WALLET) == (500 - moved, 0)
    assert await invariants.violations(db) == []
