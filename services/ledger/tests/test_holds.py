"""Holds as tables of cases: what is held and released, how a hold ends, and how captures are allocated to two parts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import builders
import pytest
from builders import DEMO, USER
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, Money
from ledger.domain import accounts, books, chart, holds, lots, posted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALLET = chart.user_account(DEMO, USER, "RUB")
POINTS = chart.user_account(DEMO, USER, "PTS")
REVENUES = [chart.system_account(DEMO, "revenue", asset) for asset in ("RUB", "PTS")]


def book_of(wallet: int, *points: int, at: datetime = NOW) -> books.Books:
    """Make books with a wallet, and points in lots of these amounts that expire day by day."""
    balances = {WALLET: wallet, POINTS: sum(points)}
    loaded = [
        accounts.Account(accounts.AccountId(number), opening, accounts.AccountValues(0, balances.get(opening, 0)))
        for number, opening in enumerate((WALLET, POINTS, *REVENUES), 1)
    ]
    for day, amount_minor in enumerate(points, 1):
        loaded[1].own_lots.append(lots.Lot(UUID(int=day), 2, NOW + timedelta(days=day), lots.LotValues(amount_minor)))
    return books.Books(loaded, at=at, new_id=uuid4)


def new_hold(amount_minor: int, also: int | None = None) -> holds.Hold:
    return holds.from_command(builders.place(amount_minor, also=also, expires_at=NOW + timedelta(minutes=15)))


def placed(book: books.Books, amount_minor: int, also: int | None = None) -> holds.Hold:
    hold = new_hold(amount_minor, also)
    holds.place(book, hold)
    return hold


def capture(
    book: books.Books, hold: holds.Hold, amount_minor: int, *, keeps: bool = False
) -> tuple[posted.PostedTransfer, ledger.HoldCaptured]:
    command = ledger.CaptureHold(
        tenant=DEMO, hold_id=hold.id, amount_minor=amount_minor, capture_id=uuid4(), keep_rest=keeps
    )
    return holds.capture(book, hold, command, event_id=uuid4())


def balances_and_held(book: books.Books) -> list[tuple[int, int]]:
    """Return balance and held of the wallet and of the points."""
    return [account.current[1:3] for account in list(book.accounts.values())[:2]]


def lots_left(book: books.Books) -> list[tuple[int, int]]:
    return [lot.current for lot in book.account(POINTS.name).own_lots]


def test_a_hold_lowers_what_is_available_and_not_the_balance() -> None:
    book = book_of(100)

    event = holds.place(book, new_hold(75))

    assert (event.account.balance_minor, event.account.held_minor, event.account.version) == (100, 75, 1)
    assert (event.amount.amount_minor, event.parts) == (75, ())
    assert not book.postings


def test_a_hold_can_take_all_that_is_available_and_no_more() -> None:
    book = book_of(150)
    placed(book, 50)

    placed(book, 100)
    with pytest.raises(accounts.InsufficientFunds):
        placed(book, 1)


def test_a_hold_without_a_wallet_is_refused_as_insufficient_funds() -> None:
    with pytest.raises(accounts.InsufficientFunds):
        holds.place(books.Books([], at=NOW, new_id=uuid4), new_hold(1))


@pytest.mark.parametrize("late_s", [0, 1])
def test_a_hold_whose_time_is_over_already_is_refused(late_s: int) -> None:
    with pytest.raises(holds.HoldEnded, match="before it could be placed"):
        placed(book_of(100, at=NOW + timedelta(minutes=15, seconds=late_s)), 75)


def test_points_are_held_on_the_lots_that_expire_first() -> None:
    book = book_of(100, 30, 30, 30)

    hold = placed(book, 10, also=50)

    assert lots_left(book) == [(30, 30), (30, 20), (30, 0)]
    assert [share.amount_minor for share in hold.current.parts[1].allocations] == [30, 20]
    assert balances_and_held(book) == [(100, 10), (90, 50)]


@pytest.mark.parametrize(("wallet", "points"), [(99, 50), (100, 49)])
def test_both_parts_are_held_or_neither(wallet: int, points: int) -> None:
    book = book_of(wallet, points)

    savepoint = book.savepoint()
    with pytest.raises(accounts.InsufficientFunds):
        placed(book, 100, also=50)
    book.rollback_to(savepoint)

    assert balances_and_held(book) == [(wallet, 0), (points, 0)]
    assert lots_left(book) == [(points, 0)]


def test_two_parts_on_one_account_are_refused() -> None:
    command = builders.place(5, also=5, expires_at=NOW + timedelta(minutes=15))
    twice = command.model_copy(update={"also": Money(amount_minor=5, currency="RUB")})

    with pytest.raises(holds.PartsNotHoldable):
        holds.place(book_of(100), holds.from_command(twice))


def test_parts_that_are_too_large_together_are_refused() -> None:
    book = book_of(AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)

    with pytest.raises(holds.PartsNotHoldable):
        placed(book, AMOUNT_MINOR_MAX, also=1)
    assert placed(book, AMOUNT_MINOR_MAX - 1, also=1).current.left_minor == AMOUNT_MINOR_MAX


def test_parts_that_count_in_different_units_cannot_be_held_together() -> None:
    stars = Money(amount_minor=5, currency="XTR")
    command = builders.place(5, also=5, expires_at=NOW + timedelta(minutes=15)).model_copy(update={"amount": stars})

    with pytest.raises(holds.PartsNotHoldable):
        holds.place(book_of(100, 100), holds.from_command(command))


@pytest.mark.parametrize("amount_minor", [75, 1])
def test_a_capture_takes_its_amount_and_releases_the_rest(amount_minor: int) -> None:
    book = book_of(100)
    hold = placed(book, 75)

    posted, event = capture(book, hold, amount_minor)

    assert (event.amount.amount_minor, event.remaining_minor, hold.current.state) == (amount_minor, 0, "captured")
    assert balances_and_held(book)[0] == (100 - amount_minor, 0)
    leg = posted.legs[0]
    assert (event.account.balance_minor, event.account.version) == (leg.after.balance_minor, leg.after.version)
    assert posted.transfer.reference == "order:1"


def test_several_captures_take_what_is_kept_for_them() -> None:
    book = book_of(100)
    hold = placed(book, 75)

    remaining = [capture(book, hold, amount, keeps=True)[1].remaining_minor for amount in (20, 30, 25)]

    assert (remaining, hold.current.state, hold.current.captured_minor) == ([55, 25, 0], "captured", 75)
    assert balances_and_held(book)[0] == (25, 0)


@pytest.mark.parametrize("keeps", [True, False])
def test_capture_above_what_is_still_held_is_refused(*, keeps: bool) -> None:
    book = book_of(100)
    hold = placed(book, 75)
    capture(book, hold, 50, keeps=True)

    with pytest.raises(holds.CaptureAboveHold, match="Still held are 25, requested were 26"):
        capture(book, hold, 26, keeps=keeps)

    assert balances_and_held(book)[0] == (50, 25)


def _ended(book: books.Books, hold: holds.Hold, how: str) -> None:
    ends: dict[str, Callable[[], object]] = {
        "captured": lambda: capture(book, hold, 75),
        "released": lambda: holds.release(book, hold),
        "expired": lambda: holds.expire(book, hold),
    }
    ends[how]()


@pytest.mark.parametrize("how", ["captured", "released", "expired"])
def test_the_end_of_a_hold_is_final(how: str) -> None:
    book = book_of(100)
    hold = placed(book, 75)
    _ended(book, hold, how)
    ending, before = hold.current.ending, balances_and_held(book)

    with pytest.raises(holds.HoldEnded):
        capture(book, hold, 1)
    with pytest.raises(holds.HoldEnded):
        holds.extend(book, hold, NOW + timedelta(days=1))

    assert (hold.current.state, holds.release(book, hold)) == (how, ending)
    assert balances_and_held(book) == before


@pytest.mark.parametrize(("seconds", "ends"), [(-0.000001, False), (0, True), (1, True)])
def test_a_hold_ends_at_its_time_even_before_the_timer_expires_it(seconds: float, *, ends: bool) -> None:
    book = book_of(100)
    hold = placed(book, 75)
    book.now = hold.current.expires_at + timedelta(seconds=seconds)

    acts: tuple[Callable[[], object], ...] = (
        lambda: holds.extend(book, hold, hold.current.expires_at),
        lambda: capture(book, hold, 75),
    )
    for act in acts:
        if ends:
            with pytest.raises(holds.HoldEnded):
                act()
        else:
            act()


def test_a_hold_is_extended_and_never_shortened() -> None:
    book = book_of(100)
    hold = placed(book, 75)
    later = hold.current.expires_at + timedelta(hours=1)

    event = holds.extend(book, hold, later)
    with pytest.raises(holds.HoldNotExtended):
        holds.extend(book, hold, later - timedelta(seconds=1))

    assert (event.expires_at, hold.current.expires_at, event.amount.amount_minor) == (later, later, 75)


@pytest.mark.parametrize("end", [holds.release, holds.expire])
def test_both_parts_of_a_hold_are_released_to_their_lots(end: Any) -> None:
    book = book_of(300, 100, 100)
    hold = placed(book, 300, also=120)
    capture(book, hold, 210, keeps=True)

    event = end(book, hold)

    assert event.amount.amount_minor == 210
    assert [part.amount_minor for part in event.parts] == [150, 60]
    assert balances_and_held(book) == [(150, 0), (140, 0)]
    assert lots_left(book) == [(40, 0), (100, 0)]


def test_a_part_without_a_captured_amount_is_released_too() -> None:
    book = book_of(100, 1)
    hold = placed(book, 100, also=1)

    posted, event = capture(book, hold, 10)

    assert [part.amount_minor for part in event.parts] == [10, 0]
    assert balances_and_held(book) == [(90, 0), (1, 0)]
    assert event.parts[1].account.held_minor == 0
    assert len(posted.legs) == 2


def test_a_part_that_was_used_up_earlier_is_left_alone() -> None:
    book = book_of(100, 1)
    hold = placed(book, 3, also=1)
    capture(book, hold, 2, keeps=True)
    assert [part.left_minor for part in hold.current.parts] == [1, 1]
    capture(book, hold, 1, keeps=True)
    used_up = next(part for part in hold.current.parts if not part.left_minor)
    account = book.account(used_up.name)
    account.current = before = account.current._replace(state="closed")

    capture(book, hold, 1)

    assert (hold.current.state, account.current) == ("captured", before)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.lists(st.integers(1, 100), max_size=6))
def test_every_capture_keeps_the_proportion_and_no_unit_is_lost(amount: int, also: int, percents: list[int]) -> None:
    book = book_of(amount, also)
    hold = placed(book, amount, also=also)
    taken = [0, 0]

    for percent in (*percents, 100):
        left = [part.left_minor for part in hold.current.parts]
        captured_minor = -(-sum(left) * percent // 100)
        if not captured_minor:
            break
        _, event = capture(book, hold, captured_minor, keeps=True)
        parts = [part.amount_minor for part in event.parts]
        assert sum(parts) == captured_minor
        for part, there in zip(parts, left, strict=True):
            assert abs(part * sum(left) - captured_minor * there) < sum(left)  # within one unit of the exact share
        taken = [one + other for one, other in zip(taken, parts, strict=True)]

    assert taken == [amount, also]
    assert balances_and_held(book) == [(0, 0), (0, 0)]
    assert [book.account(revenue.name).current.balance_minor for revenue in REVENUES] == [amount, also]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.data())
def test_what_is_not_captured_is_released_to_the_last_unit(amount: int, also: int, data: st.DataObject) -> None:
    book = book_of(amount, also)
    hold = placed(book, amount, also=also)
    captured_minor = data.draw(st.integers(1, amount + also))

    _, event = capture(book, hold, captured_minor)

    assert balances_and_held(book) == [
        (amount - event.parts[0].amount_minor, 0),
        (also - event.parts[1].amount_minor, 0),
    ]
    assert lots_left(book) == [(also - event.parts[1].amount_minor, 0)]


def test_a_capture_that_revenue_can_not_take_is_refused() -> None:
    book = book_of(100)
    revenue = book.account(REVENUES[0].name)
    revenue.current = revenue.current._replace(balance_minor=AMOUNT_MINOR_MAX)
    hold = placed(book, 75)

    with pytest.raises(errors.Refusal) as refused:
        capture(book, hold, 75)

    assert refused.value.code == "balance_out_of_range"
