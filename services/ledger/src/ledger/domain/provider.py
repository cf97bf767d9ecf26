"""What moves at payment providers, and how the books follow: paid, refunded, disputed, arrived on its own.

Everything goes through the clearing account of the provider's account, so that its balance is what the provider owes.
What was taken from us there is taken from the user as far as the wallet reaches; the rest is a loss.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from contracts import ledger, payments
from contracts.message import TenantId
from ledger.domain import books, chart, double_entry, posted

EVENTS = (
    payments.PaymentPaid,
    payments.PaymentPaidLate,
    payments.PaymentRefunded,
    payments.PaymentDisputed,
    payments.DisputeClosed,
    payments.DepositReceived,
)


class NaturalKey(NamedTuple):
    """What a transfer is on the books by, once for ever."""

    tenant: TenantId
    kind: ledger.TransferKind
    source_key: str


class Move(NamedTuple):
    """One transfer that an event becomes; it takes effect when it is recorded where nothing else is said.

    Where `rest_from` is given, the source pays what it can and that account the rest.
    """

    key: NaturalKey
    reference: str
    source: chart.AccountDefinition
    destination: chart.AccountDefinition
    amount_minor: int
    occurred_at: datetime | None = None
    rest_from: chart.AccountDefinition | None = None

    def transfer(self, id_: UUID, event_id: UUID, *, at: datetime | None = None) -> double_entry.Transfer:
        """Give the transfer that this becomes; `at` is only needed where it is not said when it took effect."""
        occurred_at = self.occurred_at or at
        assert occurred_at is not None
        return double_entry.Transfer(ledger.TransferId(id_), *self.key, self.reference, occurred_at, event_id)


class Moved(NamedTuple):
    """One event as the books see it; what it is about must be on the books before, under the key `after`."""

    moves: Sequence[Move]
    after: NaturalKey | None = None

    @property
    def openings(self) -> list[chart.AccountDefinition]:
        """All accounts that may be needed."""
        return [
            each for move in self.moves for each in (move.source, move.destination, move.rest_from) if each is not None
        ]

    @property
    def keys(self) -> list[NaturalKey]:
        """All keys that must be looked for."""
        return [move.key for move in self.moves] + ([self.after] if self.after else [])


def read(event: Any) -> Moved:
    """Read an event of payments as transfers. Raises UnknownAsset."""
    tenant, (amount_minor, asset) = event.tenant, (event.amount.amount_minor, event.amount.currency)
    account, reference = f"{event.provider}:{event.provider_account}", f"payment:{event.payment_id}"
    clearing = chart.system_account(tenant, f"clearing:{account}", asset)
    paid = NaturalKey(tenant, "top_up", reference)  # whatever event carries it
    match event:
        case payments.PaymentPaid():
            funds = chart.user_account(tenant, event.user_id, asset)
            return Moved([Move(paid, reference, clearing, funds, amount_minor, event.paid_at), *_fee(event, paid)])
        case payments.PaymentRefunded():
            funds, losses = (
                chart.user_account(tenant, event.user_id, asset),
                chart.system_account(tenant, "losses:refunds", asset),
            )
            key = NaturalKey(tenant, "refund", f"refund:{event.refund_id}")
            return Moved([Move(key, reference, funds, clearing, amount_minor, event.refunded_at, losses)], after=paid)
        case payments.DepositReceived():
            key = NaturalKey(tenant, "deposit", f"deposit:{event.deposit_id}")
            suspense = chart.system_account(tenant, "suspense:deposits", asset)
            return Moved([Move(key, key.source_key, clearing, suspense, amount_minor, event.received_at)])
    losses = chart.system_account(tenant, "losses:disputes", asset)
    dispute = NaturalKey(tenant, "dispute", f"dispute:{account}:{event.dispute_ref}")
    fee = _fee(event, dispute)  # one for both events, whichever tells of it
    if isinstance(event, payments.PaymentDisputed):
        return Moved([Move(dispute, reference, losses, clearing, amount_minor), *fee], after=paid)
    if event.outcome == "lost":
        return Moved(fee, after=dispute)
    won = dispute._replace(source_key=f"{dispute.source_key}/won")
    return Moved([Move(won, reference, clearing, losses, amount_minor), *fee], after=dispute)


def post(
    book: books.Books,
    moved: Moved,
    known: Collection[NaturalKey],
    written: double_entry.Transfer | None,
    *,
    event_id: UUID,
) -> list[posted.PostedTransfer]:
    """Post what is not known of an event; `written` is its first transfer where that is written already.

    The caller rolls back what a refusal leaves half done. Raises BalanceOutOfRange, AccountClosed.
    """
    done = []
    for move in moved.moves:
        if move.key not in known:
            ahead = written if move is moved.moves[0] else None
            transfer = ahead or move.transfer(book.new_id(), event_id, at=book.at)
            done.append(book.post(transfer, _legs(book, move), is_written=ahead is not None))
    return done


def _legs(book: books.Books, move: Move) -> Sequence[double_entry.Leg]:
    if move.rest_from is None:
        return double_entry.two_legs(move.source, move.destination, move.amount_minor)
    # The provider has given it back already: the wallet pays what it can, even where it may not be used.
    source = book.account(move.source.name).current
    own_minor = min(move.amount_minor, max(source.available_minor, 0)) if source.state == "open" else 0
    legs = (
        double_entry.Leg(move.source.name, -own_minor),
        double_entry.Leg(move.rest_from.name, own_minor - move.amount_minor),
        double_entry.Leg(move.destination.name, move.amount_minor),
    )
    return [leg for leg in legs if leg.amount_minor]


def _fee(event: payments.PaymentPaid | payments.PaymentDisputed | payments.DisputeClosed, of: NaturalKey) -> list[Move]:
    """Give what the provider keeps of a payment or for a dispute, where that is known."""
    if event.fee is None:
        return []
    account, asset = f"{event.provider}:{event.provider_account}", event.fee.currency
    fees, clearing = (chart.system_account(event.tenant, f"{kind}:{account}", asset) for kind in ("fees", "clearing"))
    occurred_at = event.paid_at if isinstance(event, payments.PaymentPaid) else None
    key, reference = of._replace(kind="fee"), f"payment:{event.payment_id}"
    return [Move(key, reference, fees, clearing, event.fee.amount_minor, occurred_at)]
