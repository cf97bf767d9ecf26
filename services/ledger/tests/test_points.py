"""Points on a real database: spent by expiry, held beside money, and refunded to their lots."""

import asyncpg
import builders
import invariants
import pytest
from builders import POINTS, WALLET

from chassis import database
from contracts import ledger
from ledger import timers
from ledger.domain import lots


async def lot_ids(db: database.Database) -> list[tuple[object, int]]:
    """Return the lots that are not empty and what they have left, the first to expire first."""
    found = await builders.rows(db, "SELECT id, left_minor FROM lot WHERE left_minor > 0 ORDER BY expires_at, id")
    return [(lot_id, left) for lot_id, left in found]


@pytest.mark.rule("W4")
@pytest.mark.rule("L7")
async def test_expiring_points_are_spent_before_others_the_first_to_expire_first(db: database.Database) -> None:
    bought = builders.post(
        builders.transfer(builders.leg("clearing:demo", -100, "CRD"), builders.leg(POINTS, 100, "CRD"), kind="grant")
    )
    june, may = (builders.grant(100, lasts_s=lasts_s, asset="CRD") for lasts_s in (600, 300))
    await builders.settle(db, bought, june, may)

    await builders.settle(db, builders.spend(150, asset="CRD"))

    assert await builders.lots(db, asset="CRD") == [(50, 0), (100, 0)]
    await builders.settle(db, builders.spend(100, asset="CRD"))
    assert await builders.lots(db, asset="CRD") == [(50, 0)]
    assert await builders.rows(db, "SELECT 1 FROM lot WHERE left_minor = 50 AND expires_at IS NULL") == [(1,)]
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE14")
async def test_the_lot_that_expires_first_is_spent_first_and_a_refund_returns_to_its_lots(
    db: database.Database,
) -> None:
    await builders.settle(db, builders.grant(100, lasts_s=600), builders.grant(100, lasts_s=300), builders.grant(100))
    before = await lot_ids(db)
    transfer_id = await builders.posted(db, builders.spend(250))
    assert await builders.lots(db) == [(50, 0)]

    await builders.settle(db, builders.reverse(transfer_id, 120))
    assert await builders.lots(db) == [(70, 0), (100, 0)]
    await builders.settle(db, builders.reverse(transfer_id))

    assert await lot_ids(db) == before
    assert await invariants.violations(db) == []


async def test_points_granted_and_spent_in_one_batch_can_be_refunded(db: database.Database) -> None:
    spend = builders.spend(40)
    _, spent = await builders.settle(db, builders.grant(40, lasts_s=300), spend)
    assert isinstance(spent.answer, ledger.RequestPosted)
    assert await builders.lots(db) == []

    await builders.settle(db, builders.reverse(spent.answer.transfer_ids[0]))

    assert await builders.lots(db) == [(40, 0)]
    assert await invariants.violations(db) == []


