"""What is kept in lots, on a real database: spent soonest first, held beside money, and given back where it was."""

import asking
import asyncpg
import proof
import pytest
from asking import POINTS, WALLET

from chassis import database
from contracts import ledger
from ledger import timers
from ledger.domain import lots


async def lot_ids(db: database.Database) -> list[tuple[object, int]]:
    """Give the lots that have something left and how much, soonest to expire first."""
    found = await asking.rows(db, "SELECT id, left_minor FROM lot WHERE left_minor > 0 ORDER BY expires_at, id")
    return [(lot_id, left) for lot_id, left in found]


@pytest.mark.rule("W4")
@pytest.mark.rule("L7")
async def test_what_expires_is_spent_before_what_was_bought_the_soonest_first(db: database.Database) -> None:
    bought = asking.post(
        asking.transfer(asking.leg("clearing:demo", -100, "CRD"), asking.leg(POINTS, 100, "CRD"), kind="grant")
    )
    june, may = (asking.grant(100, lasts_s=lasts_s, asset="CRD") for lasts_s in (600, 300))
    await asking.settle(db, bought, june, may)

    await asking.settle(db, asking.spend(150, asset="CRD"))

    assert await asking.lots(db, asset="CRD") == [(50, 0), (100, 0)]
    await asking.settle(db, asking.spend(100, asset="CRD"))
    assert await asking.lots(db, asset="CRD") == [(50, 0)]
    assert await asking.rows(db, "SELECT 1 FROM lot WHERE left_minor = 50 AND expires_at IS NULL") == [(1,)]
    assert await proof.breaches(db) == []


@pytest.mark.rule("LE14")
async def test_the_soonest_to_expire_is_spent_first_and_a_refund_returns_to_the_lots_it_came_from(
    db: database.Database,
) -> None:
    await asking.settle(db, asking.grant(100, lasts_s=600), asking.grant(100, lasts_s=300), asking.grant(100))
    before = await lot_ids(db)
    transfer_id = await asking.posted(db, asking.spend(250))
    assert await asking.lots(db) == [(50, 0)]

    await asking.settle(db, asking.reverse(transfer_id, 120))
    assert await asking.lots(db) == [(70, 0), (100, 0)]
    await asking.settle(db, asking.reverse(transfer_id))

    assert await lot_ids(db) == before
    assert await proof.breaches(db) == []


async def test_what_is_granted_and_spent_at_once_can_be_given_back(db: database.Database) -> None:
    spend = asking.spend(40)
    _, spent = await asking.settle(db, asking.grant(40, lasts_s=300), spend)
    assert isinstance(spent.answer, ledger.RequestPosted)
    assert await asking.lots(db) == []

    await asking.settle(db, asking.reverse(spent.answer.transfer_ids[0]))

    assert await asking.lots(db) == [(40, 0)]
    assert await proof.breaches(db) == []


