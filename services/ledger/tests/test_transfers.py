"""Reversals as tables of cases: to the last unit, never more than was posted, and back to the lots that were spent."""

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
    """Make books after one transfer of these legs, its points spent from lots that expire after so many days."""
    balances = dict(legs)
    loaded = {
        opening: accounts.Account(
            accounts.AccountId(number), opening, accounts.AccountValues(10**9, balances.get(opening, 0))
        )
        for number, opening in enumerate(ALL, 1)
    }
    book = books.Books(loaded.values(), at=NOW, new_id=uuid4)
    transfer = book.transfer(DEMO, "capture", "hold:1", "order:1", uuid4())
    spent = [
        lots.Lot(UUID(int=number), loaded[POINTS].id, NOW + timedelta(days=day)) for number, day in enumerate(days)
    ]
    uses = [lots.LotAllocation(lot, -10) for lot in spent]
    loaded[POINTS].own_lots = spent
    left = {opening.name: amount for opening, amount in legs}
    return book, transfers.ReversibleTransfer(transfer, transfers.Remaining(left, uses))


def reverse(
    book: books.Books, original: transfers.ReversibleTransfer | None, amount_minor: int | None = None
) -> posted.PostedTransfer:
    command = builders.reverse(ledger.TransferId(uuid4()), amount_minor)
    return transfers.reverse(book, original, command, event_id=uuid4())


def left(original: transfers.ReversibleTransfer) -> list[int]:
    return list(original.current.amounts.values())


def amounts(posted: posted.PostedTransfer) -> list[int]:
    return [line.amount_minor for line in posted.legs]


def test_a_reversal_reverses_every_leg_and_names_its_original() -> None:
    book, original = book_of((WALLETS[0], -50), (REVENUE, 50))

    posted = reverse(book, original)

    assert amounts(posted) == [50, -50]
    assert (posted.transfer.kind, posted.transfer.reverses) == ("reversal", original.transfer.id)
    assert left(original) == [0, 0]


@pytest.mark.parametrize(("first", "second"), [(None, None), (None, 1), (30, 21), (50, 1), (51, 51)])
def test_no_more_is_reversed_than_was_posted(first: int | None, second: int | None) -> None:
    book, original = book_of((WALLETS[0], -50), (REVENUE, 50))
    if first != 51:
        reverse(book, original, first)

    with pytest.raises(transfers.AlreadyReversed):
        reverse(book, original, second)


def test_a_reversal_without_an_amount_reverses_what_is_left() -> None:
    book, original = book_of((WALLETS[0], -50), (REVENUE, 50))
    reverse(book, original, 20)

    assert amounts(reverse(book, original)) == [30, -30]


def test_an_unknown_transfer_and_a_reversal_can_not_be_reversed() -> None:
    book, original = book_of((WALLETS[0], -50), (REVENUE, 50))
    original.transfer = original.transfer._replace(reverses=ledger.TransferId(uuid4()))

    with pytest.raises(transfers.UnknownTransfer):
        reverse(book, None)
    with pytest.raises(transfers.NotReversible):
        reverse(book, original)


def test_a_part_of_a_transfer_of_money_and_points_is_reversed_in_proportion() -> None:
    book, original = book_of((WALLETS[0], -300), (REVENUE, 300), (POINTS, -120), (POINT_REVENUE, 120), days=(1,) * 12)

    assert amounts(reverse(book, original, 100)) == [71, -71, 29, -29]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 9), st.lists(st.integers(1, 100), max_size=6))
def test_partial_reversals_end_where_the_whole_one_ends(one: int, other: int, tens: int, percents: list[int]) -> None:
    points = 10 * tens
    legs = [(WALLETS[0], -one), (WALLETS[1], -other), (REVENUE, one + other)]
    if points:
        legs += [(POINTS, -points), (POINT_REVENUE, points)]
    book, original = book_of(*legs, days=(5,) * (points // 10))
    total = [0] * len(legs)

    for percent in (*percents, 100):
        before = left(original)
        if not any(before):
            break
        reverse(book, original, -(-sum(max(amount, 0) for amount in before) * percent // 100))
        for place, (earlier, later) in enumerate(zip(before, left(original), strict=True)):
            assert abs(later) <= abs(earlier)
            assert earlier * later >= 0
            total[place] += earlier - later

    assert total == [amount for _, amount in legs]
    assert sum(lot.current.left_minor for lot in book.account(POINTS.name).own_lots) == points
    with pytest.raises(transfers.AlreadyReversed):
        reverse(book, original)


def test_a_reversal_refunds_the_lots_that_were_spent_the_last_first() -> None:
    book, original = book_of((POINTS, -20), (POINT_REVENUE, 20), days=(1, 2))

    reverse(book, original, 15)

    assert [lot.current.left_minor for lot in book.account(POINTS.name).own_lots] == [5, 10]


def test_a_reversal_gives_an_expired_lot_a_grace_period() -> None:
    book, original = book_of((POINTS, -20), (POINT_REVENUE, 20), days=(-1, 2))

    reverse(book, original)

    back = {
        lot.expires_at: lot.current.left_minor for lot in book.account(POINTS.name).own_lots if lot.current.left_minor
    }
    assert back == {NOW + timedelta(days=2): 10, NOW + lots.GRACE: 10}


def test_a_reversed_grant_debits_its_own_lot_or_is_refused() -> None:
    book, original = book_of((POINTS, 20), (POINT_REVENUE, -20), days=(1, 2))
    granted, another = book.account(POINTS.name).own_lots
    granted.current, another.current = lots.LotValues(12), lots.LotValues(8)
    original.current = original.current._replace(lot_uses=[lots.LotAllocation(granted, 20)])

    reverse(book, original, 5)
    savepoint = book.savepoint()
    with pytest.raises(accounts.InsufficientFunds, match="spent already"):
        reverse(book, original, 15)
    book.rollback_to(savepoint)

    assert [lot.current.left_minor for lot in (granted, another)] == [7, 8]
    assert left(original) == [15, -15]
