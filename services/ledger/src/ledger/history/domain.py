"""What was on an account, and when: its balances, the statement between two of them, and what a file says of that."""

from datetime import datetime, timedelta
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import assets, ledger
from contracts.message import Currency
from ledger.domain import accounts, chart

TICK: Final = timedelta(microseconds=1)  # the smallest step of the database's clock

CSV_HEADER: Final = (
    "sequence", "recorded_at", "occurred_at", "kind", "reference", "transfer_id", "reverses",
    "amount_minor", "amount", "balance_after_minor", "balance_after", "asset",
)  # fmt: skip


class NeverOpened(errors.Refusal):
    """This account was never used: there is nothing to tell about it."""

    code: ClassVar[str] = "account_never_opened"
    status: ClassVar[int] = 404


class ReferenceTooBroad(errors.Refusal):
    """Too many transfers have this reference for a statement of one order or payment."""

    code: ClassVar[str] = "reference_too_broad"
    status: ClassVar[int] = 422


class Balance(NamedTuple):
    """What was on an account at `at`, after its posting number `sequence`.

    `held_minor` is what is held of it: None for a time, because nobody writes down what was held then.
    """

    account_id: accounts.AccountId
    name: chart.AccountName
    balance_minor: int
    sequence: int
    at: datetime
    held_minor: int | None = None


class Span(NamedTuple):
    """What lies between two balances of an account: its postings `first` to `last`, none when `last` is the smaller.

    It is a plain value that never changes: pages that are read with it belong together, whatever is posted meanwhile.
    """

    opening: Balance
    closing: Balance

    @property
    def name(self) -> chart.AccountName:
        """The account's name."""
        return self.closing.name

    @property
    def first(self) -> int:
        """The first posting after the opening balance."""
        return self.opening.sequence + 1

    @property
    def last(self) -> int:
        """The posting that made the closing balance."""
        return self.closing.sequence


class Line(NamedTuple):
    """One posting of a statement, with what its transfer says about it."""

    sequence: int
    transfer_id: ledger.TransferId
    kind: ledger.TransferKind
    reference: str
    reverses: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    amount_minor: int
    balance_after_minor: int


def amount(asset: Currency, amount_minor: int) -> str:
    """Write an amount with the decimals of its asset."""
    return chart.decimal_of(amount_minor, assets.ASSETS[asset].exponent)


def csv_line(asset: Currency, line: Line) -> dict[str, object]:
    """Give the cells of a line. Amounts are numbers and are not neutralised."""
    return {
        **line._asdict(),
        "recorded_at": line.recorded_at.isoformat(),
        "occurred_at": line.occurred_at.isoformat(),
        "reference": _harmless(line.reference),
        "amount": amount(asset, line.amount_minor),
        "balance_after": amount(asset, line.balance_after_minor),
        "asset": asset,
    }


def csv_balance(label: str, balance: Balance) -> dict[str, object]:
    """Give the cells of the opening or closing balance; it is no amount, so that these sum up rightly."""
    asset, minor = balance.name.asset, balance.balance_minor
    return {"kind": label, "balance_after_minor": minor, "balance_after": amount(asset, minor), "asset": asset}


def _harmless(text: str) -> str:
    """Write a text so that no spreadsheet takes it for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
