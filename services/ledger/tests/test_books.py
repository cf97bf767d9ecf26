"""Accounts and transfers as tables of cases: what may move, what is refused, and that a refusal changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import builders
import pytest
from builders import DEMO, OTHER, USER
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, Currency
from ledger.domain import accounts, books, chart, double_entry, lots, posted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALLET = chart.user_account(DEMO, USER, "RUB")
OTHERS = chart.user_account(DEMO, OTHER, "RUB")
POINTS = chart.user_account(DEMO, USER, "PTS")
CLEARING = chart.system_account(DEMO, "clearing:yookassa:demo", "RUB")
REVENUE = chart.system_account(DEMO, "revenue", "RUB")
POINT_REVENUE = chart.system_account(DEMO, "revenue", "PTS")
PROMOTION = chart.system_account(DEMO, "promotion", "PTS")


def book_of(**balances: int) -> books.Books:
    """Make books with these balances of the wallet and the points, the points in one lot that never expires."""
    openings = (WALLET, OTHERS, POINTS, CLEARING, REVENUE, POINT_REVENUE, PROMOTION)
    loaded = [
        accounts.Account(
            accounts.AccountId(number),
            opening,
            accounts.AccountValues(opening.overdraft_minor, balances.get(opening.kind, 0) if opening != OTHERS else 0),
        )
        for number, opening in enumerate(openings, 1)
    ]
    if points := balances.get("points"):
        loaded[2].own_lots.append(lots.Lot(uuid4(), 3, None, lots.LotValues(points), loaded=lots.LotValues(points)))
    return books.Books(loaded, at=NOW, new_id=uuid4)


def changed(book: books.Books) -> list[accounts.Account]:
    return [account for account in book.accounts.values() if account.is_changed]


def move(book: books.Books, *legs: tuple[chart.AccountDefinition, int], **more: Any) -> posted.PostedTransfer:
    transfer = book.transfer(DEMO, "adjustment", str(uuid4()), "order:1", uuid4())
    return book.post(transfer, [double_entry.Leg(opening.name, amount) for opening, amount in legs], **more)


def test_a_transfer_changes_balance_sequence_and_version_of_each_account() -> None:
    book = book_of(wallet=100)

    posted = move(book, (CLEARING, -50), (WALLET, 50))

    legs = [
        (leg.account.definition.name, leg.amount_minor, *leg.after[1:5:2], leg.after.version) for leg in posted.legs
    ]
    assert legs == [(CLEARING.name, -50, -50, 1, 1), (WALLET.name, 50, 150, 1, 1)]
    assert len(book.postings) == 2
    assert changed(book) == []


def test_a_transfer_takes_effect_now_or_when_it_occurred() -> None:
    book = book_of()
    earlier = NOW - timedelta(days=40)

    now, then = (book.transfer(DEMO, "adjustment", "key", "order:1", uuid4(), occurred_at=at) for at in (None, earlier))

    assert (now.occurred_at, then.occurred_at) == (NOW, earlier)


@pytest.mark.parametrize("reference", ["order:1", 'Заказ «1» "\\\n'])
def test_a_posted_transfer_writes_the_same_json_as_its_contract(reference: str) -> None:
    original = ledger.TransferId(uuid4())
    for legs in ((CLEARING, WALLET), (CLEARING, REVENUE)):
        for reverses in (None, original):
            book = book_of()
            transfer = book.transfer(DEMO, "reversal", "key", reference, uuid4(), reverses=reverses)
            posted = book.post(transfer, [double_entry.Leg(legs[0].name, -50), double_entry.Leg(legs[1].name, 50)])

            contract = ledger.TransferPosted.model_validate_json(posted.model_dump_json())

            assert contract.model_dump_json() == posted.model_dump_json()
            assert contract.reverses == reverses
            for name in ("TYPE", "KIND", "IS_CONSUMED", "tenant", "subject", "partition_key", "sequence"):
                assert getattr(contract, name) == getattr(posted, name)


@pytest.mark.rule("W1")
@pytest.mark.parametrize(
    "legs",
    [
        pytest.param([(WALLET, -50), (REVENUE, 49)], id="unequal"),
        pytest.param([(WALLET, -50), (POINT_REVENUE, 50)], id="mixed assets"),
        pytest.param([(WALLET, -50), (WALLET, 50)], id="one account twice"),
        pytest.param([(WALLET, 0), (REVENUE, 0)], id="zero"),
        pytest.param([(WALLET, -50)], id="one leg"),
        pytest.param([], id="no leg"),
        pytest.param([(WALLET, -50), (REVENUE, 50), (OTHERS, 0)], id="zero among others"),
        pytest.param([(WALLET, -50), (REVENUE, 30), (POINT_REVENUE, 20)], id="equal over assets only"),
        pytest.param([(WALLET, -50), (REVENUE, 30), (REVENUE, 20)], id="one of three twice"),
    ],
)
def test_a_transfer_that_does_not_balance_is_refused(legs: list[tuple[chart.AccountDefinition, int]]) -> None:
    book = book_of(wallet=100)

    with pytest.raises(double_entry.Unbalanced):
        move(book, *legs)

    assert not book.postings


def test_one_transfer_may_move_several_assets_each_in_balance() -> None:
    book = book_of(wallet=100, points=100)

    posted = move(book, (WALLET, -60), (REVENUE, 60), (POINTS, -40), (POINT_REVENUE, 40))

    assert len(posted.legs) == 4
    assert [use.amount_minor for use in book.lot_uses] == [-40]


@pytest.mark.parametrize("overdraft_minor", [0, 1, 30, AMOUNT_MINOR_MAX - 100])
def test_an_account_can_be_spent_down_to_its_limit_and_no_further(overdraft_minor: int) -> None:
    exact, above = book_of(wallet=100), book_of(wallet=100)
    for book in (exact, above):
        account = book.account(WALLET.name)
        account.current = account.current._replace(overdraft_minor=overdraft_minor)

    move(exact, (WALLET, -100 - overdraft_minor), (REVENUE, 100 + overdraft_minor))
    with pytest.raises(accounts.InsufficientFunds):
        move(above, (WALLET, -101 - overdraft_minor), (REVENUE, 101 + overdraft_minor))

    assert exact.account(WALLET.name).current.available_minor == -overdraft_minor


def test_held_funds_can_not_be_spent() -> None:
    book = book_of(wallet=100)
    book.hold(book.account(WALLET.name), 60)

    move(book, (WALLET, -40), (REVENUE, 40))
    with pytest.raises(accounts.InsufficientFunds):
        move(book, (WALLET, -1), (REVENUE, 1))


def test_a_balance_can_grow_to_what_a_row_holds_and_no_further() -> None:
    book = book_of(wallet=AMOUNT_MINOR_MAX - 10)

    move(book, (CLEARING, -10), (WALLET, 10))
    with pytest.raises(accounts.BalanceOutOfRange):
        move(book, (CLEARING, -1), (WALLET, 1))

    assert book.account(WALLET.name).current.balance_minor == AMOUNT_MINOR_MAX


def test_an_account_that_was_never_opened_has_no_funds() -> None:
    with pytest.raises(accounts.InsufficientFunds):
        books.Books([], at=NOW, new_id=uuid4).account(WALLET.name)


@pytest.mark.parametrize(
    ("state", "action", "refusal"),
    [
        ("frozen", "take", accounts.AccountFrozen),
        ("frozen", "hold", accounts.AccountFrozen),
        ("frozen", "give", None),
        ("frozen", "free", None),
        ("closed", "take", accounts.AccountClosed),
        ("closed", "hold", accounts.AccountClosed),
        ("closed", "give", accounts.AccountClosed),
        ("open", "take", None),
        ("open", "give", None),
    ],
)
def test_changes_of_a_frozen_and_a_closed_account_are_allowed_or_refused(
    state: accounts.AccountStatus, action: str, refusal: type[errors.Refusal] | None
) -> None:
    book = book_of(wallet=100)
    account = book.account(WALLET.name)
    if action == "free":
        book.hold(account, 5)
    account.current = account.current._replace(state=state)
    actions: dict[str, Callable[[], object]] = {
        "take": lambda: move(book, (WALLET, -5), (REVENUE, 5)),
        "give": lambda: move(book, (CLEARING, -5), (WALLET, 5)),
        "hold": lambda: book.hold(account, 5),
        "free": lambda: book.release(account, 5, []),
    }

    if refusal is None:
        actions[action]()
    else:
        with pytest.raises(refusal):
            actions[action]()


@pytest.mark.parametrize("source", chart.FLOWS)
def test_value_flows_only_where_the_chart_lets_it_and_back_by_a_reversal(source: chart.Kind) -> None:
    for target in chart.FLOWS:
        asset: Currency = "PTS" if "points" in (source, target) else "RUB"
        one, other = _opening(source, USER, asset), _opening(target, OTHER, asset)
        if one is None or other is None:
            continue
        for is_reversal in (False, True):
            loaded = [
                accounts.Account(accounts.AccountId(number), opening, accounts.AccountValues(AMOUNT_MINOR_MAX))
                for number, opening in enumerate((one, other))
            ]
            loaded[0].own_lots.append(lots.Lot(uuid4(), 0, None, lots.LotValues(5)))
            book = books.Books(loaded, at=NOW, new_id=uuid4)
            if is_reversal or target in chart.FLOWS[source]:
                move(book, (one, -5), (other, 5), is_reversal=is_reversal)
            else:
                with pytest.raises(chart.FlowNotAllowed, match=f"{source} may not be moved to {target}"):
                    move(book, (one, -5), (other, 5))


def _opening(kind: chart.Kind, user_id: Any, asset: Currency) -> chart.AccountDefinition | None:
    if kind in chart.USERS:
        own = chart.user_account(DEMO, user_id, asset)
        return own if own.kind == kind else None
    return chart.system_account(DEMO, f"{kind}:{user_id.int}", asset)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "vault",
        "wallet",
        "points:1",
        "user:1:wallet",
        f"user:{USER}",
        f"user:{USER}:points",
        f"user:{USER}:wallet:more",
        f"user:{str(UUID(int=10)).upper()}:wallet",
        f"user:{{{USER}}}:wallet",
        "clearing:" + "x" * chart.CODE_MAX,
    ],
)
def test_an_account_that_is_not_in_the_chart_is_unknown(code: str) -> None:
    with pytest.raises(chart.UnknownAccount):
        chart.definition_of(chart.AccountName(DEMO, code, "RUB"))


def test_an_asset_that_is_not_counted_is_unknown() -> None:
    for code in ("revenue", builders.WALLET):
        with pytest.raises(chart.UnknownAsset, match="does not count in XYZ"):
            chart.definition_of(chart.AccountName(DEMO, code, "XYZ"))


def test_each_account_of_the_chart_is_found_by_its_own_name() -> None:
    for opening in (WALLET, POINTS, CLEARING, REVENUE):
        assert chart.definition_of(opening.name) == opening


def test_a_hold_that_was_released_leaves_two_new_versions() -> None:
    book = book_of(wallet=100)
    account = book.account(WALLET.name)
    book.release(account, 60, book.hold(account, 60))

    assert changed(book) == [account]
    assert (account.current.held_minor, account.current.version) == (0, 2)


def test_a_command_on_an_account_changes_its_state_and_not_its_version() -> None:
    book = book_of()

    account = book.account(WALLET.name)
    book.change(account, account.current.apply(builders.account_command(ledger.SetOverdraft, overdraft_minor=7)))

    assert (account.current.overdraft_minor, account.current.state, account.current.version) == (7, "open", 0)
    assert changed(book) == [book.account(WALLET.name)]


@given(st.data())
def test_what_is_rolled_back_never_happened(data: st.DataObject) -> None:
    book = book_of(wallet=100, points=100)
    _random_moves(data, book)
    before, savepoint = _standing(book), book.savepoint()

    _random_moves(data, book)
    book.rollback_to(savepoint)

    assert _standing(book) == before


def _random_moves(data: st.DataObject, book: books.Books) -> None:
    pairs = [(CLEARING, WALLET), (WALLET, REVENUE), (PROMOTION, POINTS), (POINTS, POINT_REVENUE), (WALLET, POINTS)]
    for source, target in data.draw(st.lists(st.sampled_from(pairs), max_size=5)):
        amount = data.draw(st.integers(1, 120))
        savepoint = book.savepoint()
        try:
            if data.draw(st.booleans()):
                move(book, (source, -amount), (target, amount))
            else:
                shares = book.hold(book.account(target.name), amount)
                book.release(book.account(target.name), amount, shares)
        except errors.Refusal:
            book.rollback_to(savepoint)


def _standing(book: books.Books) -> tuple[Any, ...]:
    all_lots = [lot for account in book.accounts.values() for lot in account.own_lots]
    return (
        [account.current for account in book.accounts.values()],
        [(lot.id, lot.current) for lot in all_lots if any(lot.current)],
        (list(book.transfers), list(book.postings), list(book.lot_uses)),
    )
