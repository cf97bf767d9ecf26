"""Lots and allocation: the first to expire first, and no unit lost however often an amount is allocated."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import allocation, lots

NOW = datetime(2026, 1, 1, tzinfo=UTC)

any_lot = st.builds(
    lambda number, days, left, held: lots.Lot(
        UUID(int=number),
        1,
        None if days is None else NOW + timedelta(days=days),
        lots.LotValues(left, min(left, held)),
    ),
    st.integers(0, 1_000),
    st.none() | st.integers(-3, 3),
    st.integers(0, 100),
    st.integers(0, 100),
)


def lot(number: int, days: float | None, left_minor: int, held_minor: int = 0) -> lots.Lot:
    expires_at = None if days is None else NOW + timedelta(days)
    return lots.Lot(UUID(int=number), 1, expires_at, lots.LotValues(left_minor, held_minor))


def taken(shares_of: list[lots.LotAllocation] | None) -> list[tuple[int, int]] | None:
    return None if shares_of is None else [(share.lot.id.int, share.amount_minor) for share in shares_of]


def test_the_lot_that_expires_first_is_spent_first_and_one_that_never_expires_last() -> None:
    kept = [lot(1, None, 100), lot(2, 30, 100), lot(3, 1, 100)]

    assert taken(lots.allocate_free(kept, 250, at=NOW)) == [(3, 100), (2, 100), (1, 50)]


def test_lots_that_expire_together_are_spent_in_the_order_of_their_ids() -> None:
    assert taken(lots.allocate_free([lot(2, 1, 10), lot(1, 1, 10)], 15, at=NOW)) == [(1, 10), (2, 5)]


@pytest.mark.parametrize(("seconds", "expected"), [(-1, None), (0, None), (1, [(1, 5)])])
def test_a_lot_expires_at_its_time(seconds: int, expected: object) -> None:
    assert taken(lots.allocate_free([lot(1, seconds / 86_400, 5)], 5, at=NOW)) == expected


def test_held_amounts_are_not_spent() -> None:
    assert taken(lots.allocate_free([lot(1, 1, 10, held_minor=7), lot(2, 2, 10)], 5, at=NOW)) == [(1, 3), (2, 2)]


@given(st.lists(any_lot, max_size=6), st.integers(1, 400))
def test_an_allocation_is_exact_and_takes_free_lots_in_order(kept: list[lots.Lot], amount_minor: int) -> None:
    chosen = lots.allocate_free(kept, amount_minor, at=NOW)

    free_minor = sum(each.current.free_minor for each in kept if not each.has_expired(NOW))
    assert (chosen is None) == (free_minor < amount_minor)
    for share in chosen or []:
        assert 0 < share.amount_minor <= share.lot.current.free_minor
        assert not share.lot.has_expired(NOW)
    if chosen:
        assert sum(share.amount_minor for share in chosen) == amount_minor
        assert all(share.amount_minor == share.lot.current.free_minor for share in chosen[:-1])
        ends = [share.lot.expires_at or datetime.max.replace(tzinfo=UTC) for share in chosen]
        assert all(one <= other for one, other in pairwise(ends))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.data())
def test_a_part_and_its_remainder_are_the_whole(amounts: list[int], data: st.DataObject) -> None:
    held = [lots.LotAllocation(lot(number, None, amount), amount) for number, amount in enumerate(amounts)]
    part_minor = data.draw(st.integers(0, sum(amounts)))

    part = lots.first_part(held, part_minor)
    rest = lots.subtract(held, part)

    by_lot = dict.fromkeys((share.lot for share in held), 0)
    for share in part + rest:
        assert share.amount_minor > 0
        by_lot[share.lot] += share.amount_minor
    assert sum(share.amount_minor for share in part) == part_minor
    assert by_lot == {share.lot: share.amount_minor for share in held}


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6), st.data())
def test_an_allocation_is_exact_in_proportion_and_above_no_weight(weights: list[int], data: st.DataObject) -> None:
    amount_minor = data.draw(st.integers(0, sum(weights)))

    parts = allocation.allocate(amount_minor, weights)

    assert sum(parts) == amount_minor
    for part, weight in zip(parts, weights, strict=True):
        assert 0 <= part <= weight
        assert abs(part * sum(weights) - amount_minor * weight) < max(sum(weights), 1)


def test_the_largest_remainder_gets_the_unit_and_the_first_of_equals() -> None:
    assert allocation.allocate(100, [300, 120]) == [71, 29]
    assert allocation.allocate(1, [5, 5, 5]) == [1, 0, 0]
    assert allocation.allocate(0, [0, 0]) == [0, 0]


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=4), st.lists(st.integers(0, 100), max_size=9))
def test_allocating_step_by_step_uses_up_every_part(weights: list[int], percents: list[int]) -> None:
    left = list(weights)
    for percent in (*percents, 100):
        parts = allocation.allocate(-(-sum(left) * percent // 100), left)
        left = [there - part for there, part in zip(left, parts, strict=True)]
        assert min(left) >= 0

    assert left == [0] * len(weights)
