"""Reversals as tables of cases: to the last unit, never more than once, and back to the lots that were spent."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import builders
import pytest
from builders import DEMO, OTHER, USER
from hypothesis import given
from hypothesis import strategies as st

from contracts import ledger
from ledger.domain import accounts, books, chart, lots, posted, transfers

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALLETS = [chart.user_account(DEMO, user, "RUB") for user in (USER, OTHER)]
POINTS = chart.user_account(DEMO, USER, "PTS")
REVENUE, POINT_REVENUE = (chart.system_account(DEMO, "revenue", asset) for asset in ("RUB", "PTS"))
ALL = (*WALLETS, POINTS, REVENUE, POINT_REVENUE)


def book_of(
    *legs: tuple[chart.AccountDefinition, int], days: tuple[int, ...] = ()
) -> tuple[books.Books, transfers.ReversibleTransfer]:
    """Books after one transfer of these legs, whose points were spent from lots that expire after so many days."""
    balances = dict(legs)
    opened = {
        opening: accounts.Account(
            accounts.AccountId(number), opening, accounts.AccountValues(10**9, balances.get(opening, 0))
        )
        for number, opening in enumerate(ALL, 1)
    }
    book = books.Books(opened.values(), at=NOW, new_id=uuid4)
    transfer = book.transfer(DEMO, "capture", "hold:1", "order:1", uuid4())
    spent = [
        lots.Lot(UUID(int=number), opened[POINTS].id, NOW + timedelta(days=day)) for number, day in enumerate(days)
    ]
    uses = [lots.LotAllocation(lot, -10) for lot in spent]
    opened[POINTS].own_lots = spent
    left = {opening.name: amount for opening, amount in legs}
    return book, transfers.ReversibleTransfer(transfer, transfers.Remaining(left, uses))


def reverse(
    book: books.Books, undone: transfers.ReversibleTransfer | None, amount_minor: int | None = None
) -> posted.PostedTransfer:
    command = builders.reverse(ledger.TransferId(uuid4()), amount_minor)
    return transfers.reverse(book, undone, command, event_id=uuid4())


def left(undone: transfers.ReversibleTransfer) -> list[int]:
    return list(undone.current.amounts.values())


def amounts(posted: posted.PostedTransfer) -> list[int]:
    return [line.amount_minor for line in posted.legs]


def test_a_reversal_puts_every_leg_back_and_names_what_it_undid() -> None:
    book, undone = book_of((WALLETS[0], -50), (REVENUE, 50))

    posted = reverse(book, undone)

    assert amounts(posted) == [50, -50]
    assert (posted.transfer.kind, posted.transfer.reverses) == ("reversal", undone.transfer.id)
    assert left(undone) == [0, 0]


@pytest.mark.parametrize(("first", "second"), [(None, None), (None, 1), (30, 21), (50, 1), (51, 51)])
def test_no_more_is_undone_than_there_was(first: int | None, second: int | None) -> None:
    book, undone = book_of((WALLETS[0], -50), (REVENUE, 50))
    if first != 51:
        reverse(book, undone, first)

    with pytest.raises(transfers.AlreadyReversed):
        reverse(book, undone, second)


def test_what_is_left_after_a_partial_reversal_is_undone_without_an_amount() -> None:
    book, undone = book_of((WALLETS[0], -50), (REVENUE, 50))
    reverse(book, undone, 20)

    assert amounts(reverse(book, undone)) == [30, -30]


def test_an_unknown_transfer_and_a_reversal_can_not_be_undone() -> None:
    book, undone = book_of((WALLETS[0], -50), (REVENUE, 50))
    undone.transfer = undone.transfer._replace(reverses=ledger.TransferId(uuid4()))

    with pytest.raises(transfers.UnknownTransfer):
        reverse(book, None)
    with pytest.raises(transfers.NotReversible):
        reverse(book, undone)


def test_a_part_of_a_transfer_of_money_and_points_is_undone_in_their_proportion() -> None:
    book, undone = book_of((WALLETS[0], -300), (REVENUE, 300), (POINTS, -120), (POINT_REVENUE, 120), days=(1,) * 12)

    assert amounts(reverse(book, undone, 100)) == [71, -71, 29, -29]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 9), st.lists(st.integers(1, 100), max_size=6))
def test_partial_reversals_end_where_the_whole_one_ends(one: int, other: int, tens: int, percents: list[int]) -> None:
    points = 10 * tens
    legs = [(WALLETS[0], -one), (WALLETS[1], -other), (REVENUE, one + other)]
    if points:
        legs += [(POINTS, -points), (POINT_REVENUE, points)]
    book, undone = book_of(*legs, days=(5,) * (points // 10))
    total = [0] * len(legs)

    for percent in (*percents, 100):
        before = left(undone)
        if not any(before):
            break
        reverse(book, undone, -(-sum(max(amount, 0) for amount in before) * percent // 100))
        for place, (was, now) in enumerate(zip(before, left(undone), strict=True)):
            assert abs(now) <= abs(was)
            assert was * now >= 0
            total[place] += was - now

    assert total == [amount for _, amount in legs]
    assert sum(lot.current.left_minor for lot in book.account(POINTS.name).own_lots) == points
    with pytest.raises(transfers.AlreadyReversed):
        reverse(book, undone)


def test_what_comes_back_goes_to_the_lots_that_were_spent_the_last_first() -> None:
    book, undone = book_of((POINTS, -20), (POINT_REVENUE, 20), days=(1, 2))

    reverse(book, undone, 15)

    assert [lot.current.left_minor for lot in book.account(POINTS.name).own_lots] == [5, 10]


def test_what_comes_back_to_a_lot_that_has_expired_can_be_spent_for_the_days_of_grace() -> None:
    book, undone = book_of((POINTS, -20), (POINT_REVENUE, 20), days=(-1, 2))

    reverse(book, undone)

    back = {
        lot.expires_at: lot.current.left_minor for lot in book.account(POINTS.name).own_lots if lot.current.left_minor
    }
    assert back == {NOW + timedelta(days=2): 10, NOW + lots.GRACE: 10}


def test_points_that_were_granted_are_taken_back_from_their_own_lot_or_not_at_all() -> None:
    book, undone = book_of((POINTS, 20), (POINT_REVENUE, -20), days=(1, 2))
    granted, another = book.account(POINTS.name).own_lots
    granted.current, another.current = lots.LotValues(12), lots.LotValues(8)
    undone.current = undone.current._replace(lot_uses=[lots.LotAllocation(granted, 20)])

    reverse(book, undone, 5)
    savepoint = book.savepoint()
    with pytest.raises(accounts.InsufficientFunds, match="spent already"):
        reverse(book, undone, 15)
    book.rollback_to(savepoint)

    assert [lot.current.left_minor for lot in (granted, another)] == [7, 8]
    assert left(undone) == [15, -15]
