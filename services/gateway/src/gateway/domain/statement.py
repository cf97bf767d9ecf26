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
_TRANSFER_KINDS: Mapping[ledger.TransferKind, views.LineKind] = {"top_up": "credit", "capture": "capture"}


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
        kind = _TRANSFER_KINDS[event.kind]
        legs = [(line.account, line.amount_minor) for line in event.postings]
    else:
        # Holding and releasing move no money; the account's held amount tells the difference.
        kind = "hold" if isinstance(event, ledger.HoldPlaced) else "release"
        legs = [(event.account, 0)]
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
        for account, amount_minor in legs
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
