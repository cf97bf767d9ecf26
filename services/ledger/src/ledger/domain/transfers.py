"""What is asked to move between accounts: transfers, transfers between users, reversals, lots that expire."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from chassis import errors
from contracts import ledger
from ledger.domain import books, chart, lots, movements, shares


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


class DuplicateTransfer(errors.Refusal):
    """A transfer with this natural key is on the books already."""

    code: ClassVar[str] = "duplicate_transfer"


@dataclass(slots=True)
class Reversible:
    """A transfer on the books, as far as undoing it needs to know: its legs and what was undone of each before.

    `uses` is what it did to lots, signed as the leg, less what its reversals undid.
    """

    transfer: movements.Transfer
    legs: list[movements.Leg]
    reversed_minor: list[int]
    uses: list[lots.Share]

    @property
    def left(self) -> list[int]:
        """What is left of each leg, signed as the leg."""
        return [leg.amount_minor + undone for leg, undone in zip(self.legs, self.reversed_minor, strict=True)]

    def figures(self) -> tuple[list[int], list[lots.Share]]:
        """Give everything that may change."""
        return self.reversed_minor, self.uses

    def reset(self, reversed_minor: list[int], uses: list[lots.Share]) -> None:
        """Go back to figures that were remembered."""
        self.reversed_minor, self.uses = reversed_minor, uses


def post(book: books.Books, command: ledger.PostTransfers, *, event_id: UUID) -> list[books.Posted]:
    """Post a group of transfers; the caller rolls all of it back when one is refused. Raises what posting raises."""
    return [
        book.post(
            book.transfer(
                command.tenant,
                asked.kind,
                f"{command.request_key}/{place}",
                asked.reference,
                event_id,
                occurred_at=asked.occurred_at,
            ),
            [
                movements.Leg(
                    chart.AccountName(command.tenant, leg.account, leg.asset),
                    leg.amount_minor,
                    expires_at=leg.expires_at,
                )
                for leg in asked.legs
            ],
        )
        for place, asked in enumerate(command.transfers)
    ]


def send(book: books.Books, command: ledger.TransferFunds, *, event_id: UUID) -> books.Posted:
    """Move money from one user to another. Raises FlowNotAllowed for what is kept in lots, and what posting raises."""
    amount_minor, asset = command.amount.amount_minor, command.amount.currency
    giver = chart.funds(command.tenant, command.from_user_id, asset)
    taker = chart.funds(command.tenant, command.to_user_id, asset)
    transfer = book.transfer(command.tenant, "transfer", command.request_key, command.reference, event_id)
    return book.post(transfer, (movements.Leg(giver.name, -amount_minor), movements.Leg(taker.name, amount_minor)))


def reverse(
    book: books.Books, undone: Reversible | None, command: ledger.ReverseTransfer, *, event_id: UUID
) -> books.Posted:
    """Undo a transfer, or a part of it in proportion; never more than is left of it.

    Lots get back what was spent from them; one that has expired meanwhile gets a new lot with days of grace. Raises
    UnknownTransfer, NotReversible, AlreadyReversed, and what posting raises.
    """
    if undone is None:
        raise UnknownTransfer
    if undone.transfer.reverses is not None:
        raise NotReversible
    left = undone.left
    whole_minor = sum(amount for amount in left if amount > 0)
    amount_minor = whole_minor if command.amount_minor is None else command.amount_minor
    if not 0 < amount_minor <= whole_minor:
        raise AlreadyReversed(f"Left of the transfer are {whole_minor}, asked for were {amount_minor}.")
    parts = _split(amount_minor, left, [leg.name.asset for leg in undone.legs])
    transfer = book.transfer(
        command.tenant, "reversal", command.request_key, command.reference, event_id, reverses=undone.transfer.id
    )
    book.remember(undone)
    legs = []
    for leg, part in zip(undone.legs, parts, strict=True):
        touched = _take_back(undone, book.account(leg.name).id, part) if part else []
        back = [_with_grace(book, share) if part < 0 else share for share in touched]
        if part:
            legs.append(movements.Leg(leg.name, -part, shares=back))
    posted = book.post(transfer, legs, is_reversal=True)
    undone.reversed_minor = [before - part for before, part in zip(undone.reversed_minor, parts, strict=True)]
    return posted


def expire_lots(book: books.Books, account: books.Account, *, event_id: UUID) -> list[books.Posted]:
    """Move what is free of lots whose time is over to breakage, one transfer for each lot.

    What is held of them stays until the hold has ended, and all of them while the account is frozen; then they move.
    """
    if account.state != "open":
        return []
    tenant, _, asset = account.opening.name
    breakage = chart.system(tenant, "breakage", asset)
    said = []
    for lot in [lot for lot in account.in_lots if lot.is_over(book.at) and lot.free_minor > 0]:
        free_minor, key = lot.free_minor, f"lot:{lot.id}/{account.sequence + 1}"
        transfer = book.transfer(tenant, "expiry", key, f"lot:{lot.id}", event_id, occurred_at=lot.expires_at)
        legs = (
            movements.Leg(account.opening.name, -free_minor, shares=[lots.Share(lot, free_minor)]),
            movements.Leg(breakage.name, free_minor),
        )
        said.append(book.post(transfer, legs))
    return said


def _split(amount_minor: int, left: Sequence[int], assets: Sequence[str]) -> list[int]:
    """Share an amount between assets, and within each asset between its credits and between its debits alike."""
    names = list(dict.fromkeys(assets))
    places = {name: [place for place, asset in enumerate(assets) if asset == name] for name in names}
    credited = [sum(max(left[place], 0) for place in places[name]) for name in names]
    parts = [0] * len(left)
    for name, share in zip(names, shares.split(amount_minor, credited), strict=True):
        plus = shares.split(share, [max(left[place], 0) for place in places[name]])
        minus = shares.split(share, [max(-left[place], 0) for place in places[name]])
        for place, more, less in zip(places[name], plus, minus, strict=True):
            parts[place] = more - less
    return parts


def _take_back(undone: Reversible, account_id: books.AccountId, part: int) -> list[lots.Share]:
    """Choose the lots that a part of a leg touched, the last spent first, and note that this is undone."""
    wanted_minor, back, kept = abs(part), [], []
    for lot, used_minor in reversed(undone.uses):
        is_of_leg = lot.account_id == account_id and (used_minor > 0) == (part > 0)
        share_minor = min(abs(used_minor), wanted_minor) if is_of_leg else 0
        wanted_minor -= share_minor
        if share_minor:
            back.append(lots.Share(lot, share_minor))
        kept.append(lots.Share(lot, used_minor - (share_minor if used_minor > 0 else -share_minor)))
    undone.uses = [share for share in reversed(kept) if share.amount_minor]
    return back


def _with_grace(book: books.Books, share: lots.Share) -> lots.Share:
    """Give a new lot for what comes back to one that has expired meanwhile."""
    if not share.lot.is_over(book.at):
        return share
    return share._replace(lot=lots.Lot(book.new_id(), share.lot.account_id, book.at + lots.GRACE))