@pytest.mark.rule("L9")
async def test_a_refund_to_an_expired_lot_gets_a_grace_period(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await builders.settle(db, builders.grant(100, lasts_s=300), builders.grant(100, lasts_s=600))
    transfer_id = await builders.posted(db, builders.spend(150))
    await builders.pass_time(superuser, 300)

    await builders.settle(db, builders.reverse(transfer_id, 70), builders.reverse(transfer_id))

    assert await builders.lots(db) == [(100, 0), (20, 0), (80, 0)]
    days = await builders.rows(
        db,
        "SELECT extract(epoch FROM max(expires_at) - now()) / 86400 FROM lot JOIN account ON account.id = account_id",
    )
    assert lots.GRACE.days - 1 < days[0][0] <= lots.GRACE.days
    await builders.settle(db, builders.spend(200))
    assert await builders.lots(db) == []
    assert await invariants.violations(db) == []


async def test_refunded_points_may_be_spent_before_the_rest_is_refunded(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await builders.settle(db, builders.grant(100, lasts_s=300))
    transfer_id = await builders.posted(db, builders.spend(100))
    await builders.pass_time(superuser, 300)

    await builders.settle(db, builders.reverse(transfer_id, 60))
    await builders.settle(db, builders.spend(60))
    await builders.settle(db, builders.reverse(transfer_id))

    assert await builders.lots(db) == [(40, 0)]
    assert await invariants.violations(db) == []


async def test_an_expired_lot_can_not_be_spent_though_no_timer_has_moved_it(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await builders.settle(db, builders.grant(100, lasts_s=300))
    await builders.pass_time(superuser, 300)

    assert await builders.refusal_code(db, builders.spend(1)) == "insufficient_funds"
    assert await builders.balance_and_held(db, POINTS, "PTS") == (100, 0)


async def test_held_points_do_not_expire_until_they_are_released(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    captured, released = (builders.place(10, also=20) for _ in range(2))
    await builders.settle(db, builders.paid(100), builders.grant(100, lasts_s=300), captured, released)
    await builders.pass_time(superuser, 300)

    swept = [await timers.expire_lots(db) for _ in range(2)]
    assert (swept, await builders.lots(db)) == ([1, 0], [(40, 40)])
    assert await builders.refusal_code(db, builders.capture(captured, 30)) is None
    await builders.settle(db, builders.release(released))
    swept = [await timers.expire_lots(db) for _ in range(2)]

    assert (swept, await builders.lots(db)) == ([1, 0], [])
    assert await builders.balance_and_held(db, "breakage", "PTS") == (80, 0)
    assert await invariants.violations(db) == []


async def test_lots_of_a_frozen_account_wait_until_it_is_unfrozen(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    frozen = builders.account_command(ledger.FreezeAccount, POINTS, "PTS")
    await builders.settle(db, builders.grant(100, lasts_s=300), frozen)
    await builders.pass_time(superuser, 300)

    assert await timers.expire_lots(db) == 0
    await builders.settle(db, builders.account_command(ledger.UnfreezeAccount, POINTS, "PTS"))
    assert await timers.expire_lots(db) == 1

    assert await builders.balance_and_held(db, POINTS, "PTS") == (0, 0)
    assert await builders.balance_and_held(db, "breakage", "PTS") == (100, 0)
    assert await invariants.violations(db) == []


@pytest.mark.parametrize(("money", "points"), [(99, 50), (100, 49), (100, 0)])
async def test_an_order_holds_money_and_points_or_neither(db: database.Database, money: int, points: int) -> None:
    await builders.settle(db, builders.paid(money), *([builders.grant(points, lasts_s=60)] if points else []))

    assert await builders.refusal_code(db, builders.place(100, also=50)) == "insufficient_funds"

    assert await builders.balance_and_held(db) == (money, 0)
    assert await builders.balance_and_held(db, POINTS, "PTS") == (points, 0)
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE15")
async def test_capture_and_refund_of_money_and_points_keep_their_proportion_to_the_last_unit(
    db: database.Database,
) -> None:
    """An order of 333 and 100 points is captured and refunded in odd parts, and all balances are as before."""
    await builders.settle(db, builders.paid(400), builders.grant(60, lasts_s=60), builders.grant(60, lasts_s=120))
    before = await lot_ids(db)
    hold = builders.place(333, also=100)
    placed = await builders.answer_to(db, hold)
    assert [(part.account.asset, part.amount_minor) for part in placed.parts] == [("RUB", 333), ("PTS", 100)]
    assert await builders.refusal_code(db, builders.place(100, also=1)) == "insufficient_funds"

    captured, parts = [], []
    for number, amount_minor in enumerate((100, 7, 226), 1):
        answer = await builders.answer_to(db, builders.capture(hold, amount_minor, part=number, keeps=True))
        captured.append(answer.transfer_id)
        parts.append([part.amount_minor for part in answer.parts])
    await builders.settle(db, builders.release(hold))

    assert parts == [[77, 23], [5, 2], [174, 52]]  # 76.9 + 23.1, 5.4 + 1.6, 173.8 + 52.2
    assert await builders.balance_and_held(db) == (400 - 256, 0)
    assert await builders.balance_and_held(db, POINTS, "PTS") == (120 - 77, 0)
    for transfer_id in captured:
        await builders.settle(db, builders.reverse(transfer_id, 3), builders.reverse(transfer_id))
    assert await builders.balance_and_held(db) == (400, 0)
    assert await lot_ids(db) == before
    assert await builders.balance_and_held(db, "revenue", "PTS") == (0, 0)
    assert await invariants.violations(db) == []


async def test_points_that_a_last_capture_leaves_can_be_spent_again(db: database.Database) -> None:
    hold = builders.place(10, also=90)
    await builders.settle(db, builders.paid(10), builders.grant(50, lasts_s=60), builders.grant(50, lasts_s=120), hold)

    await builders.settle(db, builders.capture(hold, 20))

    assert await builders.lots(db) == [(32, 0), (50, 0)]
    assert await builders.refusal_code(db, builders.spend(82)) is None
    assert await invariants.violations(db) == []


async def test_points_can_not_be_sent_to_another_user(db: database.Database) -> None:
    await builders.settle(db, builders.grant(100, lasts_s=60))

    assert await builders.refusal_code(db, builders.send(5, asset="PTS")) == "flow_not_allowed"

    assert await builders.lots(db) == [(100, 0)]
    assert await invariants.violations(db) == []


async def test_a_reversed_grant_debits_its_own_lot_as_far_as_it_is_not_spent(db: database.Database) -> None:
    granted = await builders.posted(db, builders.grant(100, lasts_s=60))
    await builders.settle(db, builders.grant(100, lasts_s=600), builders.spend(30))

    assert await builders.refusal_code(db, builders.reverse(granted)) == "insufficient_funds"
    assert await builders.refusal_code(db, builders.reverse(granted, 70)) is None

    assert await builders.lots(db) == [(100, 0)]
    assert await invariants.violations(db) == []


async def test_points_never_go_below_zero_even_where_an_overdraft_is_allowed(db: database.Database) -> None:
    limit = builders.account_command(ledger.SetOverdraft, POINTS, "PTS", overdraft_minor=50)
    await builders.settle(db, builders.grant(100, lasts_s=60), limit, builders.paid(5))

    assert await builders.refusal_code(db, builders.spend(101)) == "insufficient_funds"
    assert await builders.refusal_code(db, builders.place(5, also=101)) == "insufficient_funds"

    assert await builders.balance_and_held(db, WALLET) == (5, 0)
    assert await invariants.violations(db) == []
