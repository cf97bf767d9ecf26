"""What moves at payment providers, and how the books follow: paid, refunded, disputed, arrived on its own.

Everything goes through the clearing account of the provider's account, so that its balance is what the provider owes.
What was taken from us there is taken from the user as far as the wallet reaches; the rest is a loss.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from contracts import ledger, payments
from contracts.message import Money, TenantId
from ledger.domain import books, chart, movements


class TooEarly(Exception):  # noqa: N818 - a state of the event, not a failure of ours
    """What this is about is not on the books yet; it comes by another message, which may be late."""


class NaturalKey(NamedTuple):
    """What a transfer is on the books by, once for ever."""

    tenant: TenantId
    kind: ledger.TransferKind
    source_key: str


class Moved(NamedTuple):
    """One event as the books see it. `key` is its first transfer's; `after` must be on the books before it.

    `other` is the account that stands against clearing, `besides` those that part of it or the fee goes to.
    """

    event: Any
    key: NaturalKey
    after: NaturalKey | None
    reference: str
    clearing: chart.Opening
    other: chart.Opening
    besides: Mapping[str, chart.Opening]

    @property
    def openings(self) -> Iterator[chart.Opening]:
        """All accounts that may be needed."""
        yield self.clearing
        yield self.other
        yield from self.besides.values()

    @property
    def fee_key(self) -> NaturalKey:
        """What the provider's fee is on the books by; a dispute has one, whichever of its events tells of it."""
        of_dispute = self.after if isinstance(self.event, payments.DisputeClosed) else None
        return (of_dispute or self.key)._replace(kind="fee")

    @property
    def keys(self) -> Iterator[NaturalKey]:
        """All keys that must be looked for."""
        yield self.key
        if self.after is not None:
            yield self.after
        if "fees" in self.besides:
            yield self.fee_key


_Legs = Sequence[movements.Leg]


def read(event: Any) -> Moved:
    """Read an event of payments. Raises UnknownAsset."""
    return _READ[type(event)](event)


def top_up_of(moved: Moved, transfer_id: UUID, event_id: UUID) -> movements.Transfer:
    """Give the transfer that a paid payment becomes; it depends on no account, so it can be written before any."""
    key, event = moved.key, moved.event
    return movements.Transfer(
        ledger.TransferId(transfer_id), key.tenant, key.kind, key.source_key, moved.reference, event.paid_at, event_id
    )


def post(
    book: books.Books,
    moved: Moved,
    known: Collection[NaturalKey],
    written: movements.Transfer | None,
    *,
    event_id: UUID,
) -> list[books.Posted]:
    """Post what an event tells, by the transfer that is written already where there is one.

    The caller rolls back what a refusal leaves half done. Raises BalanceOutOfRange, AccountClosed.
    """
    posted = []
    if legs := _LEGS[type(moved.event)](book, moved):
        transfer = written or _transfer(book, moved.key, moved, event_id)
        posted.append(book.post(transfer, legs, is_written=written is not None))
    fee: Money | None = getattr(moved.event, "fee", None)
    if fee is not None and moved.fee_key not in known:
        fee_legs = _between(moved.besides["fees"], moved.clearing, fee.amount_minor)
        posted.append(book.post(_transfer(book, moved.fee_key, moved, event_id), fee_legs))
    return posted


def _paid(event: payments.PaymentPaid) -> Moved:
    reference = f"payment:{event.payment_id}"
    key = NaturalKey(event.tenant, "top_up", reference)  # whatever event carries it
    funds = chart.funds(event.tenant, event.user_id, event.amount.currency)
    return Moved(event, key, None, reference, _clearing(event), funds, _fees(event))


def _refunded(event: payments.PaymentRefunded) -> Moved:
    tenant, asset, reference = event.tenant, event.amount.currency, f"payment:{event.payment_id}"
    key = NaturalKey(tenant, "refund", f"refund:{event.refund_id}")
    losses = {"losses": chart.system(tenant, "losses:refunds", asset)}
    funds = chart.funds(tenant, event.user_id, asset)
    return Moved(event, key, NaturalKey(tenant, "top_up", reference), reference, _clearing(event), funds, losses)


