"""A reference model of the ledger in memory: what it answers and how its books stand, without a database."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from chassis import envelope
from contracts import ledger, payments

STEP_S = 500
GRACE_S = 14 * 86_400
NEVER = 10**12

Name = tuple[str, str]
"""Code and asset of an account."""


class Refused(Exception):  # noqa: N818 - an answer
    """The code of a refusal."""


class PrerequisiteMissing(Exception):  # noqa: N818 - a state
    """The hold or payment is not known yet."""


@dataclass
class Account:
    balance: int = 0
    held: int = 0
    overdraft: int = 0
    is_frozen: bool = False


@dataclass
class Lot:
    owner: Name
    expires: int
    left: int = 0
    held: int = 0


@dataclass
class Part:
    owner: Name
    left: int
    shares: list[tuple[int, int]]


@dataclass
class Hold:
    """A hold. `until` is the exact time of `expires`, which is in steps of the model."""

    state: str
    expires: int
    until: datetime
    parts: list[Part] = field(default_factory=list)


@dataclass
class Transfer:
    legs: dict[Name, int]
    uses: list[tuple[int, int]]
    is_reversal: bool = False
    reversed: dict[Name, int] = field(default_factory=dict)


@dataclass
class Books:
    """The state that a refusal leaves unchanged. Lots and transfers are identified by their index."""

    accounts: dict[Name, Account] = field(default_factory=dict)
    lots: list[Lot] = field(default_factory=list)
    holds: dict[Any, Hold] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)


class ReferenceModel:
    def __init__(self) -> None:
        self.books = Books()
        self.now = 0
        self.answered: dict[str, tuple[Any, str | None]] = {}
        self.payments: set[Any] = set()
        self.index_of: dict[Any, int] = {}
        self.account_ids: dict[Name, int] = {}
        self.acts: dict[type[Any], Callable[[Any], None]] = {
            ledger.PlaceHold: self._place,
            ledger.ExtendHold: self._extend,
            ledger.CaptureHold: self._capture,
            ledger.ReleaseHold: self._release,
            ledger.PostTransfers: self._post_group,
            ledger.TransferFunds: self._send,
            ledger.ReverseTransfer: self._reverse,
            ledger.FreezeAccount: self._freeze,
            ledger.UnfreezeAccount: self._unfreeze,
            ledger.SetOverdraft: self._limit,
        }

    def settle(self, message: Any) -> str | None:
        """Settle a message; returns the code of its refusal, None when it succeeds. Raises PrerequisiteMissing."""
        if isinstance(message, payments.PaymentPaid):
            if message.payment_id not in self.payments:
                self.payments.add(message.payment_id)
                asset, amount = message.amount.currency, message.amount.amount_minor
                clearing = f"clearing:{message.provider}:{message.provider_account}"
                self._post([((clearing, asset), -amount), (own(message.user_id, asset), amount)])
            return None
        if message.request_key in self.answered:
            before, code = self.answered[message.request_key]
            return code if before == message else "idempotency_conflict"
        before = deepcopy(self.books)
        code = None
        try:
            self.acts[type(message)](message)
        except Refused as refused:
            self.books, code = before, str(refused)
            if isinstance(message, ledger.PlaceHold):
                self.books.holds[message.hold_id] = Hold("refused", self.now, self._exactly(message.expires_at))
        self.answered[message.request_key] = (message, code)
        return code

    def expire(self) -> None:
        """Expire holds, then lots, whose time is over."""
        for hold in self.books.holds.values():
            if hold.state == "placed" and hold.expires <= self.now:
                self._end(hold, "expired")
        for number, lot in enumerate(list(self.books.lots)):
            if lot.expires <= self.now and (free := lot.left - lot.held):
                self._account(lot.owner).balance -= free
                self._account(("breakage", lot.owner[1])).balance += free
                lot.left -= free
                self.books.transfers.append(Transfer({}, [(number, -free)]))

    def _place(self, message: ledger.PlaceHold) -> None:
        expires, until = self._moment(message.expires_at), self._exactly(message.expires_at)
        hold = self.books.holds[message.hold_id] = Hold("placed", expires, until)
        if hold.expires <= self.now:
            raise Refused("hold_ended")
        for amount in filter(None, (message.amount, message.also)):
            name = own(message.user_id, amount.currency)
            self._check_taken(name, amount.amount_minor)
            self._account(name).held += amount.amount_minor
            shares = self._spendable(name, amount.amount_minor)
            for number, part in shares:
                self.books.lots[number].held += part
            hold.parts.append(Part(name, amount.amount_minor, shares))

    def _extend(self, message: ledger.ExtendHold) -> None:
        hold, until = self._open_hold(message), self._exactly(message.expires_at)
        if until <= hold.until:
            raise Refused("hold_not_extended")
        hold.expires, hold.until = self._moment(message.expires_at), until

    def _capture(self, message: ledger.CaptureHold) -> None:
        hold = self._open_hold(message)
        left = [part.left for part in hold.parts]
        if message.amount_minor > sum(left):
            raise Refused("capture_above_hold")
        legs, uses = [], []
        for part, amount in zip(hold.parts, allocate(message.amount_minor, left), strict=True):
            if amount:
                self._check_state(part.owner)
                legs += [(part.owner, -amount), (("revenue", part.owner[1]), amount)]
            part.left -= amount
            self._account(part.owner).held -= amount
            taken = self._take_shares(part, amount)
            for number, taken_minor in taken:
                self.books.lots[number].held -= taken_minor
                self.books.lots[number].left -= taken_minor
                uses.append((number, -taken_minor))
        self._post(legs, uses=uses)
        if not message.keep_rest or not any(part.left for part in hold.parts):
            self._end(hold, "captured")

    def _take_shares(self, part: Part, amount: int) -> list[tuple[int, int]]:
        """Take the first part of the lots that a part of a hold is allocated to."""
        taken = []
        for place, (number, there) in enumerate(part.shares):
            taken.append((number, min(amount, there)))
            part.shares[place] = (number, there - taken[-1][1])
            amount -= taken[-1][1]
        return [(number, minor) for number, minor in taken if minor]

    def _release(self, message: ledger.ReleaseHold) -> None:
        hold = self._hold(message)
        if hold.state == "refused":
            raise Refused(self.answered[f"hold:{message.hold_id}"][1])
        if hold.state == "placed":
            self._end(hold, "released")

    def _post_group(self, message: ledger.PostTransfers) -> None:
        for transfer in message.transfers:
            ends = [self._moment(leg.expires_at) for leg in transfer.legs if leg.expires_at]
            legs = [((leg.account, leg.asset), leg.amount_minor) for leg in transfer.legs]
            self._post(legs, expires=min(ends, default=NEVER))

    def _send(self, message: ledger.TransferFunds) -> None:
        asset, amount = message.amount.currency, message.amount.amount_minor
        source, destination = own(message.from_user_id, asset), own(message.to_user_id, asset)
        if source == destination:
            raise Refused("unbalanced")
        self._post([(source, -amount), (destination, amount)])

    def _reverse(self, message: ledger.ReverseTransfer) -> None:
        original = self.books.transfers[self.index_of[message.transfer_id]]
        if original.is_reversal:
            raise Refused("not_reversible")
        names = sorted(original.legs, key=self.account_ids.__getitem__)
        left = {name: original.legs[name] - original.reversed.get(name, 0) for name in names}
        whole = sum(amount for amount in left.values() if amount > 0)
        amount = whole if message.amount_minor is None else message.amount_minor
        if not 0 < amount <= whole:
            raise Refused("already_reversed")
        assets = list(dict.fromkeys(asset for _, asset in names))
        credited = [sum(left[name] for name in names if name[1] == asset and left[name] > 0) for asset in assets]
        legs, uses = [], []
        for asset, share in zip(assets, allocate(amount, credited), strict=True):
            for sign in (1, -1):
                side = [name for name in names if name[1] == asset and left[name] * sign > 0]
                for name, part in zip(side, allocate(share, [abs(left[name]) for name in side]), strict=True):
                    original.reversed[name] = original.reversed.get(name, 0) + sign * part
                    legs += [(name, -sign * part)] if part else []
        for name, amount in legs:
            uses += (
                self._reverse_uses(original, name, amount) if name[1] == "PTS" and name[0].startswith("user:") else []
            )
        self._post(legs, uses=uses, is_reversal=True)

    def _freeze(self, message: ledger.FreezeAccount) -> None:
        self._account((message.account, message.asset)).is_frozen = True

    def _unfreeze(self, message: ledger.UnfreezeAccount) -> None:
        self._account((message.account, message.asset)).is_frozen = False

    def _limit(self, message: ledger.SetOverdraft) -> None:
        account = self._account((message.account, message.asset))
        if account.balance - account.held < -message.overdraft_minor:
            raise Refused("insufficient_funds")
        account.overdraft = message.overdraft_minor

    def _post(
        self,
        legs: Sequence[tuple[Name, int]],
        *,
        uses: Sequence[tuple[int, int]] | None = None,
        expires: int = NEVER,
        is_reversal: bool = False,
    ) -> None:
        """Post a transfer; without `uses` points are spent from the first lot to expire, or credited as a new lot."""
        all_uses = list(uses or ())
        for name, amount in legs:
            if amount < 0 and uses is None:
                self._check_taken(name, -amount)
            if amount < 0 and is_reversal:
                self._check_taken(name, -amount)
            self._account(name).balance += amount
            if uses is None and name[1] == "PTS" and name[0].startswith("user:"):
                all_uses += self._use(name, amount, expires)
        if is_reversal:
            for number, amount in all_uses:
                lot = self.books.lots[number]
                lot.left += amount
                if lot.left < lot.held:
                    raise Refused("insufficient_funds")
        self.books.transfers.append(Transfer(dict(legs), all_uses, is_reversal))

    def _use(self, name: Name, amount: int, expires: int) -> list[tuple[int, int]]:
        if amount > 0:
            self.books.lots.append(Lot(name, expires, amount))
            return [(len(self.books.lots) - 1, amount)]
        taken = self._spendable(name, -amount)
        for number, part in taken:
            self.books.lots[number].left -= part
        return [(number, -part) for number, part in taken]

    def _reverse_uses(self, original: Transfer, name: Name, amount: int) -> list[tuple[int, int]]:
        """Reverse uses of lots, the last first; an expired lot is replaced by one with a grace period."""
        wanted, back = abs(amount), []
        for place in reversed(range(len(original.uses))):
            number, used = original.uses[place]
            if used * amount >= 0 or not wanted:
                continue
            part = min(wanted, abs(used)) * (1 if amount > 0 else -1)
            wanted -= abs(part)
            original.uses[place] = (number, used + part)
            if amount > 0 and self.books.lots[number].expires <= self.now:
                self.books.lots.append(Lot(name, self.now + GRACE_S))
                number = len(self.books.lots) - 1
            back.append((number, part))
        return back

    def _end(self, hold: Hold, state: str) -> None:
        for part in hold.parts:
            self._account(part.owner).held -= part.left
            for number, there in part.shares:
                self.books.lots[number].held -= there
            part.left, part.shares = 0, []
        hold.state = state

    def _spendable(self, name: Name, amount: int) -> list[tuple[int, int]]:
        if name[1] != "PTS":
            return []
        lots = [(lot.expires, number) for number, lot in enumerate(self.books.lots) if lot.owner == name]
        taken = []
        for expires, number in sorted(lots):
            lot = self.books.lots[number]
            part = min(amount, lot.left - lot.held) if expires > self.now else 0
            amount -= part
            taken += [(number, part)] if part else []
        if amount:
            raise Refused("insufficient_funds")
        return taken

    def _check_taken(self, name: Name, amount: int) -> None:
        account = self.books.accounts.get(name, Account())
        self._check_state(name)
        if name[0].startswith("user:") and account.balance - account.held - amount < -account.overdraft:
            raise Refused("insufficient_funds")

    def _check_state(self, name: Name) -> None:
        if self.books.accounts.get(name, Account()).is_frozen:
            raise Refused("account_frozen")

    def _open_hold(self, message: ledger.HoldCommand) -> Hold:
        hold = self._hold(message)
        if hold.state != "placed" or hold.expires <= self.now:
            raise Refused("hold_ended")
        return hold

    def _hold(self, message: ledger.HoldCommand) -> Hold:
        if message.hold_id not in self.books.holds:
            raise PrerequisiteMissing
        return self.books.holds[message.hold_id]

    def _account(self, name: Name) -> Account:
        return self.books.accounts.setdefault(name, Account())

    def _moment(self, at: datetime) -> int:
        """Return a time in the model's own, which moves in steps."""
        return self.now + round((at - envelope.now()).total_seconds() / STEP_S) * STEP_S

    def _exactly(self, at: datetime) -> datetime:
        """Return a time that can be compared with others, however many steps lie between them."""
        return at + timedelta(seconds=self.now)


def own(user_id: object, asset: str) -> Name:
    return f"user:{user_id}:{'points' if asset == 'PTS' else 'wallet'}", asset


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Allocate by the largest remainder, with fractions."""
    exact = [Fraction(amount * weight, sum(weights) or 1) for weight in weights]
    parts = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda place: (parts[place] - exact[place], place))
    for place in order[: amount - sum(parts)]:
        parts[place] += 1
    return parts
