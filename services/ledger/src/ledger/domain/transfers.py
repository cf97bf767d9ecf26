"""What is asked to move between accounts: transfers, transfers between users, reversals, lots that expire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import ledger
from ledger.domain import accounts, allocation, books, chart, double_entry, lots, posted


class UnknownTransfer(errors.Refusal):
    """There is no such transfer."""

    code: ClassVar[str] = "unknown_transfer"
    status: ClassVar[int] = 404


class AlreadyReversed(errors.Refusal):
    """What is asked for is more than what is left of the transfer; nothing is undone twice."""

    code: ClassVar[str] = "already_reversed"


class NotReversible(errors.Refusal):
    """A reversal is final: what it undid is done again by a new transfer."""

    code: ClassVar[str] = "not_reversible"


class Remaining(NamedTuple):
    """What is left of a transfer: of each leg by its account, and of what it did to lots, signed as the leg."""

    amounts: dict[chart.AccountName, int]
    uses: Sequence[lots.LotAllocation] = ()


@dataclass(slots=True, eq=False)
class ReversibleTransfer:
    """A transfer on the books, as far as undoing it needs to know."""

    transfer: double_entry.Transfer
    current: Remaining


def post(book: books.Books, command: ledger.PostTransfers, *, event_id: UUID) -> list[posted.PostedTransfer]:
    """Post a group of transfers; the caller rolls all of it back when one is refused. Raises what posting raises."""
    tenant, done = command.tenant, []
    for place, asked in enumerate(command.transfers):
        key = f"{command.request_key}/{place}"
        transfer = book.transfer(tenant, asked.kind, key, asked.reference, event_id, occurred_at=asked.occurred_at)
        legs = [
            double_entry.Leg(
                chart.AccountName(tenant, leg.account, leg.asset), leg.amount_minor, expires_at=leg.expires_at
            )
            for leg in asked.legs
        ]
        done.append(book.post(transfer, legs))
    return done


def transfer_funds(book: books.Books, command: ledger.TransferFunds, *, event_id: UUID) -> posted.PostedTransfer:
    """Move money from one user to another. Raises FlowNotAllowed for what is kept in lots, and what posting raises."""
    amount_minor, asset = command.amount.amount_minor, command.amount.currency
    source, destination = (
        chart.user_account(command.tenant, user_id, asset) for user_id in (command.from_user_id, command.to_user_id)
    )
    transfer = book.transfer(command.tenant, "transfer", command.request_key, command.reference, event_id)
    return book.post(transfer, double_entry.two_legs(source, destination, amount_minor))


def reverse(
    book: books.Books, undone: ReversibleTransfer | None, command: ledger.ReverseTransfer, *, event_id: UUID
) -> posted.PostedTransfer:
    """Undo a transfer, or a part of it in proportion; never more than is left of it.

    Lots get back what was spent from them; one that has expired meanwhile gets a new lot with days of grace. Raises
    UnknownTransfer, NotReversible, AlreadyReversed, and what posting raises.
    """
    if undone is None:
        raise UnknownTransfer
    if undone.transfer.reverses is not None:
        raise NotReversible
    left = undone.current.amounts
    whole_minor = sum(amount for amount in left.values() if amount > 0)
    amount_minor = whole_minor if command.amount_minor is None else command.amount_minor
    if not 0 < amount_minor <= whole_minor:
        raise AlreadyReversed(f"Remaining of the transfer are {whole_minor}, asked for were {amount_minor}.")
    transfer = book.transfer(
        command.tenant, "reversal", command.request_key, command.reference, event_id, reverses=undone.transfer.id
    )
    parts, uses, legs = _split(amount_minor, left), undone.current.uses, []
    for name, part in parts.items():
        back, uses = _take_back(uses, book.account(name).id, part)
        if part < 0:
            back = [_with_grace(book, share) for share in back]
        if part:
            legs.append(double_entry.Leg(name, -part, shares=back))
    on_books = book.post(transfer, legs, is_reversal=True)
    book.change(undone, Remaining({name: left[name] - part for name, part in parts.items()}, uses))
    return on_books


def expire_lots(book: books.Books, account: accounts.Account, *, event_id: UUID) -> list[posted.PostedTransfer]:
    """Move what is free of lots whose time is over to breakage, one transfer for each lot.

    What is held of them stays until the hold has ended, and all of them while the account is frozen; then they move.
    """
    tenant, _, asset = account.definition.name
    breakage = chart.system_account(tenant, "breakage", asset).name
    due = [lot for lot in account.own_lots if lot.is_over(book.at) and lot.current.free_minor > 0]
    said = []
    for lot in due if account.current.state == "open" else []:
        free_minor, key = lot.current.free_minor, f"lot:{lot.id}/{account.current.sequence + 1}"
        transfer = book.transfer(tenant, "expiry", key, f"lot:{lot.id}", event_id, occurred_at=lot.expires_at)
        expired = double_entry.Leg(account.definition.name, -free_minor, shares=[lots.LotAllocation(lot, free_minor)])
        said.append(book.post(transfer, (expired, double_entry.Leg(breakage, free_minor))))
    return said


def _split(amount_minor: int, left: Mapping[chart.AccountName, int]) -> dict[chart.AccountName, int]:
    """Share an amount between assets, and within each asset between its credits and between its debits alike."""
    by_asset: dict[str, dict[chart.AccountName, int]] = {}
    for name, amount in left.items():
        by_asset.setdefault(name.asset, {})[name] = amount
    credited = [sum(max(amount, 0) for amount in of_asset.values()) for of_asset in by_asset.values()]
    parts = {}
    for of_asset, share in zip(by_asset.values(), allocation.allocate(amount_minor, credited), strict=True):
        plus = allocation.allocate(share, [max(amount, 0) for amount in of_asset.values()])
        minus = allocation.allocate(share, [max(-amount, 0) for amount in of_asset.values()])
        parts.update({name: more - less for name, more, less in zip(of_asset, plus, minus, strict=True)})
    return parts


def _take_back(
    uses: Sequence[lots.LotAllocation], account_id: accounts.AccountId, part: int
) -> tuple[list[lots.LotAllocation], list[lots.LotAllocation]]:
    """Choose the lots that a part of a leg touched, the last spent first; gives also what is left of all uses."""
    wanted_minor, back, kept = abs(part), [], []
    for lot, used_minor in reversed(uses):
        is_of_leg = lot.account_id == account_id and (used_minor > 0) == (part > 0)
        share_minor = min(abs(used_minor), wanted_minor) if is_of_leg else 0
        wanted_minor -= share_minor
        if share_minor:
            back.append(lots.LotAllocation(lot, share_minor))
        kept.append(lots.LotAllocation(lot, used_minor - (share_minor if used_minor > 0 else -share_minor)))
    return back, [share for share in reversed(kept) if share.amount_minor]


def _with_grace(book: books.Books, share: lots.LotAllocation) -> lots.LotAllocation:
    """Give a new lot for what comes back to one that has expired meanwhile."""
    if not share.lot.is_over(book.at):
        return share
    return share._replace(lot=lots.Lot(book.new_id(), share.lot.account_id, book.at + lots.GRACE))