@pytest.mark.rule("L9")
async def test_what_expired_meanwhile_comes_back_with_days_of_grace(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await asking.settle(db, asking.grant(100, lasts_s=300), asking.grant(100, lasts_s=600))
    transfer_id = await asking.posted(db, asking.spend(150))
    await asking.pass_time(superuser, 300)

    await asking.settle(db, asking.reverse(transfer_id, 70), asking.reverse(transfer_id))

    assert await asking.lots(db) == [(100, 0), (20, 0), (80, 0)]
    days = await asking.rows(
        db,
        "SELECT extract(epoch FROM max(expires_at) - now()) / 86400 FROM lot JOIN account ON account.id = account_id",
    )
    assert lots.GRACE.days - 1 < days[0][0] <= lots.GRACE.days
    await asking.settle(db, asking.spend(200))
    assert await asking.lots(db) == []
    assert await proof.breaches(db) == []


async def test_what_came_back_with_grace_may_be_spent_before_the_rest_comes_back(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await asking.settle(db, asking.grant(100, lasts_s=300))
    transfer_id = await asking.posted(db, asking.spend(100))
    await asking.pass_time(superuser, 300)

    await asking.settle(db, asking.reverse(transfer_id, 60))
    await asking.settle(db, asking.spend(60))
    await asking.settle(db, asking.reverse(transfer_id))

    assert await asking.lots(db) == [(40, 0)]
    assert await proof.breaches(db) == []


async def test_a_lot_can_not_be_spent_from_the_very_second_on_though_no_sweep_has_come(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await asking.settle(db, asking.grant(100, lasts_s=300))
    await asking.pass_time(superuser, 300)

    assert await asking.code(db, asking.spend(1)) == "insufficient_funds"
    assert await asking.funds(db, POINTS, "PTS") == (100, 0)


async def test_what_is_held_does_not_expire_until_it_is_free_again(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    captured, released = (asking.place(10, also=20) for _ in range(2))
    await asking.settle(db, asking.paid(100), asking.grant(100, lasts_s=300), captured, released)
    await asking.pass_time(superuser, 300)

    swept = [await timers.expire_lots(db) for _ in range(2)]
    assert (swept, await asking.lots(db)) == ([1, 0], [(40, 40)])
    assert await asking.code(db, asking.capture(captured, 30)) is None
    await asking.settle(db, asking.release(released))
    swept = [await timers.expire_lots(db) for _ in range(2)]

    assert (swept, await asking.lots(db)) == ([1, 0], [])
    assert await asking.funds(db, "breakage", "PTS") == (80, 0)
    assert await proof.breaches(db) == []


async def test_lots_of_a_frozen_account_wait_until_it_is_unfrozen(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    frozen = asking.about(ledger.FreezeAccount, POINTS, "PTS")
    await asking.settle(db, asking.grant(100, lasts_s=300), frozen)
    await asking.pass_time(superuser, 300)

    assert await timers.expire_lots(db) == 0
    await asking.settle(db, asking.about(ledger.UnfreezeAccount, POINTS, "PTS"))
    assert await timers.expire_lots(db) == 1

    assert await asking.funds(db, POINTS, "PTS") == (0, 0)
    assert await asking.funds(db, "breakage", "PTS") == (100, 0)
    assert await proof.breaches(db) == []


@pytest.mark.parametrize(("money", "points"), [(99, 50), (100, 49), (100, 0)])
async def test_an_order_holds_money_and_points_or_neither(db: database.Database, money: int, points: int) -> None:
    await asking.settle(db, asking.paid(money), *([asking.grant(points, lasts_s=60)] if points else []))

    assert await asking.code(db, asking.place(100, also=50)) == "insufficient_funds"

    assert await asking.funds(db) == (money, 0)
    assert await asking.funds(db, POINTS, "PTS") == (points, 0)
    assert await proof.breaches(db) == []


@pytest.mark.rule("LE15")
async def test_capture_and_refund_of_money_and_points_keep_their_proportion_to_the_last_unit(
    db: database.Database,
) -> None:
    """An order of 333 and 100 points is captured and refunded in odd parts; in the end everything is where it was."""
    await asking.settle(db, asking.paid(400), asking.grant(60, lasts_s=60), asking.grant(60, lasts_s=120))
    before = await lot_ids(db)
    hold = asking.place(333, also=100)
    placed = await asking.ask(db, hold)
    assert [(part.account.asset, part.amount_minor) for part in placed.parts] == [("RUB", 333), ("PTS", 100)]
    assert await asking.code(db, asking.place(100, also=1)) == "insufficient_funds"

    captured, parts = [], []
    for number, amount_minor in enumerate((100, 7, 226), 1):
        said = await asking.ask(db, asking.capture(hold, amount_minor, part=number, keeps=True))
        captured.append(said.transfer_id)
        parts.append([part.amount_minor for part in said.parts])
    await asking.settle(db, asking.release(hold))

    assert parts == [[77, 23], [5, 2], [174, 52]]  # 76.9 + 23.1, 5.4 + 1.6, 173.8 + 52.2
    assert await asking.funds(db) == (400 - 256, 0)
    assert await asking.funds(db, POINTS, "PTS") == (120 - 77, 0)
    for transfer_id in captured:
        await asking.settle(db, asking.reverse(transfer_id, 3), asking.reverse(transfer_id))
    assert await asking.funds(db) == (400, 0)
    assert await lot_ids(db) == before
    assert await asking.funds(db, "revenue", "PTS") == (0, 0)
    assert await proof.breaches(db) == []


async def test_what_a_last_capture_leaves_of_the_points_can_be_spent_again(db: database.Database) -> None:
    hold = asking.place(10, also=90)
    await asking.settle(db, asking.paid(10), asking.grant(50, lasts_s=60), asking.grant(50, lasts_s=120), hold)

    await asking.settle(db, asking.capture(hold, 20))

    assert await asking.lots(db) == [(32, 0), (50, 0)]
    assert await asking.code(db, asking.spend(82)) is None
    assert await proof.breaches(db) == []


async def test_points_can_not_be_sent_to_another_user(db: database.Database) -> None:
    await asking.settle(db, asking.grant(100, lasts_s=60))

    assert await asking.code(db, asking.send(5, asset="PTS")) == "flow_not_allowed"

    assert await asking.lots(db) == [(100, 0)]
    assert await proof.breaches(db) == []


async def test_what_was_granted_is_taken_back_from_its_own_lot_as_far_as_it_is_not_spent(db: database.Database) -> None:
    granted = await asking.posted(db, asking.grant(100, lasts_s=60))
    await asking.settle(db, asking.grant(100, lasts_s=600), asking.spend(30))

    assert await asking.code(db, asking.reverse(granted)) == "insufficient_funds"
    assert await asking.code(db, asking.reverse(granted, 70)) is None

    assert await asking.lots(db) == [(100, 0)]
    assert await proof.breaches(db) == []


async def test_points_never_go_below_zero_even_where_an_overdraft_is_allowed(db: database.Database) -> None:
    limit = asking.about(ledger.SetOverdraft, POINTS, "PTS", overdraft_minor=50)
    await asking.settle(db, asking.grant(100, lasts_s=60), limit, asking.paid(5))

    assert await asking.code(db, asking.spend(101)) == "insufficient_funds"
    assert await asking.code(db, asking.place(5, also=101)) == "insufficient_funds"

    assert await asking.funds(db, WALLET) == (5, 0)
    assert await proof.breaches(db) == []
