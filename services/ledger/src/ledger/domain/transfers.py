"""Transfers by command, reversals, and the expiry of lots."""

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
    """The amount is more than what is left of the transfer to reverse."""

    code: ClassVar[str] = "already_reversed"


class NotReversible(errors.Refusal):
    """A reversal can't be reversed; post a new transfer instead."""

    code: ClassVar[str] = "not_reversible"


class Remaining(NamedTuple):
    """What is left to reverse: of each leg by its account, and of what the transfer did to lots, signed as the leg."""

    amounts: dict[chart.AccountName, int]
    lot_uses: Sequence[lots.LotAllocation] = ()

    @property
    def whole_minor(self) -> int:
        """All that is left, of credits and of debits alike."""
        return sum(amount for amount in self.amounts.values() if amount > 0)


@dataclass(slots=True, eq=False)
class ReversibleTransfer:
    """A posted transfer and what is left of it to reverse."""

    transfer: double_entry.Transfer
    current: Remaining


def post(book: books.Books, command: ledger.PostTransfers, *, event_id: UUID) -> list[posted.PostedTransfer]:
    """Post a group of transfers; the caller rolls all of it back when one is refused. Raises what posting raises."""
    tenant, posted_transfers = command.tenant, []
    for index, requested in enumerate(command.transfers):
        key = f"{command.request_key}/{index}"
        transfer = book.transfer(
            tenant, requested.kind, key, requested.reference, event_id, occurred_at=requested.occurred_at
        )
        legs = [
            double_entry.Leg(
                chart.AccountName(tenant, leg.account, leg.asset), leg.amount_minor, expires_at=leg.expires_at
            )
            for leg in requested.legs
        ]
        posted_transfers.append(book.post(transfer, legs))
    return posted_transfers


def transfer_funds(book: books.Books, command: ledger.TransferFunds, *, event_id: UUID) -> posted.PostedTransfer:
    """Move money from one user to another. Raises FlowNotAllowed for what is kept in lots, and what posting raises."""
    amount_minor, asset = command.amount.amount_minor, command.amount.currency
    source, destination = (
        chart.user_account(command.tenant, user_id, asset) for user_id in (command.from_user_id, command.to_user_id)
    )
    transfer = book.transfer(command.tenant, "transfer", command.request_key, command.reference, event_id)
    return book.post(transfer, double_entry.two_legs(source, destination, amount_minor))


def reverse(
    book: books.Books, original: ReversibleTransfer | None, command: ledger.ReverseTransfer, *, event_id: UUID
) -> posted.PostedTransfer:
    """Reverse a transfer, or a part of it in proportion; never more than is left of it.

    Lots get back what was spent from them; where one has expired meanwhile, a new lot with a grace period gets it.
    Raises UnknownTransfer, NotReversible, AlreadyReversed, and what posting raises.
    """
    if original is None:
        raise UnknownTransfer
    if original.transfer.reverses is not None:
        raise NotReversible
    whole_minor = original.current.whole_minor
    amount_minor = whole_minor if command.amount_minor is None else command.amount_minor
    if not 0 < amount_minor <= whole_minor:
        raise AlreadyReversed(f"Left of the transfer are {whole_minor}, requested were {amount_minor}.")
    transfer = book.transfer(
        command.tenant, "reversal", command.request_key, command.reference, event_id, reverses=original.transfer.id
    )
    return reverse_part(book, original, transfer, amount_minor)


def reverse_part(
    book: books.Books, original: ReversibleTransfer, transfer: double_entry.Transfer, amount_minor: int
) -> posted.PostedTransfer:
    """Post a transfer that reverses a part of another, in proportion to what is left of its legs.

    Raises what posting raises.
    """
    left = original.current.amounts
    parts, lot_uses, legs = _allocate_to_legs(amount_minor, left), original.current.lot_uses, []
    for name, part in parts.items():
        allocations, lot_uses = _reverse_lot_uses(lot_uses, book.account(name).id, part)
        if part < 0:
            allocations = [_with_grace(book, each) for each in allocations]
        if part:
            legs.append(double_entry.Leg(name, -part, allocations=allocations))
    posted_transfer = book.post(transfer, legs, is_reversal=True)
    book.change(original, Remaining({name: left[name] - part for name, part in parts.items()}, lot_uses))
    return posted_transfer


def expire_lots(book: books.Books, account: accounts.Account, *, event_id: UUID) -> list[posted.PostedTransfer]:
    """Move what is free of expired lots to breakage, one transfer for each lot.

    What is held of them stays until the hold has ended, and everything while the account is frozen; it moves then.
    """
    tenant, _, asset = account.definition.name
    breakage = chart.system_account(tenant, "breakage", asset).name
    expired = [lot for lot in account.own_lots if lot.has_expired(book.now) and lot.current.free_minor > 0]
    posted_transfers = []
    for lot in expired if account.current.state == "open" else []:
        free_minor, key = lot.current.free_minor, f"lot:{lot.id}/{account.current.sequence + 1}"
        transfer = book.transfer(tenant, "expiry", key, f"lot:{lot.id}", event_id, occurred_at=lot.expires_at)
        allocations = [lots.LotAllocation(lot, free_minor)]
        debit = double_entry.Leg(account.definition.name, -free_minor, allocations=allocations)
        posted_transfers.append(book.post(transfer, (debit, double_entry.Leg(breakage, free_minor))))
    return posted_transfers


def _allocate_to_legs(amount_minor: int, left: Mapping[chart.AccountName, int]) -> dict[chart.AccountName, int]:
    """Allocate an amount to assets, and within each asset to its credits and to its debits alike."""
    by_asset: dict[str, dict[chart.AccountName, int]] = {}
    for name, amount in left.items():
        by_asset.setdefault(name.asset, {})[name] = amount
    credited = [sum(max(amount, 0) for amount in of_asset.values()) for of_asset in by_asset.values()]
    parts = {}
    for of_asset, asset_minor in zip(by_asset.values(), allocation.allocate(amount_minor, credited), strict=True):
        credited_parts = allocation.allocate(asset_minor, [max(amount, 0) for amount in of_asset.values()])
        debited_parts = allocation.allocate(asset_minor, [max(-amount, 0) for amount in of_asset.values()])
        legs = zip(of_asset, credited_parts, debited_parts, strict=True)
        parts.update({name: credit - debit for name, credit, debit in legs})
    return parts


def _reverse_lot_uses(
    lot_uses: Sequence[lots.LotAllocation], account_id: accounts.AccountId, part: int
) -> tuple[list[lots.LotAllocation], list[lots.LotAllocation]]:
    """Choose the lots for a part of a leg, the last spent first; returns also what is left of all uses."""
    wanted_minor, chosen, kept = abs(part), [], []
    for lot, used_minor in reversed(lot_uses):
        is_of_leg = lot.account_id == account_id and (used_minor > 0) == (part > 0)
        chosen_minor = min(abs(used_minor), wanted_minor) if is_of_leg else 0
        wanted_minor -= chosen_minor
        if chosen_minor:
            chosen.append(lots.LotAllocation(lot, chosen_minor))
        kept.append(lots.LotAllocation(lot, used_minor - (chosen_minor if used_minor > 0 else -chosen_minor)))
    return chosen, [each for each in reversed(kept) if each.amount_minor]


def _with_grace(book: books.Books, allocated: lots.LotAllocation) -> lots.LotAllocation:
    """Allocate to a new lot what comes back to one that has expired meanwhile."""
    if not allocated.lot.has_expired(book.now):
        return allocated
    return allocated._replace(lot=lots.Lot(book.new_id(), allocated.lot.account_id, book.now + lots.GRACE))
