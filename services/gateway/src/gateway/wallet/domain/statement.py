"""Balances and statement lines as clients read them, and how the ledger's events become them.

One change of an account is one line, identified by the account's version, so an event that comes twice adds nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from contracts import ledger, message
from gateway.domain import read_models, references

LineKind = Literal["credit", "debit", "refund", "hold", "capture", "release"]

# Other kinds of transfer are a credit or a debit, by the sign of the amount.
_INCOMING: Mapping[ledger.TransferKind, LineKind] = {"refund": "refund", "reversal": "refund"}
_OUTGOING: Mapping[ledger.TransferKind, LineKind] = {"capture": "capture", "refund": "refund"}


class Balance(read_models.ReadModel):
    """A user's balance of one asset; `available_minor` is the balance minus the held amount."""

    asset: Annotated[str, Field(examples=["RUB"])]
    balance_minor: Annotated[int, Field(examples=[150_000])]
    held_minor: Annotated[int, Field(examples=[40_000])]
    available_minor: Annotated[int, Field(examples=[110_000])]


class StatementLine(read_models.ReadModel):
    """One change of a user's account. The amounts of all lines of an asset sum to its balance."""

    id: Annotated[str, Field(examples=["RUB-17"])]
    kind: Annotated[LineKind, Field(examples=["credit"])]
    asset: Annotated[str, Field(examples=["RUB"])]
    amount_minor: Annotated[int, Field(description="Signed; 0 for a hold or a release.", examples=[150_000])]
    held_change_minor: Annotated[
        int | None,
        Field(description="The change of the held amount; null while the line before has not arrived.", examples=[0]),
    ]
    balance_after_minor: Annotated[int, Field(examples=[150_000])]
    occurred_at: Annotated[datetime, Field(examples=[read_models.MOMENT])]
    reference: Annotated[str, Field(examples=[f"payment:{read_models.UUID_7}"])]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a user's account, and the account right after it."""

    tenant: message.TenantId
    user_id: message.UserId
    asset: str
    version: int
    kind: LineKind
    amount_minor: int
    balance_after_minor: int
    held_after_minor: int
    reference: str
    occurred_at: datetime
    recorded_at: datetime
    """When the ledger recorded it; grows with the version. `occurred_at` may be an earlier time of a provider."""


def changes_of(event: ledger.TransferPosted | ledger.HoldEvent, *, recorded_at: datetime) -> list[Change]:
    """Return the changes of users' accounts in an event; the accounts of the house have no statement."""
    if isinstance(event, ledger.TransferPosted):
        legs = [(line.account, _kind_of(event.kind, line.amount_minor), line.amount_minor) for line in event.postings]
    else:
        legs = [(account, kind, 0) for account, kind in _hold_changes(event)]
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
    """Return the last change of each account in the order of accounts, which is the order of row locks."""
    last: dict[tuple[message.TenantId, message.UserId, str], Change] = {}
    for change in changes:
        account = (change.tenant, change.user_id, change.asset)
        if account not in last or last[account].version < change.version:
            last[account] = change
    return [last[account] for account in sorted(last)]


def captured_order(change: Change) -> UUID | None:
    """Return the order whose payment a change is, or None when it is something else."""
    return references.order_of(change.reference) if change.kind == "capture" else None


def _kind_of(kind: ledger.TransferKind, amount_minor: int) -> LineKind:
    return _INCOMING.get(kind, "credit") if amount_minor > 0 else _OUTGOING.get(kind, "debit")


def _hold_changes(event: ledger.HoldEvent) -> list[tuple[ledger.AccountState, LineKind]]:
    """Return the accounts that an event of a hold changes in `held` only.

    A capture's own transfer has the lines of the captured parts; a part of which nothing was captured is released.
    """
    parts = event.parts or (ledger.HoldPart(account=event.account, amount_minor=event.amount.amount_minor),)
    if isinstance(event, ledger.HoldCaptured):
        parts = tuple(part for part in parts if not part.amount_minor and not event.remaining_minor)
        return [(part.account, "release") for part in parts]
    if isinstance(event, ledger.HoldExtended):
        return []
    kind: LineKind = "hold" if isinstance(event, ledger.HoldPlaced) else "release"
    return [(part.account, kind) for part in parts if part.amount_minor]