def _disputed(event: payments.PaymentDisputed) -> Moved:
    reference = f"payment:{event.payment_id}"
    losses = chart.system(event.tenant, "losses:disputes", event.amount.currency)
    after = NaturalKey(event.tenant, "top_up", reference)
    return Moved(event, _dispute(event), after, reference, _clearing(event), losses, _fees(event))


def _closed(event: payments.DisputeClosed) -> Moved:
    opened = _dispute(event)
    key = opened._replace(source_key=f"{opened.source_key}/{event.outcome}")
    losses = chart.system(event.tenant, "losses:disputes", event.amount.currency)
    return Moved(event, key, opened, f"payment:{event.payment_id}", _clearing(event), losses, _fees(event))


def _deposited(event: payments.DepositReceived) -> Moved:
    reference = f"deposit:{event.deposit_id}"
    suspense = chart.system(event.tenant, "suspense:deposits", event.amount.currency)
    key = NaturalKey(event.tenant, "deposit", reference)
    return Moved(event, key, None, reference, _clearing(event), suspense, {})


def _comes_in(_: books.Books, moved: Moved) -> _Legs:
    return _between(moved.clearing, moved.other, moved.event.amount.amount_minor)


def _goes_back(book: books.Books, moved: Moved) -> _Legs:
    """The provider has given it back already: the wallet pays what it can, even where it may not be used."""
    amount_minor = moved.event.amount.amount_minor
    wallet = book.account(moved.other.name)
    from_wallet = min(amount_minor, max(wallet.available_minor, 0)) if wallet.state == "open" else 0
    legs = (
        movements.Leg(moved.other.name, -from_wallet),
        movements.Leg(moved.besides["losses"].name, from_wallet - amount_minor),
        movements.Leg(moved.clearing.name, amount_minor),
    )
    return [leg for leg in legs if leg.amount_minor]


def _is_taken(_: books.Books, moved: Moved) -> _Legs:
    return _between(moved.other, moved.clearing, moved.event.amount.amount_minor)


def _is_decided(book: books.Books, moved: Moved) -> _Legs:
    return _comes_in(book, moved) if moved.event.outcome == "won" else ()


def _between(giver: chart.Opening, taker: chart.Opening, amount_minor: int) -> _Legs:
    return movements.Leg(giver.name, -amount_minor), movements.Leg(taker.name, amount_minor)


def _transfer(book: books.Books, key: NaturalKey, moved: Moved, event_id: UUID) -> movements.Transfer:
    event = moved.event
    occurred_at = getattr(event, "paid_at", None) or getattr(event, "refunded_at", None)
    return book.transfer(
        key.tenant, key.kind, key.source_key, moved.reference, event_id,
        occurred_at=occurred_at or getattr(event, "received_at", None),
    )  # fmt: skip


def _clearing(event: Any) -> chart.Opening:
    code = f"clearing:{event.provider}:{event.provider_account}"
    return chart.system(event.tenant, code, event.amount.currency)


def _fees(event: payments.PaymentPaid | payments.PaymentDisputed | payments.DisputeClosed) -> dict[str, chart.Opening]:
    if event.fee is None:
        return {}
    code = f"fees:{event.provider}:{event.provider_account}"
    return {"fees": chart.system(event.tenant, code, event.fee.currency)}


def _dispute(event: payments.PaymentDisputed | payments.DisputeClosed) -> NaturalKey:
    source_key = f"dispute:{event.provider}:{event.provider_account}:{event.dispute_ref}"
    return NaturalKey(event.tenant, "dispute", source_key)


_READ: dict[type[Any], Callable[[Any], Moved]] = {
    payments.PaymentPaid: _paid,
    payments.PaymentPaidLate: _paid,
    payments.PaymentRefunded: _refunded,
    payments.PaymentDisputed: _disputed,
    payments.DisputeClosed: _closed,
    payments.DepositReceived: _deposited,
}
_LEGS: dict[type[Any], Callable[[books.Books, Moved], _Legs]] = {
    payments.PaymentPaid: _comes_in,
    payments.PaymentPaidLate: _comes_in,
    payments.PaymentRefunded: _goes_back,
    payments.PaymentDisputed: _is_taken,
    payments.DisputeClosed: _is_decided,
    payments.DepositReceived: _comes_in,
}
EVENTS = tuple(_READ)
