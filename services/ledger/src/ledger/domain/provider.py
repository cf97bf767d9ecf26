"""How the books follow what happened at payment providers: payments, refunds, disputes and deposits.

Everything goes through the clearing account of the provider's account, so that its balance is what the provider owes.
A refund or a lost dispute debits the user's wallet as far as its balance reaches; the shortfall is a loss.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, assert_never, get_args
from uuid import UUID

from contracts import ledger, payments
from contracts.message import TenantId
from ledger.domain import books, chart, double_entry, posted, reservations, transfers

Event = (
    payments.PaymentPaid
    | payments.PaymentPaidLate
    | payments.PaymentRefunded
    | payments.RefundRequested
    | payments.RefundFailed
    | payments.RefundReversed
    | payments.PaymentDisputed
    | payments.DisputeClosed
    | payments.DepositReceived
)
EVENTS: tuple[type[Event], ...] = get_args(Event)


class NaturalKey(NamedTuple):
    """The key under which a transfer is posted once, for ever."""

    tenant: TenantId
    kind: ledger.TransferKind
    source_key: str


class PlannedTransfer(NamedTuple):
    """A transfer that follows from an event; without `occurred_at` it takes effect when it is recorded.

    With `shortfall_from` the source pays as far as its available balance reaches, and that account the rest. With
    `bounded_by` the source pays as far as it may be debited: what is available, or only what a hold that has ended had
    held, and nothing where there was none. A debt counts where an operator allows it.
    """

    key: NaturalKey
    reference: str
    source: chart.AccountDefinition
    destination: chart.AccountDefinition
    amount_minor: int
    occurred_at: datetime | None = None
    shortfall_from: chart.AccountDefinition | None = None
    bounded_by: Literal["available", "held"] | None = None

    def transfer(self, new_id: UUID, event_id: UUID, *, at: datetime | None = None) -> double_entry.Transfer:
        """Return the transfer as it is posted; `at` is needed only where the plan has no `occurred_at`."""
        occurred_at = self.occurred_at or at
        assert occurred_at is not None
        return double_entry.Transfer(ledger.TransferId(new_id), *self.key, self.reference, occurred_at, event_id)


class PlannedReversal(NamedTuple):
    """The reversal of what is left of the transfer with the key `original`, leg by leg."""

    key: NaturalKey
    original: NaturalKey
    reference: str
    occurred_at: datetime | None = None


class Plan(NamedTuple):
    """The transfers that follow from one event. The transfer with the key `requires` must be posted before them.

    A hold that ends is released before them, so that they can take what it held, and one is placed after them.
    """

    transfers: Sequence[PlannedTransfer] = ()
    requires: NaturalKey | None = None
    reversal: PlannedReversal | None = None
    reservation: reservations.Reservation | None = None

    @property
    def accounts(self) -> list[chart.AccountDefinition]:
        """All accounts that may be needed."""
        of_hold = [self.reservation.wallet] if self.reservation else []
        return of_hold + [
            account
            for planned in self.transfers
            for account in (planned.source, planned.destination, planned.shortfall_from)
            if account is not None
        ]

    @property
    def natural_keys(self) -> list[NaturalKey]:
        """All keys to look up on the books."""
        reversals = [self.reversal.key, self.reversal.original] if self.reversal else []
        return [planned.key for planned in self.transfers] + reversals + ([self.requires] if self.requires else [])


def plan(event: Event) -> Plan:
    """Plan the transfers of an event. Raises UnknownAsset."""
    if isinstance(event, payments.RefundRequested | payments.RefundFailed):
        return _of_refund_under_way(event)
    tenant, (amount_minor, asset) = event.tenant, (event.amount.amount_minor, event.amount.currency)
    account = f"{event.provider}:{event.provider_account}"
    clearing = chart.system_account(tenant, f"clearing:{account}", asset)
    reference, paid = f"payment:{event.payment_id}", _paid(event)
    match event:
        case payments.PaymentPaid():  # and PaymentPaidLate, which extends it
            wallet = chart.user_account(tenant, event.user_id, asset)
            top_up = PlannedTransfer(paid, reference, clearing, wallet, amount_minor, event.paid_at)
            return Plan([top_up, *_fee(event, paid)])
        case payments.PaymentRefunded():
            wallet = chart.user_account(tenant, event.user_id, asset)
            losses = chart.system_account(tenant, "losses:refunds", asset)
            key = NaturalKey(tenant, "refund", f"refund:{event.refund_id}")
            refund = PlannedTransfer(key, reference, wallet, clearing, amount_minor, event.refunded_at, losses)
            # Nothing was held for a refund of the dashboard: it was unknown until it had succeeded.
            held = _held_for_refund(event, is_end=True) if event.is_ours else None
            return Plan([refund], requires=paid, reservation=held)
        case payments.RefundReversed():
            refund_key = NaturalKey(tenant, "refund", f"refund:{event.refund_id}")
            key = refund_key._replace(source_key=f"{refund_key.source_key}/failed")
            return Plan((), refund_key, PlannedReversal(key, refund_key, reference, event.reversed_at))
        case payments.PaymentDisputed() | payments.DisputeClosed():
            return _of_dispute(event, reference, paid, clearing)
        case payments.DepositReceived():
            key = NaturalKey(tenant, "deposit", f"deposit:{event.deposit_id}")
            suspense = chart.system_account(tenant, "suspense:deposits", asset)
            return Plan([PlannedTransfer(key, key.source_key, clearing, suspense, amount_minor, event.received_at)])
        case _:
            assert_never(event)


def _of_refund_under_way(event: payments.RefundRequested | payments.RefundFailed) -> Plan:
    if isinstance(event, payments.RefundRequested):
        return Plan(requires=_paid(event), reservation=_held_for_refund(event, is_end=False))
    return Plan(reservation=_held_for_refund(event, is_end=True))


def _held_for_refund(
    event: payments.RefundRequested | payments.RefundFailed | payments.PaymentRefunded, *, is_end: bool
) -> reservations.Reservation:
    wallet = chart.user_account(event.tenant, event.user_id, event.amount.currency)
    key, reference, amount_minor = f"refund:{event.refund_id}", f"payment:{event.payment_id}", event.amount.amount_minor
    return reservations.Reservation(event.tenant, key, event.user_id, wallet, amount_minor, reference, is_end)


def _paid(event: payments.PaymentEvent | payments.DepositReceived) -> NaturalKey:
    """Return the key of the credit of a payment, which is the same whichever event reports it."""
    return NaturalKey(event.tenant, "top_up", f"payment:{event.payment_id}")


def _of_dispute(
    event: payments.PaymentDisputed | payments.DisputeClosed,
    reference: str,
    paid: NaturalKey,
    clearing: chart.AccountDefinition,
) -> Plan:
    amount_minor, asset = event.amount.amount_minor, event.amount.currency
    losses = chart.system_account(event.tenant, "losses:disputes", asset)
    source_key = f"dispute:{event.provider}:{event.provider_account}:{event.dispute_ref}"
    dispute = NaturalKey(event.tenant, "dispute", source_key)
    fee = _fee(event, dispute)  # one fee for both events, whichever reports it
    share_minor = event.payer_share.amount_minor if event.payer_share else 0
    wallet = chart.user_account(event.tenant, event.user_id, asset)
    # What is taken from the payer lowers the loss, and is given back leg by leg when the dispute is won.
    taken = dispute._replace(source_key=f"{source_key}/taken")
    take = PlannedTransfer(taken, reference, wallet, losses, share_minor, bounded_by="available")
    if isinstance(event, payments.PaymentDisputed):
        lost = PlannedTransfer(dispute, reference, losses, clearing, amount_minor)
        at_once = [take] if event.policy == "take" else []
        held = reservations.Reservation(event.tenant, source_key, event.user_id, wallet, share_minor, reference)
        is_held = event.policy == "hold" and share_minor > 0
        return Plan([lost, *at_once, *fee], requires=paid, reservation=held if is_held else None)
    ended = reservations.Reservation(event.tenant, source_key, event.user_id, wallet, amount_minor, reference, True)
    if event.outcome == "lost":
        return Plan([take._replace(bounded_by="held"), *fee], requires=dispute, reservation=ended)
    returned = dispute._replace(source_key=f"{source_key}/returned")
    won = PlannedTransfer(dispute._replace(source_key=f"{source_key}/won"), reference, clearing, losses, amount_minor)
    return Plan([won, *fee], dispute, PlannedReversal(returned, taken, reference), ended)


def post(
    book: books.Books,
    planned: Plan,
    posted_keys: Collection[NaturalKey],
    prewritten: double_entry.Transfer | None,
    *,
    original: transfers.ReversibleTransfer | None = None,
    released_minor: int | None = None,
    event_id: UUID,
) -> list[posted.PostedTransfer]:
    """Post the transfers of a plan that are not posted yet; `prewritten` is the first where its row is written already.

    `original` is the transfer that the plan reverses. Where people have reversed all of it, nothing is left to post.
    `released_minor` is what the hold that has ended had held; None when the event ends none.
    The caller rolls a refusal back. Raises BalanceOutOfRange, AccountClosed.
    """
    new = []
    for index, each in enumerate(planned.transfers):
        is_needless = each.bounded_by == "held" and released_minor is None
        legs = () if is_needless or each.key in posted_keys else _legs(book, each, released_minor)
        if legs:
            written = prewritten if index == 0 else None
            transfer = written or each.transfer(book.new_id(), event_id, at=book.at)
            new.append(book.post(transfer, legs, is_prewritten=written is not None))
    reversal = planned.reversal
    if reversal is not None and original is not None and original.current.whole_minor:
        reverses, occurred_at = original.transfer.id, reversal.occurred_at
        transfer = book.transfer(
            *reversal.key, reversal.reference, event_id, occurred_at=occurred_at, reverses=reverses
        )
        new.append(transfers.reverse_part(book, original, transfer, original.current.whole_minor))
    return new


def _legs(book: books.Books, planned: PlannedTransfer, released_minor: int | None) -> Sequence[double_entry.Leg]:
    if planned.bounded_by is not None:
        wallet = book.account(planned.source.name).current
        own_minor = min(planned.amount_minor, reservations.takeable_minor(wallet, released_minor))
        return double_entry.two_legs(planned.source, planned.destination, own_minor) if own_minor else ()
    if planned.shortfall_from is None:
        return double_entry.two_legs(planned.source, planned.destination, planned.amount_minor)
    # The provider has returned the money already, so a wallet that is frozen or too small must not stop the posting.
    own_minor = min(planned.amount_minor, reservations.spendable_minor(book.account(planned.source.name).current))
    legs = (
        double_entry.Leg(planned.source.name, -own_minor),
        double_entry.Leg(planned.shortfall_from.name, own_minor - planned.amount_minor),
        double_entry.Leg(planned.destination.name, planned.amount_minor),
    )
    return [leg for leg in legs if leg.amount_minor]


def _fee(
    event: payments.PaymentPaid | payments.PaymentDisputed | payments.DisputeClosed,
    charged_for: NaturalKey,
) -> list[PlannedTransfer]:
    """Plan the provider's fee for a payment or a dispute, where the event names one."""
    if event.fee is None:
        return []
    account, asset = f"{event.provider}:{event.provider_account}", event.fee.currency
    fees, clearing = (chart.system_account(event.tenant, f"{kind}:{account}", asset) for kind in ("fees", "clearing"))
    occurred_at = event.paid_at if isinstance(event, payments.PaymentPaid) else None
    key, reference = charged_for._replace(kind="fee"), f"payment:{event.payment_id}"
    return [PlannedTransfer(key, reference, fees, clearing, event.fee.amount_minor, occurred_at)]
