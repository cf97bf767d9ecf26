"""Which notifications an event leads to, and their texts; names come from a fuzzer."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ledger, orders
from contracts.message import Money
from notifier.domain import markup, templates

AT = datetime(2026, 1, 2, tzinfo=UTC)
USER = UUID("00000000-0000-7000-8000-00000000000a")
CLEARING = "clearing:yookassa:demo"


class Reader(HTMLParser):
    """Parses HTML into its tags and the text that it shows."""

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
    total = sum(line.unit_price.amount_minor * line.quantity for line in lines)
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


def test_a_top_up_notifies_its_owner_of_the_amount_and_the_new_balance() -> None:
    event = transfer(amount_minor=150_000, balance_minor=1_234_567_89)

    [draft] = templates.of_transfer(event)

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
def test_a_refund_notifies_the_payer_of_the_whole_refund_and_the_new_balance(
    event: ledger.TransferPosted, text: str
) -> None:
    [draft] = templates.of_transfer(event)

    assert (draft.text, draft.user_id) == (text, USER)
    assert draft.dedupe_key == f"refund:{event.transfer_id}:{USER}"


def test_a_refund_that_failed_later_tells_its_payer_in_both_languages_what_is_in_the_wallet_again() -> None:
    event = returned(-20_000, ("losses:refunds", 30_000), (CLEARING, -50_000))
    event = event.model_copy(update={"reverses": ledger.TransferId(uuid4())})

    [draft] = templates.of_transfer(event)

    assert draft.text == (
        "Возврат не дошёл: банк вернул деньги, 200.00 RUB снова на балансе.\n"
        "The refund did not arrive: the bank sent the money back, 200.00 RUB is on your balance again. Now: 50.00 RUB."
    )


def test_a_reserved_refund_that_has_not_left_yet_leads_to_no_notification() -> None:
    promised = returned(50_000, ("refunds_payable", 50_000))
    into_the_wallet = returned(-50_000, ("revenue", -50_000))

    assert templates.of_transfer(promised) == templates.of_transfer(into_the_wallet) == []


@pytest.mark.parametrize(
    "kind",
    ["capture", "transfer", "reversal", "grant", "spend", "fee", "refund", "adjustment", "opening", "expiry"],
)
def test_a_transfer_that_is_no_top_up_leads_to_no_notification(kind: ledger.TransferKind) -> None:
    assert templates.of_transfer(transfer(kind)) == []


@pytest.mark.parametrize("kind", ["top_up", "refund", "fee", "dispute", "deposit"])
def test_a_transfer_between_accounts_of_the_house_leads_to_no_notification(kind: ledger.TransferKind) -> None:
    event = transfer(kind)
    house = tuple(line.model_copy(update={"account": account(None, 0)}) for line in event.postings)

    assert templates.of_transfer(event.model_copy(update={"postings": house})) == []


def test_a_paid_order_notifies_the_payer_and_shows_the_managers_its_lines() -> None:
    to_payer, to_managers = templates.of_paid_order(paid(line("Tea", 2), line("Cup", 1, 5)))

    assert (to_payer.user_id, to_managers.user_id) == (USER, None)
    assert to_payer.text == "Order <b>abcdef01</b> is paid: 800.05 RUB. Thank you!"
    assert to_managers.text.splitlines() == [
        "Paid order <b>abcdef01</b>",
        "2 x Tea: 800.00 RUB",
        "1 x Cup: 0.05 RUB",
        "Total: <b>800.05 RUB</b>",
    ]
    assert to_managers.dedupe_key == "order_to_pack:00000000-0000-7000-8000-0000abcdef01:managers"


def test_a_long_order_fits_into_one_message_that_counts_the_omitted_lines() -> None:
    [_, to_managers] = templates.of_paid_order(paid(*[line("&" * 500, 1_000, 9 * 10**12)] * 50))

    shown = Reader(to_managers.text).text
    assert len(shown.encode("utf-16-le")) / 2 <= 4_096
    assert "… and 30 more" in shown


@pytest.mark.rule("I13")
@given(st.text(max_size=200))
def test_no_name_breaks_the_markup_of_a_message(name: str) -> None:
    [_, to_managers] = templates.of_paid_order(paid(line(name)))

    read = Reader(to_managers.text)
    assert read.tags == ["b", "/b", "b", "/b"]
    assert len(read.text.split("\n")) == 3
    assert read.text == markup.plain(to_managers.text)


@pytest.mark.rule("I13")
@given(st.text(alphabet="<>&;\"'ablt#/ \x00\n", max_size=60))
def test_a_name_is_shown_as_it_was_written(name: str) -> None:
    shown = Reader(markup.escaped(name)).text

    assert shown == " ".join(name.replace("\x00", " ").split())
