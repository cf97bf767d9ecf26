"""What people read, and what follows from each attempt, as tables; names from a fuzzer."""

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ledger, orders
from contracts.message import Money, UserId
from notifier import domain
from notifier.domain import Outcome, Result, State

AT = datetime(2026, 1, 2, tzinfo=UTC)
USER = UUID("00000000-0000-7000-8000-00000000000a")
CLEARING = "clearing:yookassa:demo"


class Reader(HTMLParser):
    """Reads HTML as a chat does: which tags it has, and which text they show."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the parent's
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data


def account(
    owner: UUID | None, balance_minor: int, asset: str = "RUB", code: str = "clearing:yookassa:demo"
) -> ledger.AccountState:
    return ledger.AccountState.model_validate(
        {
            "code": code if owner is None else f"user:{owner}:wallet",
            "owner": owner,
            "asset": asset,
            "balance_minor": balance_minor,
            "held_minor": 0,
            "version": 1,
        }
    )


def transfer(kind: Any = "top_up", amount_minor: int = 150_000, balance_minor: int = 150_000) -> ledger.TransferPosted:
    return ledger.TransferPosted(
        tenant="demo",
        transfer_id=uuid4(),
        kind=kind,
        reference="payment:1",
        occurred_at=AT,
        postings=(
            ledger.PostingLine(account=account(None, -balance_minor), amount_minor=-amount_minor, sequence=1),
            ledger.PostingLine(account=account(USER, balance_minor), amount_minor=amount_minor, sequence=1),
        ),
    )


def line(title: str, quantity: int = 2, price_minor: int = 40_000) -> orders.OrderLine:
    price = Money(amount_minor=price_minor, currency="RUB")
    return orders.OrderLine.model_validate(
        {"product_id": "tea", "title": title, "quantity": quantity, "unit_price": price}
    )


def paid(*lines: orders.OrderLine) -> orders.OrderPaid:
    total = sum(one.unit_price.amount_minor * one.quantity for one in lines)
    return orders.OrderPaid.model_validate(
        {
            "tenant": "demo",
            "order_id": "00000000-0000-7000-8000-0000abcdef01",
            "user_id": USER,
            "version": 3,
            "occurred_at": AT,
            "lines": lines,
            "total": {"amount_minor": total, "currency": "RUB"},
        }
    )


def leased(**changes: Any) -> domain.Notification:
    one = domain.Notification(
        id=1,
        lease=1,
        chat_id=77,
        user_id=UserId(USER),
        text="<b>1</b> &lt; 2",
        is_plain=False,
        attempts=0,
        may_have_arrived=False,
        age_s=0,
    )
    return replace(one, **changes)


# --- what people read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (150_000, "RUB", "1,500.00 RUB"),
        (5, "RUB", "0.05 RUB"),
        (-150_001, "RUB", "-1,500.01 RUB"),
        (0, "USD", "0.00 USD"),
        (1_500, "JPY", "1,500 JPY"),
        (1_500, "KWD", "1.500 KWD"),
        (250, "XTR", "250 XTR"),
        (1_000, "POINTS", "1,000 POINTS"),
        (1_000, "PTS", "10.00 PTS"),
        (1_000, "CRD", "1,000 CRD"),
        (12_500_000, "USDT", "12.50 USDT"),
        (12_345_678, "USDC", "12.345678 USDC"),
        (2_500_000_000, "TON", "2.50 TON"),
        (-1, "TON", "-0.000000001 TON"),
        (0, "TON", "0.00 TON"),
        (2_000, "BTC", "0.00002 BTC"),
        (10**8, "BTC", "1.00 BTC"),
        (2**63 - 1, "TON", "9,223,372,036.854775807 TON"),
        (2**63 - 1, "RUB", "92,233,720,368,547,758.07 RUB"),
    ],
)
def test_money_has_the_decimals_of_its_currency(amount_minor: int, currency: str, written: str) -> None:
    assert domain.money(amount_minor, currency) == written


def test_a_top_up_tells_its_owner_the_amount_and_the_new_balance() -> None:
    event = transfer(amount_minor=150_000, balance_minor=1_234_567_89)

    [draft] = domain.of_transfer(event)

    assert draft.text == "Balance topped up by 1,500.00 RUB. Now: 1,234,567.89 RUB."
    assert draft.user_id == USER
    assert draft.dedupe_key == f"top_up:{event.transfer_id}:{USER}"


def returned(wallet_minor: int, *house: tuple[str, int], asset: str = "RUB") -> ledger.TransferPosted:
    legs = [(account(USER, 5_000, asset), -wallet_minor)]
    legs += [(account(None, 0, asset, code), amount_minor) for code, amount_minor in house]
    return transfer("refund").model_copy(
        update={"postings": tuple(ledger.PostingLine(account=of, amount_minor=minor, sequence=1) for of, minor in legs)}
    )


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (returned(50_000, (CLEARING, 50_000)), "Refund: 500.00 RUB went back the way it was paid. Now: 50.00 RUB."),
        (
            returned(20_000, ("losses:refunds", -30_000), (CLEARING, 50_000)),
            "Refund: 500.00 RUB went back the way it was paid. Now: 50.00 RUB.",
        ),
        (
            returned(250, (CLEARING, 250), asset="XTR"),
            "Refund: 250 XTR went back the way it was paid. Now: 5,000 XTR.",
        ),
    ],
)
def test_a_refund_tells_the_payer_all_that_went_back_and_the_new_balance(
    event: ledger.TransferPosted, text: str
) -> None:
    [draft] = domain.of_transfer(event)

    assert (draft.text, draft.user_id) == (text, USER)
    assert draft.dedupe_key == f"refund:{event.transfer_id}:{USER}"


def test_money_that_has_not_left_yet_is_not_told_as_returned() -> None:
    promised = returned(50_000, ("refunds_payable", 50_000))
    into_the_wallet = returned(-50_000, ("revenue", -50_000))

    assert domain.of_transfer(promised) == domain.of_transfer(into_the_wallet) == []


@pytest.mark.parametrize(
    "kind",
    ["capture", "transfer", "reversal", "grant", "spend", "fee", "refund", "adjustment", "opening", "expiry"],
)
def test_a_movement_that_is_no_top_up_tells_nobody_because_whoever_caused_it_does(kind: ledger.TransferKind) -> None:
    assert domain.of_transfer(transfer(kind)) == []


@pytest.mark.parametrize("kind", ["top_up", "refund", "fee", "dispute", "deposit"])
def test_a_movement_between_the_houses_own_accounts_tells_nobody(kind: ledger.TransferKind) -> None:
    event = transfer(kind)
    house = tuple(line.model_copy(update={"account": account(None, 0)}) for line in event.postings)

    assert domain.of_transfer(event.model_copy(update={"postings": house})) == []


def test_a_paid_order_tells_the_payer_and_shows_the_managers_its_lines() -> None:
    to_payer, to_managers = domain.of_paid_order(paid(line("Tea", 2), line("Cup", 1, 5)))

    assert (to_payer.user_id, to_managers.user_id) == (USER, None)
    assert to_payer.text == "Order <b>abcdef01</b> is paid: 800.05 RUB. Thank you!"
    assert to_managers.text.splitlines() == [
        "Paid order <b>abcdef01</b>",
        "2 x Tea: 800.00 RUB",
        "1 x Cup: 0.05 RUB",
        "Total: <b>800.05 RUB</b>",
    ]
    assert to_managers.dedupe_key == "order_to_pack:00000000-0000-7000-8000-0000abcdef01:managers"


def test_a_long_order_fits_into_one_message_and_says_what_it_left_out() -> None:
    [_, to_managers] = domain.of_paid_order(paid(*[line("&" * 500, 1_000, 9 * 10**12)] * 50))

    shown = Reader(to_managers.text).text
    assert len(shown.encode("utf-16-le")) / 2 <= 4_096
    assert "… and 30 more" in shown


@pytest.mark.rule("I13")
@given(st.text(max_size=200))
def test_no_name_breaks_the_markup_of_a_message(name: str) -> None:
    [_, to_managers] = domain.of_paid_order(paid(line(name)))

    read = Reader(to_managers.text)
    assert read.tags == ["b", "/b", "b", "/b"]
    assert len(read.text.split("\n")) == 3
    assert read.text == domain.plain(to_managers.text)


@pytest.mark.rule("I13")
@given(st.text(alphabet="<>&;\"'ablt#/ \x00\n", max_size=60))
def test_a_name_is_shown_as_it_was_written(name: str) -> None:
    shown = Reader(domain.escaped(name)).text

    assert shown == " ".join(name.replace("\x00", " ").split())


# --- what follows ----------------------------------------------------------------------------------------


@pytest.mark.rule("I3")
@pytest.mark.rule("I5")
@pytest.mark.parametrize(
    ("before", "outcome", "state", "attempts"),
    [
        ({}, Outcome(Result.SENT, 200, 5), State.SENT, 1),
        ({"attempts": 3}, Outcome(Result.SENT, 200, 5), State.SENT, 4),
        ({"attempts": 3}, Outcome(Result.THROTTLED, 429, retry_after_s=7), State.QUEUED, 3),
        ({"attempts": 3}, Outcome(Result.AWAY), State.QUEUED, 3),
        ({"attempts": 3}, Outcome(Result.UNCERTAIN, 502), State.QUEUED, 4),
        ({"attempts": 11}, Outcome(Result.UNCERTAIN, 502), State.UNCERTAIN, 12),
        ({}, Outcome(Result.BLOCKED, 403), State.BLOCKED, 1),
        ({}, Outcome(Result.UNPARSABLE, 400), State.QUEUED, 1),
        ({"is_plain": True}, Outcome(Result.UNPARSABLE, 400), State.FAILED, 1),
        ({}, Outcome(Result.REJECTED, 400), State.FAILED, 1),
        ({"may_have_arrived": True}, Outcome(Result.REJECTED, 400), State.UNCERTAIN, 1),
    ],
)
def test_each_outcome_leads_to_its_state_at_its_price(
    before: dict[str, Any], outcome: Outcome, state: State, attempts: int
) -> None:
    step = domain.after_attempt(leased(**before), outcome, jitter=0.5)

    assert (step.state, step.attempts) == (state, attempts)


def test_refused_markup_is_sent_once_more_as_the_text_that_it_shows() -> None:
    step = domain.after_attempt(leased(), Outcome(Result.UNPARSABLE, 400), jitter=0)

    assert (step.is_plain, step.wait_s) == (True, 0)
    assert leased(is_plain=True).shown_text == "1 < 2"


def test_pauses_after_uncertain_attempts_double_up_to_a_bound_and_are_spread() -> None:
    def wait_s(attempts: int, jitter: float) -> float:
        return domain.after_attempt(leased(attempts=attempts), Outcome(Result.UNCERTAIN), jitter=jitter).wait_s

    assert [wait_s(attempts, 1) for attempts in range(4)] == [2, 4, 8, 16]
    assert wait_s(10, 1) == domain.BACKOFF_S_MAX
    assert wait_s(3, 0) == wait_s(3, 1) / 2


@pytest.mark.rule("I10")
def test_a_telegram_that_fails_for_ten_minutes_does_not_use_up_the_attempts() -> None:
    shortest_s = sum(
        domain.after_attempt(leased(attempts=done), Outcome(Result.UNCERTAIN, 500), jitter=0).wait_s
        for done in range(domain.ATTEMPTS_MAX - 1)
    )

    assert shortest_s > 600


@pytest.mark.parametrize(
    ("before", "state", "reason"),
    [
        ({"age_s": domain.MAX_AGE_S}, State.SKIPPED, "too_old"),
        ({"age_s": domain.MAX_AGE_S, "chat_id": None}, State.SKIPPED, "recipient_unknown"),
        ({"age_s": domain.MAX_AGE_S, "may_have_arrived": True}, State.UNCERTAIN, "too_old"),
        ({"attempts": domain.ATTEMPTS_MAX, "may_have_arrived": True}, State.UNCERTAIN, "attempts_exhausted"),
        ({"chat_id": None}, State.QUEUED, "recipient_unknown"),
        ({"is_recipient_blocked": True}, State.SKIPPED, "recipient_blocked"),
    ],
)
def test_what_cannot_or_need_not_be_sent_is_held_back(before: dict[str, Any], state: State, reason: str) -> None:
    step = domain.before_sending(leased(**before))

    assert step is not None
    assert (step.state, step.reason) == (state, reason)


def test_a_sendable_notification_is_not_held_back() -> None:
    assert domain.before_sending(leased(age_s=100, attempts=3)) is None


def test_an_unknown_recipient_is_looked_for_ever_more_slowly() -> None:
    def wait_s(age_s: float) -> float:
        step = domain.before_sending(leased(chat_id=None, age_s=age_s))
        assert step is not None
        return step.wait_s

    assert [wait_s(age_s) for age_s in (0, 10, 1_000)] == [1, 5, 60]
