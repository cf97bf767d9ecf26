"""How a row of an older system's wallet table becomes an opening transfer; the same row is always the same request."""

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, NamedTuple
from uuid import UUID, uuid5

from chassis import errors
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, Currency, TenantId, UserId
from ledger.domain import chart

AMOUNTS: Final = ("balance_minor", "balance")
COLUMNS: Final = frozenset({"user_id", *AMOUNTS, "reference", "expires_at"})

_SOURCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_USER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_AMOUNT = re.compile(r"(-?)([0-9]{1,19})(?:\.([0-9]{1,18}))?")
_USERS = UUID("5b0f0f5e-6f3c-5d0e-9d43-3a1d0d4c8f61")  # nothing but a name space of its own


class BadFile(errors.Refusal):
    """The file is no table that can be imported."""

    code: ClassVar[str] = "bad_file"
    status: ClassVar[int] = 422


class BadRow(errors.Refusal):
    """This row can't be read."""

    code: ClassVar[str] = "bad_row"
    status: ClassVar[int] = 422


class NegativeBalance(errors.Refusal):
    """A debt is not imported: it needs an overdraft that somebody grants, and then a transfer of its own."""

    code: ClassVar[str] = "negative_balance"


class Source(NamedTuple):
    """Where a table comes from and what it counts. Its total stands, negative, on the account `opening:<name>`."""

    tenant: TenantId
    asset: Currency
    name: str
    account: chart.Opening


class Row(NamedTuple):
    """A row that can be carried out: the request, and the amount in it."""

    line: int
    amount_minor: int
    command: ledger.PostTransfers


def source(tenant: str, asset: str, name: str) -> Source:
    """Give the source of a table. Raises BadFile for a name that is not short and plain, UnknownAsset."""
    if not _SOURCE.fullmatch(name):
        raise BadFile("The name of the source is 1 to 32 of a-z, 0-9, - and _, the first a letter or a digit.")
    return Source(TenantId(tenant), asset, name, chart.system(TenantId(tenant), f"opening:{name}", asset))


def check_header(names: list[str]) -> None:
    """See that the columns are those of a wallet table. Raises BadFile."""
    if unknown := sorted(set(names) - COLUMNS):
        raise BadFile(f"Unknown columns: {', '.join(unknown)}. Known are {', '.join(sorted(COLUMNS))}.")
    if len(set(names)) < len(names):
        raise BadFile("A column comes twice.")
    if "user_id" not in names or len(set(names) & set(AMOUNTS)) != 1:
        raise BadFile("The columns user_id and either balance_minor or balance are needed.")


def named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Give each cell the name of its column; missing ones are empty. Raises BadRow when there are too many."""
    if len(cells) > len(names):
        raise BadRow(f"There are {len(cells)} cells in {len(names)} columns.")
    return dict(itertools.zip_longest(names, (cell.strip() for cell in cells), fillvalue=""))


def read(of: Source, line: int, cells: Mapping[str, str]) -> Row | None:
    """Read one row; None for an empty wallet, of which nothing needs to be kept.

    The row is known by its reference, or by its user where it has none; the same one again with another balance is a
    conflict. Raises BadRow, NegativeBalance.
    """
    user, reference = cells["user_id"], cells.get("reference", "")
    if not user:
        raise BadRow("There is no user_id.")
    if not all(text.isprintable() for text in cells.values()):
        raise BadRow("There are characters that can't be printed.")
    amount_minor = _amount(of, cells)
    if not amount_minor:
        return None
    key = f"import:{of.name}:{of.asset}:{reference or user}"
    if len(key) > 128:
        raise BadRow("The reference, or the user_id that stands for it, is too long.")
    funds = chart.funds(of.tenant, user_of(of, user), of.asset).name
    legs = (
        ledger.AskedLeg(account=of.account.name.code, asset=of.asset, amount_minor=-amount_minor),
        ledger.AskedLeg(account=funds.code, asset=of.asset, amount_minor=amount_minor, expires_at=_expiry(of, cells)),
    )
    asked = ledger.AskedTransfer(kind="opening", reference=reference or key, legs=legs)
    return Row(line, amount_minor, ledger.PostTransfers(tenant=of.tenant, request_id=key, transfers=(asked,)))


def user_of(of: Source, text: str) -> UserId:
    """Give the user that an older system knew by this id.

    A UUID in its usual form is the user's own. Any other text becomes the version 5 UUID of
    `<tenant>:<source>:<text>`, so tables of one source agree, and two systems that both count from 1 do not collide.
    """
    return UserId(UUID(text) if _USER.fullmatch(text) else uuid5(_USERS, f"{of.tenant}:{of.name}:{text}"))


def _amount(of: Source, cells: Mapping[str, str]) -> int:
    """Read the balance in minor units: digits with a decimal point, nothing else that could be misread."""
    is_minor = "balance_minor" in cells
    exponent = 0 if is_minor else chart.ASSETS[of.asset].exponent
    found = _AMOUNT.fullmatch(cells["balance_minor" if is_minor else "balance"])
    if found is None:
        raise BadRow("The balance is no number such as 1250 or 12.50.")
    sign, whole, decimals = found.groups("")
    kept, rest = decimals[:exponent], decimals[exponent:]
    if rest.strip("0"):
        raise BadRow(f"The balance has more than {exponent} decimals.")
    amount_minor = int(f"{whole}{kept:0<{exponent}}")
    if amount_minor > AMOUNT_MINOR_MAX:
        raise BadRow("The balance is larger than an account can keep.")
    if sign and amount_minor:
        raise NegativeBalance
    return amount_minor


def _expiry(of: Source, cells: Mapping[str, str]) -> datetime | None:
    text = cells.get("expires_at")
    if not text:
        return None
    if not chart.keeps_lots(of.asset):
        raise BadRow(f"{of.asset} does not expire.")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRow("expires_at is no time such as 2026-12-31 or 2026-12-31T23:59:59+03:00.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
