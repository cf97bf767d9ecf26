"""The life cycle of a dispute, which leaves the payment's own state as it is."""

from dataclasses import dataclass, replace

import contracts.payments
from contracts.message import Money
from payments.domain import facts, lifecycle, refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """One dispute of a payment. It has one fee, the first that the provider named."""

    dispute_ref: str
    payment_id: contracts.payments.PaymentId
    amount_minor: int
    fee_minor: int
    state: facts.DisputeState


def apply(
    payment: lifecycle.Payment,
    dispute: Dispute | None,
    fact: facts.DisputeFact,
    policy: contracts.payments.DisputePolicy = "shop_bears",
) -> tuple[lifecycle.Payment, Dispute, lifecycle.Events]:
    """Apply a fact that opens or closes a dispute; the same values and no events when it is old.

    `policy` is what happens to the payer's wallet. Of all disputes of a payment, and with what was refunded, it never
    bears more than was captured.

    Raises FactMismatchError when the fact does not fit the payment.
    """
    if fact.amount.currency != payment.amount.currency or payment.state not in lifecycle.SETTLED:
        raise refusals.FactMismatchError("dispute", expected=payment.amount.currency, found=fact.amount.currency)
    events: lifecycle.Events = ()
    if dispute is None:
        payment, dispute, events = _opened(payment, fact, policy)
    if dispute.state != "open" or fact.state == "open":
        return payment, dispute, events
    returned_minor = dispute.amount_minor if fact.state == "won" else 0
    fee_minor = dispute.fee_minor or fact.fee_minor
    closed = replace(payment, disputed_minor=payment.disputed_minor - returned_minor, version=payment.version + 1)
    others = replace(payment, disputed_minor=payment.disputed_minor - dispute.amount_minor)
    event = contracts.payments.DisputeClosed(
        payer_share=_payer_share(others, dispute.amount_minor),
        **lifecycle.event_fields(closed, dispute.amount_minor),
        dispute_ref=fact.dispute_ref,
        provider_account=str(closed.account),
        outcome=fact.state,
        fee=closed.money(fee_minor) if fee_minor else None,
    )
    return closed, replace(dispute, state=fact.state, fee_minor=fee_minor), (*events, event)


def _payer_share(payment: lifecycle.Payment, amount_minor: int) -> Money | None:
    left_minor = payment.captured_minor - payment.refunded_minor - payment.disputed_minor
    share_minor = min(amount_minor, left_minor)
    return payment.money(share_minor) if share_minor > 0 else None


def _opened(
    payment: lifecycle.Payment, fact: facts.DisputeFact, policy: contracts.payments.DisputePolicy
) -> tuple[lifecycle.Payment, Dispute, lifecycle.Events]:
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
    event = contracts.payments.PaymentDisputed(
        **lifecycle.event_fields(disputed, dispute.amount_minor),
        dispute_ref=dispute.dispute_ref,
        provider_account=str(disputed.account),
        fee=disputed.money(dispute.fee_minor) if dispute.fee_minor else None,
        reason=fact.reason[:64] if fact.reason else None,
        policy=policy,
        payer_share=_payer_share(payment, dispute.amount_minor),
        due_by=fact.due_by,
    )
    return disputed, dispute, (event,)
