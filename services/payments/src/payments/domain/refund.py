"""Refunds: what is promised to them is reserved at once, so that all of them together never exceed what was taken."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from contracts import payments
from contracts.message import TenantId
from payments.domain import facts
from payments.domain.conflict import Conflict, Refused
from payments.domain.payment import SETTLED, Events, Payment, common, named
from payments.domain.payment import State as PaymentState


class State(StrEnum):
    """Where a refund stands: asked for, known to its provider, and one way or the other over."""

    REQUESTED = "requested"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


OPEN = frozenset({State.REQUESTED, State.PENDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund of a payment. `refund_ref` is None until its provider has answered; `is_ours` unless the cabinet's."""

    refund_id: payments.RefundId
    payment_id: payments.PaymentId
    tenant: TenantId
    amount_minor: int
    state: State
    refund_ref: str | None = None
    reason: str | None = None
    is_ours: bool = True
    settled_at: datetime | None = None


def reserve(
    payment: Payment, command: payments.RefundPayment, capabilities: frozenset[facts.Capability]
) -> tuple[Payment, Refund]:
    """Promise a part of what was taken to a new refund. Raises Refused."""
    if payment.state not in SETTLED or payment.state is PaymentState.REFUNDED:
        raise Refused("not_refundable", "The payment has no money to give back.")
    if facts.Capability.REFUND not in capabilities:
        raise Refused("refund_not_supported", "The provider can't give money back.")
    if command.amount is not None and command.amount.currency != payment.amount.currency:
        raise Refused("currency_mismatch", "The payment is in another currency.")
    amount_minor = payment.left_minor if command.amount is None else command.amount.amount_minor
    if not 0 < amount_minor <= payment.left_minor:
        raise Refused("refund_exceeds_captured", "Less than this is left of what was taken.")
    if amount_minor != payment.captured_minor and facts.Capability.PARTIAL_REFUND not in capabilities:
        raise Refused("partial_refund_not_supported", "The provider gives back all of it or nothing.")
    refund = Refund(
        refund_id=command.refund_id,
        payment_id=payment.payment_id,
        tenant=payment.tenant,
        amount_minor=amount_minor,
        state=State.REQUESTED,
        reason=command.reason,
    )
    return (
        replace(payment, reserved_minor=payment.reserved_minor + amount_minor, version=payment.version + 1),
        refund,
    )


def repeats(refund: Refund, payment_id: payments.PaymentId, command: payments.RefundPayment) -> bool:
    """Tell whether a command asks again for a refund that is known."""
    is_amount_same = command.amount is None or command.amount.amount_minor == refund.amount_minor
    return refund.payment_id == payment_id and is_amount_same


def made_elsewhere(payment: Payment, account: facts.Account, fact: facts.RefundFact) -> tuple[Payment, Refund]:
    """Begin a refund that was made in the provider's cabinet. Raises Conflict when less is left than it took."""
    if payment.state not in SETTLED or fact.amount.amount_minor > payment.left_minor:
        raise Conflict("refund", expected=payment.left_minor, found=fact.amount.amount_minor)
    refund = Refund(
        refund_id=payments.RefundId(named(account, f"refund:{fact.refund_ref}")),
        payment_id=payment.payment_id,
        tenant=payment.tenant,
        amount_minor=fact.amount.amount_minor,
        state=State.REQUESTED,
        is_ours=False,
    )
    return replace(payment, reserved_minor=payment.reserved_minor + refund.amount_minor), refund


def apply(
    payment: Payment, refund: Refund, fact: facts.RefundFact, *, seen_at: datetime
) -> tuple[Payment, Refund, Events]:
    """Let a fact settle a refund; the same and no events when it is old news.

    Raises Conflict when the fact is about other money, or undoes what was final.
    """
    if (refund.amount_minor, payment.amount.currency) != (fact.amount.amount_minor, fact.amount.currency):
        raise Conflict("refund_amount", expected=refund.amount_minor, found=fact.amount.amount_minor)
    if refund.refund_ref not in {None, fact.refund_ref}:
        raise Conflict("refund_ref", expected=refund.refund_ref, found=fact.refund_ref)
    if refund.state not in OPEN:
        # Pending after the end is a late answer; only another end is news, and nothing that we could undo by ourselves.
        if fact.state not in {State.PENDING, refund.state}:
            raise Conflict("refund_state", expected=refund.state, found=fact.state)
        return payment, refund, ()
    known = replace(refund, refund_ref=fact.refund_ref, state=State(fact.state))
    if known.state is State.PENDING:
        return payment, known, ()
    settled = replace(known, settled_at=seen_at)
    if known.state is State.CANCELED:
        return _released(payment, settled, fact.reason or "unknown")
    return _given_back(payment, settled, seen_at)


def give_up(payment: Payment, refund: Refund, code: str, *, seen_at: datetime) -> tuple[Payment, Refund, Events]:
    """Free what was promised to a refund that its provider refused."""
    if refund.state not in OPEN:
        return payment, refund, ()
    return _released(payment, replace(refund, state=State.CANCELED, settled_at=seen_at), code)


def _released(payment: Payment, refund: Refund, code: str) -> tuple[Payment, Refund, Events]:
    freed = replace(payment, reserved_minor=payment.reserved_minor - refund.amount_minor, version=payment.version + 1)
    said = payments.RefundFailed(**common(freed, refund.amount_minor), refund_id=refund.refund_id, code=code[:64])
    # A refund of the cabinet was promised nothing by us, so nobody waits to hear that it failed.
    return freed, refund, (said,) if refund.is_ours else ()


def _given_back(payment: Payment, refund: Refund, seen_at: datetime) -> tuple[Payment, Refund, Events]:
    refunded_minor = payment.refunded_minor + refund.amount_minor
    is_full = refunded_minor == payment.captured_minor
    after = replace(
        payment,
        refunded_minor=refunded_minor,
        reserved_minor=payment.reserved_minor - refund.amount_minor,
        state=PaymentState.REFUNDED if is_full else PaymentState.PARTIALLY_REFUNDED,
        version=payment.version + 1,
    )
    said = payments.PaymentRefunded(
        **common(after, refund.amount_minor),
        refund_id=refund.refund_id,
        provider_account=str(after.account),
        provider_ref=str(after.provider_ref),
        refund_ref=str(refund.refund_ref),
        captured=after.money(after.captured_minor),
        refunded=after.money(refunded_minor),
        is_full=is_full,
        is_ours=refund.is_ours,
        refunded_at=seen_at,
    )
    return after, refund, (said,)
