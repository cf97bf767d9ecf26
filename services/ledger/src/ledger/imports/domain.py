"""How a row of an older system's wallet table becomes an opening transfer. The same row has the same request key."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID, uuid5

from chassis import errors
from contracts import assets, ledger
from contracts.message import AMOUNT_MINOR_MAX, Currency, TenantId, UserId
from ledger.domain import chart

COLUMNS = "user_id, balance (12.50) or balance_minor (1250), and optionally reference, expires_at"
KEY_MAX = 128  # of a request
TENANT_MAX = 64
REFERENCE = "reference:"
EXPIRES_YEAR_MAX = 2999

_SOURCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_USER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_AMOUNT = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,18})?")
_USERS = UUID("5b0f0f5e-6f3c-5d0e-9d43-3a1d0d4c8f61")  # a namespace of its own


class BadFile(errors.Refusal):
    """The file is not a table that can be imported."""

    code = "bad_file"


class BadRow(errors.Refusal):
    """This row can't be read."""

    code = "bad_row"


class NegativeBalance(errors.Refusal):
    """A debt is not imported: set an overdraft limit first, and then post a transfer."""

    code = "negative_balance"


class Source(NamedTuple):
    """The source of a table and the asset it counts. Its total is debited from the account `opening:<name>`."""

    tenant: TenantId
    asset: Currency
    name: str
    account: str


class Row(NamedTuple):
    """A valid row: the command that posts it, and its amount."""

    line: int
    amount_minor: int
    command: ledger.PostTransfers


def make_source(tenant: str, asset: str, name: str) -> Source:
    """Return the source of a table. Raises BadFile for a name that is not short and plain, UnknownAsset."""
    if not 0 < len(tenant) <= TENANT_MAX:
        raise BadFile(f"The name of a tenant has 1 to {TENANT_MAX} characters.")
    if not _SOURCE.fullmatch(name):
        raise BadFile("The name of the source is 1 to 32 of a-z, 0-9, - and _, the first a letter or a digit.")
    account = chart.system_account(TenantId(tenant), f"opening:{name}", asset).name
    return Source(account.tenant, account.asset, name, account.code)


def check_header(names: Sequence[str]) -> None:
    """Raise BadFile unless the columns are those of a wallet table, each once."""
    needed = sorted(set(names) - {"reference", "expires_at"})
    if needed not in (["balance", "user_id"], ["balance_minor", "user_id"]) or len(set(names)) < len(names):
        raise BadFile(f"The columns are {', '.join(names) or 'missing'}. They must be {COLUMNS}; each once.")


def parse_row(source: Source, line: int, row: Mapping[str, str], *, now: datetime) -> Row | None:
    """Parse one row of csv.DictReader; None for an empty wallet, which needs no transfer.

    The request key is the row's reference, or its user where it has none, so the same row again with another balance is
    a conflict. `now` is the time of the import. Raises BadRow, NegativeBalance.
    """
    if None in row:  # where csv keeps cells beyond the header
        raise BadRow("There are more cells than columns.")
    cells = {column: text.strip() for column, text in row.items()}
    if not all(text.isprintable() for text in cells.values()):
        raise BadRow("There are characters that can't be printed.")
    user, reference = cells["user_id"], cells.get("reference", "")
    if not user:
        raise BadRow("There is no user_id.")
    amount_minor = _amount_minor(source, cells)
    if not amount_minor:
        return None
    if user.startswith(REFERENCE):
        raise BadRow(f"No user_id begins with {REFERENCE}, as the keys of rows with a reference do.")
    key = f"import:{source.name}:{source.asset}:{f'{REFERENCE}{reference}' if reference else user}"
    if len(key) > KEY_MAX:
        raise BadRow("The reference, or the user_id that stands for it, is too long.")
    expires_at = _expires_at(source, cells.get("expires_at", ""), now)
    account = chart.user_account(source.tenant, user_id_of(source, user), source.asset).name.code
    legs = (
        ledger.RequestedLeg(account=source.account, asset=source.asset, amount_minor=-amount_minor),
        ledger.RequestedLeg(account=account, asset=source.asset, amount_minor=amount_minor, expires_at=expires_at),
    )
    transfer = ledger.RequestedTransfer(kind="opening", reference=reference or key, legs=legs)
    return Row(line, amount_minor, ledger.PostTransfers(tenant=source.tenant, request_id=key, transfers=(transfer,)))


def user_id_of(source: Source, text: str) -> UserId:
    """Return the user for an id of an older system.

    A UUID in its usual form is the user's own. Any other text becomes the version 5 UUID of
    `<tenant>:<source>:<text>`, so tables of one source agree, and two systems that both count from 1 do not collide.
    """
    return UserId(UUID(text) if _USER.fullmatch(text) else uuid5(_USERS, f"{source.tenant}:{source.name}:{text}"))


def _amount_minor(source: Source, cells: Mapping[str, str]) -> int:
    """Parse the balance to minor units: digits and a decimal point, nothing that could be misread."""
    column, exponent = ("balance", assets.ASSETS[source.asset].exponent) if "balance" in cells else ("balance_minor", 0)
    if not _AMOUNT.fullmatch(cells[column]):
        raise BadRow("The balance is not a number such as 1250 or 12.50.")
    amount_minor = Fraction(cells[column]) * 10**exponent
    if amount_minor.denominator > 1:
        raise BadRow(f"The balance has more than {exponent} decimals.")
    if amount_minor > AMOUNT_MINOR_MAX:
        raise BadRow("The balance is larger than an account can keep.")
    if amount_minor < 0:
        raise NegativeBalance
    return int(amount_minor)


def _expires_at(source: Source, text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    if not chart.keeps_lots(source.asset):
        raise BadRow(f"{source.asset} does not expire.")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRow("expires_at is not a time such as 2026-12-31 or 2026-12-31T23:59:59+03:00.") from None
    if moment <= now:
        raise BadRow("expires_at has passed; leave out what has expired.")
    if moment.year > EXPIRES_YEAR_MAX:
        raise BadRow(f"expires_at is after {EXPIRES_YEAR_MAX}; leave it empty for what never expires.")
    return moment
