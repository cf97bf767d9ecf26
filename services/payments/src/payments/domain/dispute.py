"""Disputes: the payer's bank takes money back until it is decided. They stand beside a payment's state."""

from dataclasses import dataclass, replace

from contracts import payments
from payments.domain import facts
from payments.domain.conflict import Conflict
from payments.domain.payment import SETTLED, Events, Payment, common


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """One dispute of a payment. It costs one fee, the first that was told."""

    dispute_ref: str
    payment_id: payments.PaymentId
    amount_minor: int
    fee_minor: int
    state: facts.DisputeState


def apply(payment: Payment, known: Dispute | None, fact: facts.DisputeFact) -> tuple[Payment, Dispute, Events]:
    """Let a fact open or decide a dispute; the same and no events when it is old news. Raises Conflict."""
    if fact.amount.currency != payment.amount.currency or payment.state not in SETTLED:
        raise Conflict("dispute", expected=payment.amount.currency, found=fact.amount.currency)
    events: Events = ()
    if known is None:
        payment, known, events = _opened(payment, fact)
    if known.state != "open" or fact.state == "open":
        return payment, known, events
    back_minor = known.amount_minor if fact.state == "won" else 0
    fee_minor = known.fee_minor or fact.fee_minor
    closed = replace(payment, disputed_minor=payment.disputed_minor - back_minor, version=payment.version + 1)
    said = payments.DisputeClosed(
        **common(closed, known.amount_minor),
        dispute_ref=fact.dispute_ref,
        provider_account=str(closed.account),
        outcome=fact.state,
        fee=closed.money(fee_minor) if fee_minor else None,
    )
    return closed, replace(known, state=fact.state, fee_minor=fee_minor), (*events, said)


def _opened(payment: Payment, fact: facts.DisputeFact) -> tuple[Payment, Dispute, Events]:
    dispute = Dispute(
        dispute_ref=fact.dispute_ref,
        payment_id=payment.payment_id,
        amount_minor=fact.amount.amount_minor,
        fee_minor=fact.fee_minor,
        state="open",
    )
    disputed = replace(
        payment, disputed_minor=payment.disputed_minor + dispute.amount_minor, version=payment.version + 1
    )
    said = payments.PaymentDisputed(
        **common(disputed, dispute.amount_minor),
        dispute_ref=dispute.dispute_ref,
        provider_account=str(disputed.account),
        fee=disputed.money(dispute.fee_minor) if dispute.fee_minor else None,
        reason=fact.reason[:64] if fact.reason else None,
    )
    return disputed, dispute, (said,)
