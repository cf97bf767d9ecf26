"""How the ledger's facts become the lines of a user's statement.

One change of an account is one line, named by the account's version, so a fact that comes twice is the same line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts import ledger, message
from gateway.domain import views

ORDER = "order:"
# What comes in is a credit and what goes out a debit, where a kind has no name of its own here.
_COMING: Mapping[ledger.TransferKind, views.LineKind] = {"refund": "refund", "reversal": "refund"}
_GOING: Mapping[ledger.TransferKind, views.LineKind] = {"capture": "capture", "refund": "refund"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a user's account, and the account right after it."""

    tenant: message.TenantId
    user_id: message.UserId
    asset: str
    version: int
    kind: views.LineKind
    amount_minor: int
    balance_after_minor: int
    held_after_minor: int
    reference: str
    occurred_at: datetime
    recorded_at: datetime
    """When the ledger wrote it down, which grows with the version; `occurred_at` may be a provider's earlier time."""


def changes_of(event: ledger.TransferPosted | ledger.HoldEvent, *, recorded_at: datetime) -> list[Change]:
    """Give the changes of users' accounts that an event tells; accounts of the house have no statement here."""
    if isinstance(event, ledger.TransferPosted):
        legs = [(line.account, _kind_of(event.kind, line.amount_minor), line.amount_minor) for line in event.postings]
    else:
        legs = [(account, kind, 0) for account, kind in _held_or_freed(event)]
    return [
        Change(
            tenant=event.tenant,
            user_id=account.owner,
            asset=account.asset,
            version=account.version,
            kind=kind,
            amount_minor=amount_minor,
            balance_after_minor=account.balance_minor,
            held_after_minor=account.held_minor,
            reference=event.reference,
            occurred_at=event.occurred_at,
            recorded_at=recorded_at,
        )
        for account, kind, amount_minor in legs
        if account.owner is not None
    ]


def latest(changes: Iterable[Change]) -> list[Change]:
    """Give the last change of each account, in the order of accounts, in which rows are locked everywhere."""
    last: dict[tuple[message.TenantId, message.UserId, str], Change] = {}
    for change in changes:
        account = (change.tenant, change.user_id, change.asset)
        if account not in last or last[account].version < change.version:
            last[account] = change
    return [last[account] for account in sorted(last)]


def captured_order(change: Change) -> UUID | None:
    """Give the order that a change paid for, or None when it is no payment of an order."""
    if change.kind != "capture" or not change.reference.startswith(ORDER):
        return None
    try:
        return UUID(change.reference.removeprefix(ORDER))
    except ValueError:
        return None


def _kind_of(kind: ledger.TransferKind, amount_minor: int) -> views.LineKind:
    return _COMING.get(kind, "credit") if amount_minor > 0 else _GOING.get(kind, "debit")


def _held_or_freed(event: ledger.HoldEvent) -> list[tuple[ledger.AccountState, views.LineKind]]:
    """Give the accounts that a hold's event changed; holding and releasing move no money.

    What is captured is told by its transfer, but for a part of which nothing was taken and all that it held is freed.
    """
    parts = event.parts or (ledger.HoldPart(account=event.account, amount_minor=event.amount.amount_minor),)
    if isinstance(event, ledger.HoldCaptured):
        parts = tuple(part for part in parts if not part.amount_minor and not event.remaining_minor)
        return [(part.account, "release") for part in parts]
    if isinstance(event, ledger.HoldExtended):
        return []
    kind: views.LineKind = "hold" if isinstance(event, ledger.HoldPlaced) else "release"
    return [(part.account, kind) for part in parts if part.amount_minor]
