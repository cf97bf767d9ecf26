"""The chart of accounts: the kinds of account, and between which of them value may move."""

from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, cast
from uuid import UUID

from chassis import errors
from contracts import assets
from contracts.message import AMOUNT_MINOR_MAX, Currency, TenantId, UserId

CODE_MAX = 128

Kind = Literal[
    "wallet", "points", "clearing", "revenue", "refunds_payable", "fees", "losses", "promotion", "breakage", "suspense",
    "opening",
]  # fmt: skip

# From which kind to which kinds value may move; a reversal goes the other way. Anything else is refused.
FLOWS: dict[Kind, frozenset[Kind]] = {
    "wallet": frozenset({"wallet", "revenue", "refunds_payable", "suspense", "clearing", "losses"}),
    "points": frozenset({"revenue", "breakage", "promotion"}),
    "clearing": frozenset({"wallet", "points", "revenue", "refunds_payable", "suspense", "fees", "losses"}),
    "revenue": frozenset({"wallet", "points", "refunds_payable", "fees", "losses", "promotion"}),
    "refunds_payable": frozenset({"clearing", "wallet", "revenue"}),
    "fees": frozenset({"clearing"}),
    "losses": frozenset({"clearing"}),
    "promotion": frozenset({"points", "wallet"}),
    "breakage": frozenset({"points", "revenue"}),
    "suspense": frozenset({"wallet", "clearing", "refunds_payable", "revenue"}),
    "opening": frozenset({"wallet", "points", "clearing", "revenue"}),
}
USERS: frozenset[Kind] = frozenset({"wallet", "points"})
# These count money that others owe us or that we spend, so they go below zero without a limit.
UNLIMITED: frozenset[Kind] = frozenset({"clearing", "fees", "losses", "promotion", "opening"})


class UnknownAccount(errors.Refusal):
    """There is no such account in the chart."""

    code: ClassVar[str] = "unknown_account"
    status: ClassVar[int] = 404


class NeverOpened(errors.Refusal):
    """This account was never opened."""

    code: ClassVar[str] = "account_never_opened"
    status: ClassVar[int] = 404


class UnknownAsset(errors.Refusal):
    """The ledger does not count in this asset."""

    code: ClassVar[str] = "unknown_asset"


class FlowNotAllowed(errors.Refusal):
    """The chart of accounts does not let value move this way."""

    code: ClassVar[str] = "flow_not_allowed"


class AccountName(NamedTuple):
    """The unique name of an account."""

    tenant: TenantId
    code: str
    asset: Currency


class AccountDefinition(NamedTuple):
    """The constant values of an account, with which it is opened when it is first used.

    `overdraft_minor` is how far below zero its available balance may go; `owner_key` is the owner's id as text.
    """

    name: AccountName
    kind: Kind
    owner: UserId | None
    overdraft_minor: int
    owner_key: str | None = None


def user_account(tenant: TenantId, user_id: UserId, asset: Currency) -> AccountDefinition:
    """Return a user's own account in one asset: a wallet, or points where the asset is kept in lots.

    Raises UnknownAsset.
    """
    kind: Kind = "points" if _asset(asset).keeps_lots else "wallet"
    owner_key = str(user_id)
    return AccountDefinition(AccountName(tenant, f"user:{owner_key}:{kind}", asset), kind, user_id, 0, owner_key)


@lru_cache(maxsize=1_024)  # all transfers of a batch share a few of them
def system_account(tenant: TenantId, code: str, asset: Currency) -> AccountDefinition:
    """Return an account of the business itself; its kind is the first word of its code.

    Raises UnknownAsset, UnknownAccount.
    """
    kind = cast("Kind", code.partition(":")[0])
    if kind not in FLOWS or kind in USERS or len(code) > CODE_MAX:
        raise UnknownAccount(f"There is no account {code[:CODE_MAX]!r} in the chart.")
    _asset(asset)
    return AccountDefinition(AccountName(tenant, code, asset), kind, None, AMOUNT_MINOR_MAX if kind in UNLIMITED else 0)


def definition_of(name: AccountName) -> AccountDefinition:
    """Return any account of the chart by its name. Raises UnknownAsset, UnknownAccount."""
    if not name.code.startswith("user:"):
        return system_account(*name)
    _, user_id, *_ = f"{name.code}:".split(":")
    try:
        own = user_account(name.tenant, UserId(UUID(user_id)), name.asset)
    except ValueError as error:
        raise UnknownAccount(f"There is no account {name.code[:CODE_MAX]!r} in the chart.") from error
    if own.name != name:
        raise UnknownAccount(f"There is no account {name.code[:CODE_MAX]!r} in the chart.")
    return own


def keeps_lots(asset: Currency) -> bool:
    """Tell whether balances of an asset are kept in lots, which may expire."""
    return assets.ASSETS[asset].keeps_lots


def decimal_of(amount_minor: int, exponent: int) -> str:
    """Format an amount with its decimals: -5 with exponent 2 is -0.05."""
    sign, digits = "-" if amount_minor < 0 else "", f"{abs(amount_minor):0{exponent + 1}d}"
    return f"{sign}{digits[: len(digits) - exponent]}{'.' if exponent else ''}{digits[len(digits) - exponent :]}"


def _asset(code: Currency) -> assets.Asset:
    try:
        return assets.ASSETS[code]
    except KeyError:
        raise UnknownAsset(f"The ledger does not count in {code}.") from None
