"""Past balances of an account, the statement between two of them, and its CSV format."""

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


class ReferenceTooBroad(errors.Refusal):
    """Too many transfers have this reference for a statement of one order or payment."""

    code: ClassVar[str] = "reference_too_broad"
    status: ClassVar[int] = 422


class Balance(NamedTuple):
    """The balance of an account at `at`, after its posting number `sequence`.

    `held_minor` is None for a balance of the past: what was held then is not recorded.
    """

    account_id: accounts.AccountId
    name: chart.AccountName
    balance_minor: int
    sequence: int
    at: datetime
    held_minor: int | None = None


class Statement(NamedTuple):
    """The postings of an account between two balances: `first` to `last`, none when `last` is the smaller.

    It never changes, so pages that are read with it agree, whatever is posted meanwhile.
    """

    opening: Balance
    closing: Balance

    @property
    def name(self) -> chart.AccountName:
        """The account's name."""
        return self.closing.name

    @property
    def first(self) -> int:
        """The sequence of the first posting after the opening balance."""
        return self.opening.sequence + 1

    @property
    def last(self) -> int:
        """The sequence of the posting that made the closing balance."""
        return self.closing.sequence


class StatementLine(NamedTuple):
    """One posting of a statement, with the fields of its transfer."""

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
    """Format an amount with the decimals of its asset."""
    return chart.decimal_of(amount_minor, assets.ASSETS[asset].exponent)


def csv_line(asset: Currency, line: StatementLine) -> dict[str, object]:
    """Return the cells of a line. Amounts are numbers and can't be formulas."""
    return {
        **line._asdict(),
        "recorded_at": line.recorded_at.isoformat(),
        "occurred_at": line.occurred_at.isoformat(),
        "reference": _escaped(line.reference),
        "amount": amount(asset, line.amount_minor),
        "balance_after": amount(asset, line.balance_after_minor),
        "asset": asset,
    }


def csv_balance(kind: str, balance: Balance) -> dict[str, object]:
    """Return the cells of the opening or closing balance, without an amount, so that the column of amounts sums up."""
    asset, minor = balance.name.asset, balance.balance_minor
    return {"kind": kind, "balance_after_minor": minor, "balance_after": amount(asset, minor), "asset": asset}


def _escaped(text: str) -> str:
    """Escape a text that a spreadsheet would take for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
