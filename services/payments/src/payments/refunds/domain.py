"""The life cycle of a refund. Its amount is reserved at once, so that all refunds never exceed what was captured."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import contracts.payments
from chassis import errors
from contracts.message import TenantId
from payments.domain import accounts, facts, lifecycle, refusals


class State(StrEnum):
    """The state of a refund: stored, known to its provider, or ended. FAILED is one that had succeeded before."""

    REQUESTED = "requested"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    FAILED = "failed"


OPEN = frozenset({State.REQUESTED, State.PENDING})


class NotRefundable(errors.Refusal):
    """The payment has no money to give back."""

    code = "not_refundable"


class RefundNotSupported(errors.Refusal):
    """The provider can't give money back."""

    code = "refund_not_supported"


class PartialRefundNotSupported(errors.Refusal):
    """The provider gives back all of it or nothing."""

    code = "partial_refund_not_supported"


class RefundExceedsCaptured(errors.Refusal):
    """The refund is larger than what is left of the captured amount."""

    code = "refund_exceeds_captured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund of a payment. `refund_ref` is None until its provider has answered.

    `is_ours` is False for one that was made in the provider's dashboard.
    """

    refund_id: contracts.payments.RefundId
    payment_id: contracts.payments.PaymentId
    tenant: TenantId
    amount_minor: int
    state: State
    refund_ref: str | None = None
    reason: str | None = None
    is_ours: bool = True
    settled_at: datetime | None = None


def reserve(
    payment: lifecycle.Payment,
    command: contracts.payments.RefundPayment,
    capabilities: frozenset[accounts.Capability],
) -> tuple[lifecycle.Payment, Refund]:
    """Reserve a part of the captured amount for a new refund. Raises Refusal."""
    if payment.state not in lifecycle.SETTLED or payment.state is lifecycle.State.REFUNDED:
        raise NotRefundable
    if accounts.Capability.REFUND not in capabilities:
        raise RefundNotSupported
    if command.amount is not None and command.amount.currency != payment.amount.currency:
        raise refusals.CurrencyMismatch
    amount_minor = payment.left_minor if command.amount is None else command.amount.amount_minor
    if not 0 < amount_minor <= payment.left_minor:
        raise RefundExceedsCaptured
    if amount_minor != payment.captured_minor and accounts.Capability.PARTIAL_REFUND not in capabilities:
        raise PartialRefundNotSupported
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


def requested(payment: lifecycle.Payment, refund: Refund) -> contracts.payments.RefundRequested:
    """Return the event that money of a payment is reserved for a refund."""
    fields = lifecycle.event_fields(payment, refund.amount_minor)
    return contracts.payments.RefundRequested(**fields, refund_id=refund.refund_id)


def is_same_request(
    refund: Refund, payment_id: contracts.payments.PaymentId, command: contracts.payments.RefundPayment
) -> bool:
    """Tell whether a command repeats the request of a stored refund."""
    is_amount_same = command.amount is None or command.amount.amount_minor == refund.amount_minor
    return refund.payment_id == payment_id and is_amount_same


def adopt(
    payment: lifecycle.Payment, account: accounts.Account, fact: facts.RefundFact
) -> tuple[lifecycle.Payment, Refund]:
    """Create the refund that was made in the provider's dashboard. Raises FactMismatchError when less is left."""
    if payment.state not in lifecycle.SETTLED or fact.amount.amount_minor > payment.left_minor:
        raise refusals.FactMismatchError("refund", expected=payment.left_minor, found=fact.amount.amount_minor)
    refund = Refund(
        refund_id=contracts.payments.RefundId(lifecycle.named(account, f"refund:{fact.refund_ref}")),
        payment_id=payment.payment_id,
        tenant=payment.tenant,
        amount_minor=fact.amount.amount_minor,
        state=State.REQUESTED,
        is_ours=False,
    )
    return replace(payment, reserved_minor=payment.reserved_minor + refund.amount_minor), refund


