"""The decisions of the ledger, as tables of cases and as a machine that plays them against a plain dictionary."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts import ledger, payments
from contracts.message import AMOUNT_MINOR_MAX, Money, TenantId, UserId
from ledger.domain import books, holds

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALLET = books.wallet(DEMO, USER, "RUB")
REVENUE = books.revenue(DEMO, "RUB")
CLEARING = books.clearing(DEMO, "yookassa", "demo", "RUB")


def account(opening: books.Opening, *, number: int = 1, balance_minor: int = 0, held_minor: int = 0) -> books.Account:
    return books.Account(
        books.AccountId(number), opening.name, opening.owner, opening.overdraft_minor, balance_minor, held_minor, 0, 0
    )


def books_with(balance_minor: int, held_minor: int = 0) -> books.Books:
    return books.Books(
        [
            account(WALLET, number=1, balance_minor=balance_minor, held_minor=held_minor),
            account(REVENUE, number=2),
            account(CLEARING, number=3),
        ]
    )


def transfer(kind: ledger.TransferKind = "top_up") -> books.Transfer:
    return books.Transfer(ledger.TransferId(uuid4()), DEMO, kind, "payment:1", "payment:1", NOW, uuid4())


def asked(amount_minor: int, **changes: object) -> ledger.PlaceHold:
    command = ledger.PlaceHold(
        tenant=DEMO,
        hold_id=ledger.HoldId(UUID(int=7)),
        user_id=USER,
        amount=Money(amount_minor=amount_minor, currency="RUB"),
        reference="order:1",
        expires_at=NOW + timedelta(minutes=15),
    )
    return command.model_copy(update=changes)


def captured(book: books.Books, hold: holds.Hold, amount_minor: int, *, at: datetime = NOW) -> holds.Capture:
    transfer_id = ledger.TransferId(uuid4())
    return holds.capture(book, hold, amount_minor, transfer_id=transfer_id, event_id=uuid4(), at=at)


def test_a_transfer_changes_balance_sequence_and_version_of_each_account() -> None:
    book = books_with(100)

    posted = book.post(transfer(), (books.Leg(CLEARING.name, -50), books.Leg(WALLET.name, 50)))

    assert [(account.name, amount_minor, account.balance_minor) for account, amount_minor in posted.lines] == [
        (CLEARING.name, -50, -50),
        (WALLET.name, 50, 150),
    ]
    assert [(account.sequence, account.version) for account, _ in posted.lines] == [(1, 1), (1, 1)]
    assert len(book.postings) == len(book.changed()) == 2


def test_what_is_posted_is_said_exactly_as_the_contract_would_say_it() -> None:
    for posted in (
        books_with(0).post(transfer(), (books.Leg(CLEARING.name, -50), books.Leg(WALLET.name, 50))),
        books_with(0).post(transfer(), (books.Leg(CLEARING.name, -50), books.Leg(REVENUE.name, 50))),
    ):
        contract = ledger.TransferPosted.model_validate_json(posted.model_dump_json())

        assert contract.model_dump_json() == posted.model_dump_json()
        for name in ("TYPE", "KIND", "tenant", "subject", "partition_key", "sequence"):
            assert getattr(contract, name) == getattr(posted, name)


@pytest.mark.rule("LE1")
@pytest.mark.parametrize(
    "legs",
    [
        (books.Leg(CLEARING.name, -50), books.Leg(WALLET.name, 49)),
        (books.Leg(CLEARING.name, -50), books.Leg(books.wallet(DEMO, USER, "USD").name, 50)),
        (books.Leg(WALLET.name, -50), books.Leg(WALLET.name, 50)),
    ],
)
def test_a_transfer_that_does_not_balance_is_a_defect(legs: tuple[books.Leg, ...]) -> None:
    book = books_with(100)

    with pytest.raises(AssertionError):
        book.post(transfer(), legs)

    assert not book.postings


@pytest.mark.rule("LE7")
def test_a_wallet_can_be_spent_to_zero_and_no_further() -> None:
    exact, above = books_with(100), books_with(100)

    exact.post(transfer("capture"), (books.Leg(WALLET.name, -100), books.Leg(REVENUE.name, 100)))
    with pytest.raises(books.InsufficientFunds):
        above.post(transfer("capture"), (books.Leg(REVENUE.name, 101), books.Leg(WALLET.name, -101)))

    assert not above.postings
    assert not above.changed()


def test_a_balance_can_grow_to_what_a_row_holds_and_no_further() -> None:
    book = books_with(AMOUNT_MINOR_MAX - 10)

    book.post(transfer(), (books.Leg(CLEARING.name, -10), books.Leg(WALLET.name, 10)))
    with pytest.raises(books.BalanceOutOfRange):
        book.post(transfer(), (books.Leg(CLEARING.name, -1), books.Leg(WALLET.name, 1)))

    wallet = book.account(WALLET.name)
    assert wallet is not None
    assert wallet.balance_minor == AMOUNT_MINOR_MAX
    assert len(book.postings) == 2


@pytest.mark.rule("LE5")
def test_the_natural_key_is_the_payment_whatever_event_carries_it() -> None:
    paid = payments.PaymentPaid(
        tenant=DEMO,
        payment_id=payments.PaymentId(UUID(int=9)),
        user_id=USER,
        purpose="top_up",
        provider="yookassa",
        amount=Money(amount_minor=5, currency="RUB"),
        version=2,
        provider_account="demo",
        provider_ref="ref",
        paid_at=NOW,
        accepted_at=NOW,
    )
    late = payments.PaymentPaidLate(**paid.model_dump())

    keys = {
        books.top_up(event, transfer_id=ledger.TransferId(uuid4()), event_id=uuid4()).transfer.source_key
        for event in (paid, late)
    }

    assert keys == {f"payment:{UUID(int=9)}"}


@pytest.mark.rule("LE6")
def test_a_hold_lowers_what_is_available_and_not_the_balance() -> None:
    book = books_with(100)

    hold = holds.place(book, asked(75), at=NOW)

    assert isinstance(hold.answer, ledger.HoldPlaced)
    assert (hold.answer.account.balance_minor, hold.answer.account.held_minor) == (100, 75)
    assert hold.answer.account.version == 1
    assert not book.postings


@pytest.mark.rule("LE6")
@pytest.mark.parametrize(("amount_minor", "state"), [(100, "placed"), (101, "refused")])
def test_a_hold_can_take_all_that_is_available_and_no_more(amount_minor: int, state: str) -> None:
    hold = holds.place(books_with(150, held_minor=50), asked(amount_minor), at=NOW)

    assert hold.state == state


def test_a_hold_without_a_wallet_is_refused_as_insufficient_funds() -> None:
    hold = holds.place(books.Books([]), asked(1), at=NOW)

    assert isinstance(hold.answer, ledger.HoldRefused)
    assert hold.answer.code == "insufficient_funds"


def test_a_hold_whose_time_is_already_over_is_refused() -> None:
    hold = holds.place(books_with(100), asked(75, expires_at=NOW), at=NOW)

    assert isinstance(hold.answer, ledger.HoldRefused)
    assert hold.answer.code == "hold_ended"


@pytest.mark.rule("LE4")
@pytest.mark.parametrize("balance_minor", [100, 0])
def test_the_same_command_again_gets_the_same_answer(balance_minor: int) -> None:
    hold = holds.place(books_with(balance_minor), asked(75), at=NOW)

    assert holds.answer_again(hold, asked(75)) == hold.answer


@pytest.mark.rule("LE4")
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("user_id", {"user_id": UserId(UUID(int=2))}),
        ("amount_minor", {"amount": Money(amount_minor=74, currency="RUB")}),
        ("currency", {"amount": Money(amount_minor=75, currency="USD")}),
        ("reference", {"reference": "order:2"}),
        ("expires_at", {"expires_at": NOW + timedelta(minutes=16)}),
    ],
)
def test_another_body_for_the_same_hold_is_a_conflict_that_names_the_field(
    field: str, change: dict[str, object]
) -> None:
    hold = holds.place(books_with(100), asked(75), at=NOW)

    answer = holds.answer_again(hold, asked(75, **change))

    assert isinstance(answer, ledger.HoldRefused)
    assert answer.code == "idempotency_conflict"
    assert field in answer.detail


@pytest.mark.rule("LE6")
@pytest.mark.parametrize("amount_minor", [75, 1])
def test_a_capture_takes_its_amount_and_releases_the_rest(amount_minor: int) -> None:
    book = books_with(100)
    hold = holds.place(book, asked(75), at=NOW)

    capture = captured(book, hold, amount_minor)

    posted, said = capture.messages
    assert isinstance(posted, books.Posted)
    assert isinstance(said, ledger.HoldCaptured)
    assert said.amount.amount_minor == amount_minor
    assert (said.account.balance_minor, said.account.held_minor) == (100 - amount_minor, 0)
    assert posted.lines[0][0].state == said.account
    assert capture.hold.state == "captured"


@pytest.mark.rule("LE6")
def test_capture_above_the_hold_is_refused() -> None:
    book = books_with(100)
    hold = holds.place(book, asked(75), at=NOW)

    capture = captured(book, hold, 76)

    assert code_of(capture) == "capture_above_hold"
    assert capture.hold is hold
    assert not book.postings


@pytest.mark.rule("W2")
def test_capture_after_the_hold_has_expired_is_refused_even_before_the_sweep() -> None:
    book = books_with(100)
    hold = holds.place(book, asked(75), at=NOW)

    assert code_of(captured(book, hold, 75, at=hold.expires_at)) == "hold_ended"


def test_capture_after_release_is_refused() -> None:
    book = books_with(100)
    hold, _ = holds.release(book, holds.place(book, asked(75), at=NOW), at=NOW)

    assert code_of(captured(book, hold, 75)) == "hold_ended"


@pytest.mark.rule("LE4")
def test_the_same_capture_again_gets_the_same_answer_and_another_amount_a_conflict() -> None:
    book = books_with(100)
    first = captured(book, holds.place(book, asked(75), at=NOW), 50)

    again, other = captured(book, first.hold, 50), captured(book, first.hold, 75)

    assert again.messages == first.messages[1:]
    assert code_of(other) == "idempotency_conflict"
    assert len(book.postings) == 2


def test_a_capture_that_revenue_cannot_take_is_refused() -> None:
    full = account(REVENUE, number=2, balance_minor=AMOUNT_MINOR_MAX)
    book = books.Books([account(WALLET, balance_minor=100), full])
    hold = holds.place(book, asked(75), at=NOW)

    capture = captured(book, hold, 75)

    assert code_of(capture) == "balance_out_of_range"
    assert not book.postings


@pytest.mark.rule("LE6")
def test_a_release_gives_everything_back_and_releasing_again_says_the_same() -> None:
    book = books_with(100)
    placed = holds.place(book, asked(75), at=NOW)

    released, first = holds.release(book, placed, at=NOW)
    again, second = holds.release(book, released, at=NOW)

    assert isinstance(first, ledger.HoldReleased)
    assert first.account.held_minor == 0
    assert again is released
    assert second == first


@pytest.mark.rule("LE6")
def test_releasing_a_hold_that_ended_otherwise_says_again_how_it_ended() -> None:
    book = books_with(100)
    refused = holds.place(books.Books([]), asked(75), at=NOW)
    capture = captured(book, holds.place(book, asked(75), at=NOW), 75)

    assert holds.release(book, refused, at=NOW) == (refused, refused.answer)
    assert holds.release(book, capture.hold, at=NOW) == (capture.hold, capture.hold.ending)


def code_of(capture: holds.Capture) -> str:
    (refused,) = capture.messages
    assert isinstance(refused, ledger.CaptureRefused)
    return refused.code


class LedgerMachine(RuleBasedStateMachine):
    """Plays credits and holds against a dictionary that knows only balances and open holds."""

    @initialize()
    def open(self) -> None:
        self.book = books_with(0)
        self.balance = 0
        self.open_holds: dict[int, int] = {}
        self.holds: dict[int, holds.Hold] = {}

    @rule(amount_minor=st.integers(1, 1_000))
    def credit(self, amount_minor: int) -> None:
        self.book.post(transfer(), (books.Leg(CLEARING.name, -amount_minor), books.Leg(WALLET.name, amount_minor)))
        self.balance += amount_minor

    @rule(number=st.integers(1, 5), amount_minor=st.integers(1, 1_500))
    def place(self, number: int, amount_minor: int) -> None:
        command = asked(amount_minor, hold_id=UUID(int=number))
        if number in self.holds:
            answer = holds.answer_again(self.holds[number], command)
            assert (answer == self.holds[number].answer) == (amount_minor == self.holds[number].amount_minor)
            return
        self.holds[number] = holds.place(self.book, command, at=NOW)
        fits = amount_minor <= self.balance - sum(self.open_holds.values())
        assert (self.holds[number].state == "placed") == fits
        if fits:
            self.open_holds[number] = amount_minor

    @rule(number=st.integers(1, 5), amount_minor=st.integers(1, 1_500))
    def capture(self, number: int, amount_minor: int) -> None:
        if number not in self.holds:
            return
        capture = captured(self.book, self.holds[number], amount_minor)
        self.holds[number] = capture.hold
        assert (capture.transfer is not None) == (amount_minor <= self.open_holds.get(number, 0))
        if capture.transfer is not None:
            self.balance -= amount_minor
            del self.open_holds[number]

    @rule(number=st.integers(1, 5))
    def release(self, number: int) -> None:
        if number not in self.holds:
            return
        self.holds[number], _ = holds.release(self.book, self.holds[number], at=NOW)
        self.open_holds.pop(number, None)

    @rule(number=st.integers(1, 5))
    def expire(self, number: int) -> None:
        if number in self.open_holds:
            self.holds[number], _ = holds.expire(self.book, self.holds[number], at=NOW)
            del self.open_holds[number]

    @invariant()
    def the_books_say_what_the_dictionary_says(self) -> None:
        wallet = self.book.account(WALLET.name)
        assert wallet is not None
        assert (wallet.balance_minor, wallet.held_minor) == (self.balance, sum(self.open_holds.values()))
        assert {n for n, hold in self.holds.items() if hold.state == "placed"} == set(self.open_holds)

    @invariant()
    def the_postings_are_balanced_gapless_and_running(self) -> None:
        assert sum(posting.amount_minor for posting in self.book.postings) == 0
        so_far: dict[int, tuple[int, int]] = {}
        for posting in self.book.postings:
            sequence, balance = so_far.get(posting.account_id, (0, 0))
            so_far[posting.account_id] = (sequence + 1, balance + posting.amount_minor)
            assert so_far[posting.account_id] == (posting.sequence, posting.balance_after_minor)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)
