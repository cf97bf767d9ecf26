"""What was on an account, and when: balances as of a time, statements and their lines, and how people read amounts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import ledger
from ledger.domain import books, chart

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


class Standing(NamedTuple):
    """An account as it stands at a moment `now` of the database's clock; `moved_at` is not before its last posting."""

    account_id: books.AccountId
    exponent: int
    balance_minor: int
    held_minor: int
    sequence: int
    moved_at: datetime
    now: datetime

    def is_settled(self, at: datetime) -> bool:
        """Tell whether nobody can still record a posting at or before `at`: a later one is on the books already."""
        return at < self.moved_at


class Balance(NamedTuple):
    """What was on an account at `at`, after its posting number `sequence`."""

    name: chart.AccountName
    exponent: int
    balance_minor: int
    sequence: int
    at: datetime


class Span(NamedTuple):
    """The postings `first` to `last` of an account, none when `last` is the smaller one, and the balances around them.

    It is a plain value that never changes: pages that are read with it belong together, whatever is posted meanwhile.
    """

    account_id: books.AccountId
    name: chart.AccountName
    exponent: int
    first: int
    last: int
    opening_minor: int
    closing_minor: int


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


def cell(text: str) -> str:
    """Write a text so that no spreadsheet takes it for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def csv_line(span: Span, line: Line) -> Sequence[str]:
    """Write a line of a statement as the cells of CSV_HEADER. Amounts are numbers and are not neutralised."""
    return (
        str(line.sequence),
        line.recorded_at.isoformat(),
        line.occurred_at.isoformat(),
        line.kind,
        cell(line.reference),
        str(line.transfer_id),
        str(line.reverses or ""),
        str(line.amount_minor),
        chart.decimal_of(line.amount_minor, span.exponent),
        str(line.balance_after_minor),
        chart.decimal_of(line.balance_after_minor, span.exponent),
        span.name.asset,
    )


def csv_balance(span: Span, label: str, balance_minor: int) -> Sequence[str]:
    """Write the opening or closing balance as cells of CSV_HEADER; it is no amount, so that these sum up rightly."""
    asset = span.name.asset
    return (*("",) * 3, label, *("",) * 5, str(balance_minor), chart.decimal_of(balance_minor, span.exponent), asset)