def apply(
    payment: lifecycle.Payment, refund: Refund, fact: facts.RefundFact, *, seen_at: datetime
) -> tuple[lifecycle.Payment, Refund, lifecycle.Events]:
    """Apply a fact to its refund; the same values and no events when the fact is old.

    A bank may return a refund days after it has succeeded: then it is undone, and may be made again. Raises
    FactMismatchError when the fact has another amount, or changes a refund that has ended in any other way.
    """
    if (refund.amount_minor, payment.amount.currency) != (fact.amount.amount_minor, fact.amount.currency):
        raise refusals.FactMismatchError("refund_amount", expected=refund.amount_minor, found=fact.amount.amount_minor)
    if refund.refund_ref not in {None, fact.refund_ref}:
        raise refusals.FactMismatchError("refund_ref", expected=refund.refund_ref, found=fact.refund_ref)
    if refund.state is State.SUCCEEDED and fact.state == "canceled":
        return _reversed(payment, replace(refund, state=State.FAILED, settled_at=seen_at), fact, seen_at)
    if refund.state not in OPEN:
        # Whatever a failed refund was before is a late answer, and so is pending after any end.
        if refund.state is not State.FAILED and fact.state not in {"pending", str(refund.state)}:
            raise refusals.FactMismatchError("refund_state", expected=refund.state, found=fact.state)
        return payment, refund, ()
    updated = replace(refund, refund_ref=fact.refund_ref, state=State(fact.state))
    if updated.state is State.PENDING:
        return payment, updated, ()
    settled = replace(updated, settled_at=seen_at)
    if updated.state is State.CANCELED:
        return _released(payment, settled, fact.reason or "unknown")
    return _succeeded(payment, settled, seen_at)


def cancel(
    payment: lifecycle.Payment, refund: Refund, code: str, *, seen_at: datetime
) -> tuple[lifecycle.Payment, Refund, lifecycle.Events]:
    """Release the reserved amount of a refund that its provider refused."""
    if refund.state not in OPEN:
        return payment, refund, ()
    return _released(payment, replace(refund, state=State.CANCELED, settled_at=seen_at), code)


def _released(
    payment: lifecycle.Payment, refund: Refund, code: str
) -> tuple[lifecycle.Payment, Refund, lifecycle.Events]:
    released = replace(
        payment, reserved_minor=payment.reserved_minor - refund.amount_minor, version=payment.version + 1
    )
    event = contracts.payments.RefundFailed(
        **lifecycle.event_fields(released, refund.amount_minor), refund_id=refund.refund_id, code=code[:64]
    )
    # Nobody requested a refund of the dashboard, so nobody waits to hear that it failed.
    return released, refund, (event,) if refund.is_ours else ()


def _succeeded(
    payment: lifecycle.Payment, refund: Refund, seen_at: datetime
) -> tuple[lifecycle.Payment, Refund, lifecycle.Events]:
    refunded_minor = payment.refunded_minor + refund.amount_minor
    is_full = refunded_minor == payment.captured_minor
    after = replace(
        payment,
        refunded_minor=refunded_minor,
        reserved_minor=payment.reserved_minor - refund.amount_minor,
        state=lifecycle.State.REFUNDED if is_full else lifecycle.State.PARTIALLY_REFUNDED,
        version=payment.version + 1,
    )
    event = contracts.payments.PaymentRefunded(
        **lifecycle.event_fields(after, refund.amount_minor),
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
    return after, refund, (event,)


def _reversed(
    payment: lifecycle.Payment, refund: Refund, fact: facts.RefundFact, seen_at: datetime
) -> tuple[lifecycle.Payment, Refund, lifecycle.Events]:
    refunded_minor = payment.refunded_minor - refund.amount_minor
    after = replace(
        payment,
        refunded_minor=refunded_minor,
        state=lifecycle.State.PARTIALLY_REFUNDED if refunded_minor else lifecycle.State.PAID,
        version=payment.version + 1,
    )
    event = contracts.payments.RefundReversed(
        **lifecycle.event_fields(after, refund.amount_minor),
        refund_id=refund.refund_id,
        provider_account=str(after.account),
        provider_ref=str(after.provider_ref),
        refund_ref=fact.refund_ref,
        captured=after.money(after.captured_minor),
        refunded=after.money(refunded_minor) if refunded_minor else None,
        reason=(fact.reason or "unknown")[:64],
        is_ours=refund.is_ours,
        reversed_at=seen_at,
    )
    return after, refund, (event,)
