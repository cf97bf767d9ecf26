"""Timers on a real database: holds and lots expire by its clock, once, a bounded number at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import asyncpg
import builders
import invariants
import pytest
from builders import POINTS

from chassis import database, testing
from contracts import ledger
from ledger import timers

HOLD_S = 900


@pytest.fixture
async def funded(db: database.Database) -> database.Database:
    """Books on which one user has 100,000 and as many points, in two lots."""
    await builders.settle(
        db, builders.paid(100_000), *(builders.grant(50_000, lasts_s=lasts_s) for lasts_s in (60, 6_000))
    )
    return db


async def place(db: database.Database, superuser: asyncpg.Connection, *, is_due: bool) -> ledger.PlaceHold:
    """Place a hold of 75 and 25 points whose time is over or not."""
    hold = builders.place(75, also=25, lasts_s=HOLD_S)
    await builders.settle(db, hold)
    if is_due:
        await superuser.execute("UPDATE hold SET expires_at = now() WHERE id = $1", hold.hold_id)
    return hold


async def test_a_hold_whose_time_is_over_is_expired_and_a_running_one_is_not(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    due, _ = [await place(funded, superuser, is_due=is_due) for is_due in (True, False)]

    done = await timers.expire_holds(funded)

    event_type, body = (await testing.outbox_messages(funded))[-1]
    assert (done, event_type, body["hold_id"]) == (1, "ledger.hold.expired.v1", str(due.hold_id))
    assert [part["amount_minor"] for part in body["parts"]] == [75, 25]  # type: ignore[attr-defined]
    assert (await builders.balance_and_held(funded), await builders.balance_and_held(funded, POINTS, "PTS")) == (
        (100_000, 75),
        (100_000, 25),
    )
    assert await invariants.violations(funded) == []


@pytest.mark.rule("W2")
@pytest.mark.parametrize("has_run", [True, False])
async def test_a_capture_after_the_end_is_refused_whether_the_timer_ran_or_not(
    funded: database.Database, superuser: asyncpg.Connection, *, has_run: bool
) -> None:
    hold = await place(funded, superuser, is_due=True)
    if has_run:
        await timers.expire_holds(funded)

    assert await builders.refusal_code(funded, builders.capture(hold, 75)) == "hold_ended"
    assert await builders.refusal_code(funded, builders.extend(hold, 60)) == "hold_ended"

    assert await timers.expire_holds(funded) == (0 if has_run else 1)
    assert await builders.balance_and_held(funded) == (100_000, 0)


@pytest.mark.rule("LE6")
async def test_a_hold_ends_by_the_clock_of_the_database_and_its_end_is_final(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    hold = await place(funded, superuser, is_due=False)
    await builders.settle(funded, builders.capture(hold, 40, part=1, keeps=True), builders.extend(hold, 60))
    await builders.pass_time(superuser, HOLD_S + 59)
    early = await timers.expire_holds(funded)
    await builders.pass_time(superuser, 1)

    assert (early, await timers.expire_holds(funded), await timers.expire_holds(funded)) == (0, 1, 0)

    expired = await builders.answer_to(funded, builders.release(hold))
    assert isinstance(expired, ledger.HoldExpired)
    assert expired.amount.amount_minor == 60
    assert await builders.rows(funded, "SELECT state FROM hold") == [("expired",)]
    assert await invariants.violations(funded) == []


async def test_holds_of_a_frozen_account_expire(funded: database.Database, superuser: asyncpg.Connection) -> None:
    await place(funded, superuser, is_due=True)
    await builders.settle(
        funded,
        builders.account_command(ledger.FreezeAccount),
        builders.account_command(ledger.FreezeAccount, POINTS, "PTS"),
    )

    assert await timers.expire_holds(funded) == 1

    assert await builders.balance_and_held(funded) == (100_000, 0)
    assert await invariants.violations(funded) == []


async def with_retries(tick: Callable[[], Awaitable[int]]) -> int:
    """Tick again after a lost race: two workers may open the account of breakage at once."""
    for _ in range(4):
        with suppress(asyncpg.DeadlockDetectedError):
            return await tick()
    return await tick()


async def test_timers_of_several_workers_end_each_hold_and_lot_once(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    for _ in range(20):
        await place(funded, superuser, is_due=True)
    await builders.settle(funded, *(builders.grant(5, lasts_s=1) for _ in range(10)))
    await builders.pass_time(superuser, 1)

    holds = await asyncio.gather(*(timers.expire_holds(funded) for _ in range(4)))
    lots = await asyncio.gather(*(with_retries(partial(timers.expire_lots, funded)) for _ in range(4)))

    published = [event_type for event_type, _ in await testing.outbox_messages(funded)]
    assert sum(holds) == published.count("ledger.hold.expired.v1") == 20
    assert sum(lots) == 10
    assert await builders.balance_and_held(funded, "breakage", "PTS") == (50, 0)
    assert await invariants.violations(funded) == []


async def test_the_timer_and_commands_on_the_same_holds_never_deadlock(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    due = [await place(funded, superuser, is_due=True) for _ in range(30)]

    await asyncio.gather(
        *(timers.expire_holds(funded) for _ in range(2)),
        builders.settle(funded, *map(builders.release, due[::-1])),
        builders.settle(funded, *(builders.capture(hold, 100) for hold in due)),
    )
    await timers.expire_holds(funded)

    states = await builders.rows(funded, "SELECT DISTINCT state FROM hold")
    assert {state for (state,) in states} <= {"expired", "released"}
    assert await builders.balance_and_held(funded) == (100_000, 0)
    assert await invariants.violations(funded) == []


async def test_a_tick_of_the_timer_is_bounded(
    funded: database.Database, superuser: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "EXPIRE_MAX", 2)
    for _ in range(3):
        await place(funded, superuser, is_due=True)

    assert [await timers.expire_holds(funded) for _ in range(3)] == [2, 1, 0]


async def test_a_lot_expires_at_its_time_with_one_posting_of_its_own(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    await builders.pass_time(superuser, 59)
    early = await timers.expire_lots(funded)
    await builders.pass_time(superuser, 1)

    assert (early, await timers.expire_lots(funded), await timers.expire_lots(funded)) == (0, 1, 0)

    assert await builders.lots(funded) == [(50_000, 0)]
    found = await builders.rows(
        funded, "SELECT kind, occurred_at = expires_at FROM transfer, lot WHERE kind = 'expiry' AND left_minor = 0"
    )
    assert found == [("expiry", True)]
    assert await invariants.violations(funded) == []


async def test_ranges_of_the_history_are_summarized_by_the_services_own_role(db: database.Database) -> None:
    await builders.settle(db, *(builders.paid() for _ in range(300)))

    await timers.summarize_ranges(db)

    assert await builders.rows(db, "SELECT summarize_ranges()") == [(0,)]
