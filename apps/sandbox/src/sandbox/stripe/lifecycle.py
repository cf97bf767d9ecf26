"""The state transitions of Stripe's payment intents, charges, refunds and disputes. Pure: no I/O, no clock.

Each transition returns its events in order, as (type, object) pairs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sandbox import errors
from sandbox.stripe import objects, requests

HOLD_S = 7 * 86_400
DISPUTE_DUE_S = 9 * 86_400
DISPUTE_FEE = 1500

# Stripe's test payment methods that are declined or need authentication; all others succeed.
DECLINED = {"pm_card_chargeDeclined", "pm_card_visa_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"}
AUTHENTICATION_REQUIRED = {"pm_card_authenticationRequired", "pm_card_threeDSecure2Required"}

_PAYABLE = {"requires_payment_method", "requires_confirmation", "requires_action"}
_CANCELABLE = _PAYABLE | {"requires_capture"}


class _ApiObject(Protocol):
    def to_json(self) -> dict[str, Any]: ...


NewEvents = list[tuple[str, _ApiObject]]


def choose_method(intent: objects.Intent, payment_method: str | None, *, page_url: str) -> bool:
    """Set the payment method; return whether the payer must authenticate on a page. Raises StripeError."""
    _require(intent, _PAYABLE, to="be confirmed")
    chosen = payment_method or intent.payment_method
    if chosen is None:
        raise requests.StripeError("A payment method is missing.", code="payment_intent_unexpected_state")
    intent.payment_method = chosen
    if chosen not in AUTHENTICATION_REQUIRED or intent.status == "requires_action":
        return False
    intent.status = "requires_action"
    intent.next_action = {"type": "redirect_to_url", "redirect_to_url": {"return_url": None, "url": page_url}}
    return True


def charge(intent: objects.Intent, *, number: int, now_s: int, is_declined: bool) -> objects.Charge:
    """Create the charge of an intent, succeeded, pending or declined."""
    _require(intent, _PAYABLE, to="be paid")
    method = intent.payment_method_types[0]
    is_delayed = method in requests.DELAYED
    charge = objects.Charge(
        id=objects.new_id("py" if is_delayed else "ch"),
        number=number,
        created=now_s,
        amount=intent.amount,
        currency=intent.currency,
        intent=intent,
        status="failed" if is_declined else "pending" if is_delayed else "succeeded",
        method=method,
    )
    intent.charge_id = charge.id
    intent.payment_method = intent.payment_method or objects.new_id("pm")
    intent.next_action = None
    return charge


def apply_charge(charge: objects.Charge) -> NewEvents:
    """Update the intent after its charge."""
    intent = charge.intent
    if charge.status == "failed":
        intent.status, intent.payment_method = "requires_payment_method", None
        intent.last_payment_error = decline_error(charge)
        return [("charge.failed", charge), ("payment_intent.payment_failed", intent)]
    intent.last_payment_error = None
    if charge.status == "pending":
        intent.status = "processing"
        return [("charge.pending", charge), ("payment_intent.processing", intent)]
    if intent.capture_method == "manual":
        intent.status, intent.amount_capturable = "requires_capture", charge.amount
        return [("charge.succeeded", charge), ("payment_intent.amount_capturable_updated", intent)]
    _take(charge, charge.amount)
    return [("charge.succeeded", charge), ("payment_intent.succeeded", intent)]


def change_amount(intent: objects.Intent, amount: int) -> None:
    """Change the amount of an unpaid intent."""
    _require(intent, _PAYABLE, to="be updated")
    intent.amount = amount


def decide_delayed(charge: objects.Charge, *, is_declined: bool) -> NewEvents:
    """Complete or decline the charge of a delayed payment method."""
    _require(charge.intent, {"processing"}, to="be settled")
    charge.status = "failed" if is_declined else "succeeded"
    return apply_charge(charge)


def capture(charge: objects.Charge, amount: int | None) -> NewEvents:
    """Capture held money or a part of it; the rest is released."""
    _require(charge.intent, {"requires_capture"}, to="be captured")
    if amount is not None and amount > charge.amount:
        raise requests.StripeError(
            "The capture amount is greater than the amount that can be captured.",
            param="amount_to_capture",
            code="amount_too_large",
        )
    _take(charge, amount or charge.amount)
    return [("charge.captured", charge), ("payment_intent.succeeded", charge.intent)]


def cancel(intent: objects.Intent, reason: str | None, now_s: int) -> NewEvents:
    """Cancel an intent and release what it holds."""
    _require(intent, _CANCELABLE, to="be canceled")
    intent.status, intent.canceled_at, intent.cancellation_reason = "canceled", now_s, reason
    intent.amount_capturable, intent.next_action = 0, None
    return [("payment_intent.canceled", intent)]


def require_refundable(charge: objects.Charge, amount: int | None) -> int:
    """Return the amount to refund; raises StripeError if it is too large or the charge is disputed."""
    if charge.status != "succeeded" or not charge.amount_captured:
        raise requests.StripeError("This charge has not been captured.", code="charge_not_captured")
    if charge.dispute is not None and charge.dispute.status != "won":
        raise requests.StripeError(f"Charge {charge.id} has been charged back.", code="charge_disputed")
    if charge.refundable == 0:
        raise requests.StripeError(f"Charge {charge.id} has already been refunded.", code="charge_already_refunded")
    if (amount or 0) > charge.refundable:
        raise requests.StripeError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({charge.refundable})",
            param="amount",
        )
    return amount or charge.refundable


def start_refund(refund: objects.Refund) -> NewEvents:
    """Add the refund to its charge; Stripe counts pending refunds as refunded."""
    refund.charge.amount_refunded += refund.amount
    return [("refund.created", refund), ("charge.refunded", refund.charge)]


def decide_refund(refund: objects.Refund, *, is_failed: bool) -> NewEvents:
    """Decide a pending refund; the amount of a failed one can be refunded again. One that succeeded may fail later."""
    if refund.status == "failed" or (refund.status == "succeeded" and not is_failed):
        raise errors.NotAllowed(f"The refund is already {refund.status}")
    if not is_failed:
        refund.status = "succeeded"
        return [("refund.updated", refund)]
    refund.status = "failed"
    refund.charge.amount_refunded -= refund.amount
    return [("refund.updated", refund), ("refund.failed", refund)]


def open_dispute(charge: objects.Charge, amount: int | None, *, number: int, now_s: int) -> objects.Dispute:
    """Open a dispute of a charge; raises NotAllowed."""
    if not charge.amount_captured or charge.dispute is not None:
        raise errors.NotAllowed("Only a captured charge without a dispute can be disputed")
    if (amount or 0) > charge.amount_captured:
        raise errors.NotAllowed("The dispute is above the charge")
    charge.dispute = objects.Dispute(
        id=objects.new_id("du"),
        number=number,
        created=now_s,
        amount=amount or charge.amount_captured,
        charge=charge,
        due_by=now_s + DISPUTE_DUE_S,
    )
    return charge.dispute


def close_dispute(dispute: objects.Dispute, outcome: str) -> NewEvents:
    """Decide a dispute; the money of a won one is returned."""
    if dispute.status != "needs_response":
        raise errors.NotAllowed(f"The dispute is already {dispute.status}")
    dispute.status = outcome
    reinstated: NewEvents = [("charge.dispute.funds_reinstated", dispute)] if outcome == "won" else []
    return [*reinstated, ("charge.dispute.closed", dispute)]


def decline_error(charge: objects.Charge) -> dict[str, Any]:
    """Build the error of a card with insufficient funds."""
    return {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "insufficient_funds",
        "message": "Your card has insufficient funds.",
        "charge": charge.id,
    }


def fee(amount: int) -> int:
    """Return Stripe's fee of a charge: 2.9 % plus 30, at most the charge."""
    return min(amount * 29 // 1000 + 30, amount)


def _take(charge: objects.Charge, amount: int) -> None:
    charge.amount_captured = amount
    charge.intent.status, charge.intent.amount_received, charge.intent.amount_capturable = "succeeded", amount, 0


def _require(intent: objects.Intent, statuses: Sequence[str] | set[str], *, to: str) -> None:
    if intent.status not in statuses:
        raise requests.StripeError(
            f"This PaymentIntent could not {to} because it has a status of {intent.status}.",
            code="payment_intent_unexpected_state",
            payment_intent=intent.to_json(),
        )
