"""What is asked to move between accounts: transfers, transfers between users, reversals, lots that expire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from uuid import UUID

from chassis import errors
from contracts import ledger
from ledger.domain import accounts, books, chart, lots, movements, posted, shares


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


class Left(NamedTuple):
    """What is left of a transfer: of each leg by its account, and of what it did to lots, signed as the leg."""

    amounts: dict[chart.AccountName, int]
    uses: Sequence[lots.Share] = ()


@dataclass(slots=True, eq=False)
class Reversible:
    """A transfer on the books, as far as undoing it needs to know."""

    transfer: movements.Transfer
    now: Left


def post(book: books.Books, command: ledger.PostTransfers, *, event_id: UUID) -> list[posted.Posted]:
    """Post a group of transfers; the caller rolls all of it back when one is refused. Raises what posting raises."""
    tenant, done = command.tenant, []
    for place, asked in enumerate(command.transfers):
        key = f"{command.request_key}/{place}"
        transfer = book.transfer(tenant, asked.kind, key, asked.reference, event_id, occurred_at=asked.occurred_at)
        legs = [
            movements.Leg(
                chart.AccountName(tenant, leg.account, leg.asset), leg.amount_minor, expires_at=leg.expires_at
            )
            for leg in asked.legs
        ]
        done.append(book.post(transfer, legs))
    return done


def send(book: books.Books, command: ledger.TransferFunds, *, event_id: UUID) -> posted.Posted:
    """Move money from one user to another. Raises FlowNotAllowed for what is kept in lots, and what posting raises."""
    amount_minor, asset = command.amount.amount_minor, command.amount.currency
    giver, taker = (
        chart.funds(command.tenant, user_id, asset) for user_id in (command.from_user_id, command.to_user_id)
    )
    transfer = book.transfer(command.tenant, "transfer", command.request_key, command.reference, event_id)
    return book.post(transfer, movements.between(giver, taker, amount_minor))


def reverse(
    book: books.Books, undone: Reversible | None, command: ledger.ReverseTransfer, *, event_id: UUID
) -> posted.Posted:
    """Undo a transfer, or a part of it in proportion; never more than is left of it.

    Lots get back what was spent from them; one that has expired meanwhile gets a new lot with days of grace. Raises
    UnknownTransfer, NotReversible, AlreadyReversed, and what posting raises.
    """
    if undone is None:
        raise UnknownTransfer
    if undone.transfer.reverses is not None:
        raise NotReversible
    left = undone.now.amounts
    whole_minor = sum(amount for amount in left.values() if amount > 0)
    amount_minor = whole_minor if command.amount_minor is None else command.amount_minor
    if not 0 < amount_minor <= whole_minor:
        raise AlreadyReversed(f"Left of the transfer are {whole_minor}, asked for were {amount_minor}.")
    transfer = book.transfer(
        command.tenant, "reversal", command.request_key, command.reference, event_id, reverses=undone.transfer.id
    )
    parts, uses, legs = _split(amount_minor, left), undone.now.uses, []
    for name, part in parts.items():
        back, uses = _take_back(uses, book.account(name).id, part)
        if part < 0:
            back = [_with_grace(book, share) for share in back]
        if part:
            legs.append(movements.Leg(name, -part, shares=back))
    on_books = book.post(transfer, legs, is_reversal=True)
    book.change(undone, Left({name: left[name] - part for name, part in parts.items()}, uses))
    return on_books


def expire_lots(book: books.Books, account: accounts.Account, *, event_id: UUID) -> list[posted.Posted]:
    """Move what is free of lots whose time is over to breakage, one transfer for each lot.

    What is held of them stays until the hold has ended, and all of them while the account is frozen; then they move.
    """
    tenant, _, asset = account.opening.name
    breakage = chart.system(tenant, "breakage", asset).name
    due = [lot for lot in account.in_lots if lot.is_over(book.at) and lot.now.free_minor > 0]
    said = []
    for lot in due if account.now.state == "open" else []:
        free_minor, key = lot.now.free_minor, f"lot:{lot.id}/{account.now.sequence + 1}"
        transfer = book.transfer(tenant, "expiry", key, f"lot:{lot.id}", event_id, occurred_at=lot.expires_at)
        expired = movements.Leg(account.opening.name, -free_minor, shares=[lots.Share(lot, free_minor)])
        said.append(book.post(transfer, (expired, movements.Leg(breakage, free_minor))))
    return said


def _split(amount_minor: int, left: Mapping[chart.AccountName, int]) -> dict[chart.AccountName, int]:
    """Share an amount between assets, and within each asset between its credits and between its debits alike."""
    by_asset: dict[str, dict[chart.AccountName, int]] = {}
    for name, amount in left.items():
        by_asset.setdefault(name.asset, {})[name] = amount
    credited = [sum(max(amount, 0) for amount in of_asset.values()) for of_asset in by_asset.values()]
    parts = {}
    for of_asset, share in zip(by_asset.values(), shares.split(amount_minor, credited), strict=True):
        plus = shares.split(share, [max(amount, 0) for amount in of_asset.values()])
        minus = shares.split(share, [max(-amount, 0) for amount in of_asset.values()])
        parts.update({name: more - less for name, more, less in zip(of_asset, plus, minus, strict=True)})
    return parts


def _take_back(
    uses: Sequence[lots.Share], account_id: accounts.AccountId, part: int
) -> tuple[list[lots.Share], list[lots.Share]]:
    """Choose the lots that a part of a leg touched, the last spent first; gives also what is left of all uses."""
    wanted_minor, back, kept = abs(part), [], []
    for lot, used_minor in reversed(uses):
        is_of_leg = lot.account_id == account_id and (used_minor > 0) == (part > 0)
        share_minor = min(abs(used_minor), wanted_minor) if is_of_leg else 0
        wanted_minor -= share_minor
        if share_minor:
            back.append(lots.Share(lot, share_minor))
        kept.append(lots.Share(lot, used_minor - (share_minor if used_minor > 0 else -share_minor)))
    return back, [share for share in reversed(kept) if share.amount_minor]


def _with_grace(book: books.Books, share: lots.Share) -> lots.Share:
    """Give a new lot for what comes back to one that has expired meanwhile."""
    if not share.lot.is_over(book.at):
        return share
    return share._replace(lot=lots.Lot(book.new_id(), share.lot.account_id, book.at + lots.GRACE))
